"""A policy in a file: the strategy for each tensor.

On the command line: quantcal compute stats.qcal -o table.json --strategy policy.toml
"""

from pathlib import Path

import numpy as np

import quantcal as qc

rng = np.random.default_rng(0)
cal = qc.Calibrator()
for layer in range(2):
    prefix = f"model.layers.{layer}"
    scores = rng.standard_normal((50, 100), dtype=np.float32)
    weights = np.exp(scores)
    cal.observe(f"{prefix}.attention.probs", weights / weights.sum(1, keepdims=True))
    cal.observe(f"{prefix}.mlp.up_proj", scores)
    cal.observe(f"{prefix}.mlp.down_proj", scores**3)

policy = qc.Policy.load(Path(__file__).with_name("policy.toml"))
table = cal.compute(policy, format="uint8")
for name, params in table.items():
    rule = table.report[name].rule
    print(f"{name:<32} {params.strategy:<22} high {params.high:7.3f}  by {rule}")
print(f"unused rules: {list(table.unused_rules)}")
