"""The error of a quantized model's outputs, in exact arithmetic and in this machine's."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from quantcal._core import CalibrationError
from quantcal._io.files import is_text
from quantcal.onnx._graph.inputs import Feed
from quantcal.onnx._model.model import LoadedModel, load_model, model_inputs
from quantcal.onnx._runtime.child_process import load_in_child, shared_child
from quantcal.onnx._runtime.memory_groups import run
from quantcal.onnx._runtime.progress import track
from quantcal.onnx._runtime.sample_callables import load_callable
from quantcal.onnx._runtime.samples import as_samples
from quantcal.onnx._runtime.session import FOLDER_KEY
from quantcal.onnx.output_error import Comparison, OutputError

if TYPE_CHECKING:
    import onnxruntime

    from quantcal.onnx._model.model import Model

Metric = Callable[[int, Feed, dict[str, Any]], Any]
"""Called with a sample's number, its inputs and one model's outputs."""

ARITHMETICS = ("exact", "native")
"""As the Q/DQ nodes are written, or as onnxruntime's kernels on this machine compute."""

_DECIBEL = 1.0  # a larger loss by the kernels gives a warning
_PROVIDERS = ["CPUExecutionProvider"]
_SHARE = 0.005


@dataclass(frozen=True, slots=True)
class MetricMean:
    """The mean of a caller's metric.

    Attributes
    ----------
    mean
        Over all samples.
    margin
        Half of its 95 % interval, 1.96 standard errors; NaN for a single sample.
    """

    mean: float
    margin: float


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What :func:`evaluate` found.

    Attributes
    ----------
    samples
        The number of samples that ran.
    outputs
        Output → arithmetic (``"exact"``, ``"native"``) → its error against the float model.
    metrics
        Metric → model (``"float"``, ``"exact"``, ``"native"``) → its mean; empty without one.
    warnings
        Where native arithmetic loses accuracy that exact arithmetic keeps.
    """

    samples: int
    outputs: dict[str, dict[str, OutputError]]
    metrics: dict[str, dict[str, MetricMean]]
    warnings: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return all figures for JSON: None stands for NaN, and for infinities strings."""
        content: dict[str, Any] = _plain(asdict(self))
        return content


@shared_child()
def evaluate(
    float_model: Model,
    quantized: Model,
    samples: object,
    *,
    metric: Metric | str | None = None,
    arithmetics: Sequence[str] = ARITHMETICS,
    progress: bool = True,
) -> Evaluation:
    """Run samples through a float model and its quantized copy, and compare all outputs.

    Use other samples than those of the calibration. One sample is alive at a time.

    Parameters
    ----------
    float_model, quantized
        Paths, bytes or ``onnx.ModelProto``. Both must have the same outputs.
    samples
        As for :func:`quantcal.onnx.observe`.
    metric
        Your measure: a callable, or its name as ``"python:module:callable"``. It is called
        with the sample's number, its inputs, and the outputs of one model, the last two as
        ``{name: array}``. It returns a number such as 1 for right and 0 for wrong, or
        several as ``{name: number}``. Means are reported for each model.
    arithmetics
        ``"exact"`` computes Q/DQ nodes as written (session option
        ``session.disable_quant_qdq``), ``"native"`` with this machine's kernels. Default: both.
        One name may stand without a list.
    progress
        Show a bar on stderr when it is a terminal and rich is installed.

    Returns
    -------
    Evaluation

    Raises
    ------
    CalibrationError
        When a model cannot be loaded, the outputs differ in name or shape, a sample does not
        fit, there are no samples, or the metric fails.

    Examples
    --------
    >>> result = qc.onnx.quantize("model.onnx", "int8.onnx", "calibration/")
    >>> found = qc.onnx.evaluate("model.onnx", "int8.onnx", "calibration/")
    >>> found.outputs["y"]["exact"].sqnr_db > 20
    True
    """
    if isinstance(arithmetics, str):
        arithmetics = [arithmetics]
    unknown = [name for name in arithmetics if name not in ARITHMETICS]
    if unknown or not arithmetics:
        raise CalibrationError(
            f"arithmetics is {list(arithmetics)}. Give one or both of "
            f"{', '.join(ARITHMETICS)}."
        )
    if isinstance(metric, str):
        metric = load_callable(metric)
    loaded = load_model(float_model, weights=False)
    feeds = as_samples(samples, model_inputs(loaded.proto))
    reference = _open(loaded, exact=False)
    loaded = load_model(quantized, weights=False)
    others = {name: _open(loaded, exact=name == "exact") for name in arithmetics}
    del loaded  # sessions have their own copies
    names = [value.name for value in reference.get_outputs()]
    _check_outputs(names, next(iter(others.values())))
    compared = {name: {a: Comparison() for a in others} for name in names}
    measured: dict[str, dict[str, list[float]]] = {}
    count = 0
    for feed in track(feeds, total=feeds.count, show=progress, label="Evaluating"):
        where = f"sample {count}"
        wanted = run(reference, names, feed, where)
        _measure(metric, count, feed, names, wanted, "float", measured)
        for arithmetic, session in others.items():
            found = run(session, names, feed, where)
            for name, want, got in zip(names, wanted, found, strict=True):
                _compare(compared[name][arithmetic], want, got, f"{where}: {name!r}")
            _measure(metric, count, feed, names, found, arithmetic, measured)
        count += 1
    if not count:
        raise CalibrationError(
            "There are no samples to compare the models on. Give one or more."
        )
    outputs = {n: {a: c.result() for a, c in by.items()} for n, by in compared.items()}
    metrics = {n: {m: _mean(v) for m, v in by.items()} for n, by in measured.items()}
    return Evaluation(count, outputs, metrics, _warnings(outputs))


def _open(loaded: LoadedModel, *, exact: bool) -> onnxruntime.InferenceSession:
    """Open a session with all optimizations, as an application would."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.log_severity_level = 4
    config = {"session.disable_quant_qdq": "1"} if exact else {}
    source: str | bytes
    if loaded.file is not None and is_text(loaded.file):
        source = str(loaded.file)
    else:  # onnxruntime takes no path that is not UTF-8
        source = loaded.proto.SerializeToString()
        if loaded.folder is not None:
            config[FOLDER_KEY] = str(loaded.folder)
    load_in_child(source, loaded.label, _PROVIDERS, optimize=True, config=config)
    for key, value in config.items():
        options.add_session_config_entry(key, value)
    try:
        return ort.InferenceSession(source, options, providers=_PROVIDERS)
    except Exception as error:  # onnxruntime's exceptions have no common base
        raise CalibrationError(
            f"onnxruntime cannot load {loaded.label}: {error}"
        ) from error


def _check_outputs(names: list[str], session: onnxruntime.InferenceSession) -> None:
    found = [value.name for value in session.get_outputs()]
    if set(found) != set(names):
        raise CalibrationError(
            f"The float model's outputs are {sorted(names)}, the quantized one's "
            f"{sorted(found)}. Give a model and its quantized copy."
        )


def _compare(comparison: Comparison, want: Any, got: Any, where: str) -> None:
    if not isinstance(want, np.ndarray) or not isinstance(got, np.ndarray):
        return  # sequences and maps
    if want.shape != got.shape:
        raise CalibrationError(
            f"{where} has shape {list(want.shape)} in the float model, but "
            f"{list(got.shape)} in the quantized one."
        )
    comparison.add(want, got)


def _measure(
    metric: Metric | None,
    number: int,
    feed: Feed,
    names: list[str],
    values: list[Any],
    model: str,
    measured: dict[str, dict[str, list[float]]],
) -> None:
    if metric is None:
        return
    try:
        made = metric(number, feed, dict(zip(names, values, strict=True)))
        found = made if isinstance(made, Mapping) else {"metric": made}
        numbers = {str(name): float(value) for name, value in found.items()}
    except Exception as error:  # the caller's code
        raise CalibrationError(
            f"sample {number}: the metric failed on the {model} model's outputs: "
            f"{type(error).__name__}: {error}"
        ) from error
    for name, value in numbers.items():
        measured.setdefault(name, {}).setdefault(model, []).append(value)


def _mean(values: list[float]) -> MetricMean:
    array = np.asarray(values)
    if len(array) < 2:
        return MetricMean(float(array.mean()), math.nan)
    spread = float(array.std(ddof=1)) / math.sqrt(len(array))
    return MetricMean(float(array.mean()), 1.96 * spread)


def _warnings(outputs: Mapping[str, Mapping[str, OutputError]]) -> tuple[str, ...]:
    """Name the outputs that lose accuracy by this machine's kernels, and the remedy."""
    found = []
    for name, by in outputs.items():
        if not set(ARITHMETICS) <= by.keys():
            continue
        exact, native = by["exact"], by["native"]
        losses = []
        if (exact.sqnr_db or 0) - (native.sqnr_db or 0) > _DECIBEL:
            losses.append(f"SQNR {exact.sqnr_db:.1f} → {native.sqnr_db:.1f} dB")
        if (exact.top1 or 0) - (native.top1 or 0) > _SHARE:
            losses.append(f"top-1 {exact.top1:.1%} → {native.top1:.1%}")
        if losses:
            found.append(
                f"this machine's kernels lose accuracy that the ranges keep, at {name!r}: "
                f"{', '.join(losses)}. Without VNNI 8-bit sums overflow. Quantize "
                'with reduce_range="nodes"'
            )
    return tuple(found)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else str(value)
    return value
