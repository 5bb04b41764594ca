"""Observe once, then compare the ranges of several strategies from the same file.

The model is not run again. Each strategy takes milliseconds, and the report of its range, the
clipped share and the noise, comes from the same histograms.
"""

import tempfile
from pathlib import Path

import numpy as np

import quantcal as qc

rng = np.random.default_rng(0)
bell = rng.standard_normal(200_000, dtype=np.float32)
outliers = bell.copy()
outliers[:20] *= 30  # one value in ten thousand

with tempfile.TemporaryDirectory() as folder:
    path = Path(folder) / "stats.qcal"
    cal = qc.Calibrator()
    cal.observe_many({"bell": bell, "relu": np.maximum(bell, 0), "outliers": outliers})
    cal.save(path)  # the slow part of a real calibration ends here
    stats = qc.load(path)

comparison = qc.compare(stats, "int8")  # every strategy on every tensor
for tensor in stats:
    print(f"{tensor}: maximum {stats[tensor].max:.2f}")
    for row in comparison[tensor].sorted():
        print(
            f"  {row.strategy:<28} up to {row.params.high:6.2f}, clips "
            f"{row.clipped:8.4%}, SQNR {row.sqnr_db:5.1f} dB"
        )
    print(f"  smallest noise: {comparison[tensor].best().strategy}")
reasons = {row.strategy: row.reason for row in comparison["relu"]}
print(f"why: {reasons['aciq']}")

safest = max(comparison.summary(), key=lambda strategy: strategy.min_sqnr_db)
print(f"safest: {safest.strategy}, minimum {safest.min_sqnr_db:.1f} dB on every tensor")
