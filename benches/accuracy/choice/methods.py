"""The methods that are compared: each takes a `Job` and writes a quantized model.

To compare another one, add a function to `METHODS`. One that runs the samples itself calls
`qc.onnx.quantize(job.model, job.output, job.samples, …)`; its seconds are then the whole
time. `job.calibrator()` observes once for all that share it, and its time is added to each.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import quantcal as qc
from benches.accuracy.choice import rivals
from benches.accuracy.choice.memory import peak_of
from benches.accuracy.choice.observation import Observation
from benches.accuracy.collection.case import Feed


@dataclass
class Job:
    """What a method gets.

    Attributes
    ----------
    model
        The float model.
    samples
        The calibration samples.
    output
        Where the quantized model belongs.
    observation
        What one run of the samples showed; shared by the methods of a case.
    """

    model: Path
    samples: list[Feed]
    output: Path
    observation: Observation = field(default_factory=Observation)

    def calibrator(self) -> qc.Calibrator:
        """Return the histograms of the samples, observed at the first call."""
        return self.observation.calibrator(self.model, self.samples)


Method = Callable[[Job], None]


@dataclass(frozen=True)
class Cost:
    """The seconds and the peak memory, in MiB above the start, of a method."""

    seconds: float
    mebibytes: float | None


def strategy(chosen: str | qc.Strategy) -> Method:
    """Return the method of a strategy, with all other options by default."""

    def make(job: Job) -> None:
        qc.onnx.quantize(
            job.model,
            job.output,
            calibrator=job.calibrator(),
            strategy=chosen,
            progress=False,
        )

    return make


def _auto(**options: Any) -> Method:
    """Return the method that chooses by trials."""

    def make(job: Job) -> None:
        chosen = qc.Auto(**options)
        qc.onnx.quantize(
            job.model, job.output, job.samples, strategy=chosen, progress=False
        )

    return make


def _advised(**limits: Any) -> Method:
    """Return the method that also leaves the advised nodes in float."""

    def make(job: Job) -> None:
        advice = qc.onnx.advise(job.model, job.samples, progress=False, **limits)
        qc.onnx.quantize(
            job.model,
            job.output,
            job.samples,
            exclude=advice.exclude,
            progress=False,
        )

    return make


def _tuned(max_drop: str) -> Method:
    """Return the method that keeps a promise, with as few nodes in float as it takes."""

    def make(job: Job) -> None:
        qc.onnx.tune(
            job.model, job.output, job.samples, max_drop=max_drop, progress=False
        )

    return make


def _corrected(name: str) -> Method:
    """Return the method of a correction, with the strategy of least squared error."""

    def make(job: Job) -> None:
        qc.onnx.quantize(
            job.model,
            job.output,
            job.samples,
            strategy="mse",
            corrections=[name],
            progress=False,
        )

    return make


def _ort(method: str) -> Method:
    return lambda job: rivals.onnxruntime(job.model, job.output, job.samples, method)


def _onnxsim(method: str) -> Method:
    return lambda job: rivals.onnxsim(job.model, job.output, job.samples, method)


METHODS: Mapping[str, Method] = MappingProxyType(
    {
        "auto": _auto(),
        "auto, nothing in float": _auto(float_share=0),
        "auto, strategies alone": _auto(time=0),
        "advise, 1 node": _advised(keep_float=1),
        "advise, 2 nodes": _advised(keep_float=2),
        "advise, 4 nodes": _advised(keep_float=4),
        "advise, 5 % of nodes": _advised(),
        "tune to a drop of 1 %": _tuned("1%"),
        "mse and equalization": _corrected("equalize"),
        "mse and SmoothQuant": _corrected("smooth"),
        "mse and bias correction": _corrected("bias"),
        "minmax": strategy("minmax"),
        "percentile 99.999": strategy("percentile_99.999"),
        "percentile 99.99": strategy("percentile_99.99"),
        "kl": strategy("kl"),
        "mse": strategy("mse"),
        "mse p=1": strategy(qc.MSE(p=1)),
        "mse p=2.4": strategy(qc.MSE(p=2.4)),
        "mse p=3": strategy(qc.MSE(p=3)),
        "mse p=4": strategy(qc.MSE(p=4)),
        "hybrid": strategy("hybrid"),
        "entropy": strategy("entropy"),
        "aciq": strategy("aciq"),
        "ONNX Runtime MinMax": _ort("MinMax"),
        "ONNX Runtime Percentile 99.999": _ort("Percentile 99.999"),
        "ONNX Runtime Entropy, 2048 bins": _ort("Entropy, 2048 bins"),
        "onnxsim minmax": _onnxsim("minmax"),
        "onnxsim mse": _onnxsim("mse"),
        "onnxsim auto": _onnxsim("auto"),
        "onnxsim pick_calibration, 4 folds": _onnxsim("pick"),
    }
)
"""All methods by the name of their row, quantcal's own first."""

FIXED = tuple(
    name
    for name in METHODS
    if not name.startswith(("auto", "advise", "tune", "mse and", "ONNX", "onnxsim"))
)
"""One strategy for all tensors."""

SMOKE = ("minmax", "mse", "ONNX Runtime MinMax", "onnxsim auto")
"""The methods of a smoke run."""


def run(method: Method, job: Job) -> Cost:
    """Write the model and return what that cost, with the shared observation."""
    already = job.observation.seconds
    start = time.perf_counter()
    peak = peak_of(lambda: method(job))
    seconds = time.perf_counter() - start
    if job.observation.asked():
        seconds += already  # another method had observed
        peak = _largest(peak, job.observation.mebibytes)
    return Cost(seconds, _largest(peak, rivals.take_peak()))


def _largest(a: float | None, b: float | None) -> float | None:
    return b if a is None else a if b is None else max(a, b)
