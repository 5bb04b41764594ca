"""Results of every kind for reports, made without running anything but one small model."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

import onnx_models as models
import quantcal as qc
from quantcal.advice.diagnosis import Diagnosis
from quantcal.advice.result import Advice, GuiltyTensor, Remedy
from quantcal.onnx import Evaluation, LayerError, MetricMean, OutputError
from quantcal.onnx._choose.choice import Choice, TensorLoss
from quantcal.onnx._choose.pick import StrategyLoss

HOSTILE = '<img src=x onerror="window.hacked=1">'
ESCAPE = "</script><script>window.hacked=1</script>"
"""Names that would run a program if a page took them for HTML."""


def quantized(folder: Path) -> dict[str, Any]:
    """Quantize a small model, with all that its run knows."""
    model = folder / "net.onnx"
    model.write_bytes(models.conv_net().SerializeToString())
    feeds = [{"x": models.random(1, 3, 9, 12, seed=k)} for k in range(4)]
    calibrator = qc.Calibrator()
    result = qc.onnx.quantize(
        model,
        folder / "net.int8.onnx",
        feeds,
        calibrator=calibrator,
        strategy="mse",
        check_stability=True,
        progress=False,
    )
    result = replace(result, choice=choice(next(iter(result.table))))
    return {"model": model, "calibrator": calibrator, "result": result}


def choice(tensor: str) -> Choice:
    """A choice of auto among three strategies."""
    losses = (
        StrategyLoss("mse", 0.01, 0.008, 0.013, 16),
        StrategyLoss("kl", 0.02, 0.015, 0.03, 16),
        StrategyLoss("minmax", 0.5, 0.2, 0.9, 8),
    )
    policy = qc.Policy.of("mse")
    found = Choice(policy, "mse", losses, {"y": "squared error"}, 16, 2, loss=0.01)
    return replace(found, worst=(TensorLoss(tensor, 0.004),))


def evaluation(tensors: list[str], node: str = "Conv_0") -> Evaluation:
    """An evaluation with a layer for each tensor; one has a loss of 0, one none at all."""
    layers = []
    for number, name in enumerate(tensors):
        loss = 0.0 if number == 1 else 10.0 ** (number - 6)
        error = OutputError(sqnr_db=30.0 - number, loss=loss)
        own = None if number == 2 else OutputError(sqnr_db=40.0, loss=loss / 3)
        both = {"exact": error, "native": error}
        layers.append(LayerError(f"{node}{number}", "Conv", name, (), both, own))
    found = OutputError(31.5, 0.001, 0.999, 0.25, None, 0.99)
    exact = OutputError(float("inf"), 0.0, 1.0, 0.0, None, 1.0)
    return Evaluation(
        samples=8,
        outputs={"y": {"exact": found, "native": found}, "z": {"exact": exact}},
        metrics={"accuracy": {"float": MetricMean(0.9, 0.05)}},
        layers=tuple(layers),
        verdicts=("good: 'y' SQNR 31.5 dB", "largest loss of a layer alone: 0.1"),
        warnings=(),
    )


def advice(tensor: str, text: str = "clipping makes 90 % of the error") -> Advice:
    """Advice on one tensor."""
    remedy = Remedy("range minmax", 0.01, -0.8, 8, "--strategy 'x=minmax'")
    guilty = GuiltyTensor(
        tensor,
        ("Conv_0",),
        0.04,
        0.5,
        (Diagnosis("clipping", 0.9, text),),
        (remedy, Remedy("16 bits", 0.1, 0.25, 8)),
    )
    return Advice(
        0.05, 0.01, ("Conv_0",), (guilty,), 8, {"nodes": 0.1}, "squared error"
    )


def tuning(tensors: list[str]) -> dict[str, Any]:
    """What `quantcal tune --json` prints."""
    points = [(0, 0.03, 1.0), (1, 0.004, 1.2), (2, 0.001, 2.0), (0, 0.05, 1.1)]
    return {
        "output": "net.int8.onnx",
        "kept": True,
        "max_drop": 0.005,
        "drop": 0.004,
        "drop_deciding": 0.004,
        "samples": 4,
        "samples_deciding": 16,
        "measure": "squared error",
        "exclude": ["Conv_0"],
        "float_ms": 3.0,
        "integer_ms": 1.2,
        "evaluation": evaluation(tensors).to_dict(),
        "points": [
            {"in_float": n, "drop": drop, "latency_ms": ms} for n, drop, ms in points
        ],
    }


def calibrator(names: list[str], size: int = 4000) -> qc.Calibrator:
    """Histograms of many shapes: bells, one-sided, long tails, constants, few values."""
    rng = np.random.default_rng(7)
    made = qc.Calibrator()
    for number, name in enumerate(names):
        x = rng.standard_normal(size)
        kinds = (x, np.abs(x), x * rng.gamma(1, 2, size), 1 / (1 + np.exp(-x)), -(x**2))
        made.observe(name, (kinds[number % 5] * 3.0 ** (number % 7)).astype("f4"))
    return made


def odd_calibrator() -> qc.Calibrator:
    """Tensors that break careless pictures."""
    made = qc.Calibrator()
    made.observe("zeros", np.zeros(9, "f4"))
    made.observe("nothing", np.full(9, np.nan, "f4"))
    made.observe("empty", np.zeros(0, "f4"))
    made.observe("constant", np.full(9, -2.5, "f4"))
    made.observe("tiny", np.full(9, 1e-45, "f4"))
    made.observe("huge", np.float32([3e38, -3e38, 1, np.inf]))
    made.observe("half", np.float16([1, 2, 3]))
    made.observe("by channel", np.arange(12, dtype="f4").reshape(3, 4), axis=1)
    made.observe("a dead channel", np.float32([[0, 1], [np.nan, 2]]).T, axis=1)
    return made
