"""The error of a quantized model's outputs, in exact arithmetic and in this machine's."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from quantcal._core import CalibrationError
from quantcal._notebook import Shown
from quantcal.onnx._graph.graph import all_nodes
from quantcal.onnx._graph.inputs import Feed
from quantcal.onnx._model.model import LoadedModel, load_model, model_inputs
from quantcal.onnx._options.cpu import weight_bits
from quantcal.onnx._options.values import MAX_MEMORY
from quantcal.onnx._runtime.child_process import shared_child
from quantcal.onnx._runtime.memory_groups import run
from quantcal.onnx._runtime.plain_session import open_plain
from quantcal.onnx._runtime.progress import track
from quantcal.onnx._runtime.sample_callables import load_callable
from quantcal.onnx._runtime.samples import as_samples
from quantcal.onnx.layer_error import LayerError, LayerRun
from quantcal.onnx.output_error import Comparison, OutputError
from quantcal.onnx.verdict import MetricMean, failures, judge

if TYPE_CHECKING:
    import onnxruntime

    from quantcal.onnx._model.model import Model

Metric = Callable[[int, Feed, dict[str, Any]], Any]
"""Called with a sample's number, its inputs and one model's outputs."""

ARITHMETICS = ("exact", "native")
"""As the Q/DQ nodes are written, or as onnxruntime's kernels on this machine compute."""

_DECIBEL = 1.0  # a larger loss by the kernels gives a warning
_QDQ = ("QuantizeLinear", "DequantizeLinear")
_SHARE = 0.005


@dataclass(frozen=True, slots=True)
class Evaluation(Shown):
    """What :func:`evaluate` found.

    Attributes
    ----------
    samples
        The number of samples that ran.
    outputs
        Output → arithmetic (``"exact"``, ``"native"``) → its error against the float model.
    metrics
        Metric → model (``"float"``, ``"exact"``, ``"native"``) → its mean; empty without one.
    layers
        The error at every quantized node of the main graph, in graph order; empty unless
        asked for.
    verdicts
        Sentences about the outputs: good, check or wrong. An output is good from 20 dB SQNR
        and 99 % equal answers on, and wrong below 10 dB or 90 %. With layers, also which
        layer loses most.
    warnings
        Where native arithmetic loses accuracy that exact arithmetic keeps, and arguments
        that look swapped.
    """

    samples: int
    outputs: dict[str, dict[str, OutputError]]
    metrics: dict[str, dict[str, MetricMean]]
    layers: tuple[LayerError, ...]
    verdicts: tuple[str, ...]
    warnings: tuple[str, ...]

    def check(
        self,
        *,
        min_sqnr: float | None = None,
        max_drop: float | str | None = None,
    ) -> tuple[str, ...]:
        """Return the limits that do not hold, a line each; nothing if all do.

        Every arithmetic that ran counts.

        Parameters
        ----------
        min_sqnr
            The SQNR that every output of floats has at least, in dB.
        max_drop
            The share of accuracy that may be lost, 0.01 or ``"1%"``, as for
            :func:`quantcal.onnx.tune`. With a metric, each mean may be lower than the float
            model's by this share of it; a metric is higher where it is better. Without one,
            this share of the top-1 answers may differ. That bounds the loss, because each
            changed answer loses at most one right one.

        Raises
        ------
        CalibrationError
            When there is nothing that the limit applies to, or it is not such a number.

        Examples
        --------
        >>> result = qc.onnx.quantize("model.onnx", "int8.onnx", "calibration/")
        >>> found = qc.onnx.evaluate("model.onnx", "int8.onnx", "calibration/")
        >>> found.check(min_sqnr=20)
        ()
        """
        from quantcal.onnx._choose.float_budget import parse_drop

        percent = None if max_drop is None else 100 * parse_drop(max_drop)
        return failures(self.outputs, self.metrics, min_sqnr, percent)

    def ranked_layers(self, arithmetic: str = "exact") -> list[LayerError]:
        """Return the layers by their accumulated loss, the largest first."""
        return sorted(
            (layer for layer in self.layers if arithmetic in layer.errors),
            key=lambda layer: -(layer.errors[arithmetic].loss or 0),
        )

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
    layers: bool = False,
    max_memory: int = MAX_MEMORY,
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
        Your measure: a callable, or its name as ``"module:callable"``, with or without
        ``"python:"`` before it. It is called with the sample's number, its inputs, and the
        outputs of one model, the last two as ``{name: array}``. It returns a number such as
        1 for right and 0 for wrong, or several as ``{name: number}``. Means are reported for
        each model.
    arithmetics
        ``"exact"`` computes Q/DQ nodes as written (session option
        ``session.disable_quant_qdq``), ``"native"`` with this machine's kernels. Default: both.
        One name may stand without a list.
    layers
        Compare the result of every quantized node too, and run each node alone on the float
        model's tensors. Each sample then runs through up to four graphs more, most of them
        without optimizations.
    max_memory
        With ``layers``: bytes that the compared tensors of one sample may take together,
        1 GiB by default. When they take more, the models run several times on each sample.
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
        metric = _load_metric(metric)
    loaded = load_model(float_model, weights=False)
    feeds = as_samples(samples, model_inputs(loaded.proto))
    reference = open_plain(loaded, exact=False)
    other = load_model(quantized, weights=False)
    others = {name: open_plain(other, exact=name == "exact") for name in arithmetics}
    warnings = [_swapped(loaded, other)]
    del loaded, other  # sessions have their own copies
    names = [value.name for value in reference.get_outputs()]
    _check_outputs(names, next(iter(others.values())))
    with ExitStack() as stack:
        run_layers = None
        if layers:
            run_layers = LayerRun(float_model, quantized, arithmetics, max_memory)
            stack.enter_context(run_layers)
        work = _Run(reference, others, names, metric, run_layers)
        for feed in track(feeds, total=feeds.count, show=progress, label="Evaluating"):
            work.add(feed)
        return work.result(warnings)


class _Run:
    """Runs samples through all sessions, and compares what they return."""

    def __init__(
        self,
        reference: onnxruntime.InferenceSession,
        others: dict[str, onnxruntime.InferenceSession],
        names: list[str],
        metric: Metric | None,
        layers: LayerRun | None,
    ) -> None:
        self._reference = reference
        self._others = others
        self._names = names
        self._metric = metric
        self._layers = layers
        self._compared = {n: {a: Comparison(n) for a in others} for n in names}
        self._measured: dict[str, dict[str, list[float]]] = {}
        self._count = 0

    def add(self, feed: Feed) -> None:
        """Run one sample."""
        count, names = self._count, self._names
        where = f"sample {count}"
        wanted = run(self._reference, names, feed, where)
        _measure(self._metric, count, feed, names, wanted, "float", self._measured)
        native = None
        for arithmetic, session in self._others.items():
            found = run(session, names, feed, where)
            for name, want, got in zip(names, wanted, found, strict=True):
                _compare(
                    self._compared[name][arithmetic], want, got, f"{where}: {name!r}"
                )
            _measure(
                self._metric, count, feed, names, found, arithmetic, self._measured
            )
            if arithmetic == "native":
                native = dict(zip(names, found, strict=True))
        if self._layers is not None:
            self._layers.add(feed, where, native)
        self._count += 1

    def result(self, warnings: Sequence[str]) -> Evaluation:
        """Return the figures of all samples."""
        if not self._count:
            raise CalibrationError(
                "There are no samples to compare the models on. Give one or more."
            )
        outputs = {
            n: {a: c.result() for a, c in by.items()}
            for n, by in self._compared.items()
        }
        metrics = {
            n: {m: _mean(v) for m, v in by.items()} for n, by in self._measured.items()
        }
        asked = self._layers is not None
        layers = self._layers.result() if self._layers is not None else ()
        more = self._layers.notes() if self._layers is not None else ()
        all_warnings = [*warnings, *_warnings(outputs, asked=asked), *more]
        return Evaluation(
            samples=self._count,
            outputs=outputs,
            metrics=metrics,
            layers=layers,
            verdicts=judge(outputs, layers, asked=asked),
            warnings=tuple(filter(None, all_warnings)),
        )


def _load_metric(name: str) -> Metric:
    """Import a metric; ``python:`` before its module may be left out."""
    return load_callable(name if name.count(":") > 1 else f"python:{name}")


def _swapped(first: LoadedModel, second: LoadedModel) -> str:
    """Return a warning if only the first model has Q/DQ nodes, else an empty string."""
    numbers = [
        sum(node.op_type in _QDQ for node in all_nodes(model.proto.graph))
        for model in (first, second)
    ]
    if not numbers[0] or numbers[1]:
        return ""
    return (
        f"the models look swapped: {first.label} has {numbers[0]} QuantizeLinear and "
        f"DequantizeLinear nodes, {second.label} has none. Give the float model first"
    )


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


def _warnings(
    outputs: Mapping[str, Mapping[str, OutputError]], *, asked: bool
) -> tuple[str, ...]:
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
                f"{', '.join(losses)}. {_remedy(asked)}"
            )
    return tuple(found)


def _remedy(asked: bool) -> str:
    """Return what to do about a loss by this machine's kernels.

    ``asked`` says whether layers are compared already.
    """
    bits = weight_bits()
    if bits.reduce:
        return 'Without VNNI 8-bit sums overflow. Quantize with reduce_range="nodes"'
    return (
        f"Sums do not overflow here ({bits.reason}). A kernel rounds its activations, as "
        "MatMulNBits does, or small differences are amplified"
        + ("" if asked else ". See where with layers=True (--layers)")
    )


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else str(value)
    return value
