"""Plain words about an evaluation: what is wrong, where it starts, and which limits fail."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from quantcal._core import CalibrationError
from quantcal._text import decibels, share
from quantcal.onnx.layer_error import LayerError
from quantcal.onnx.loss_verdict import LARGE_LOSS, SMALL_LOSS
from quantcal.onnx.output_error import OutputError

GOOD_DB = 20.0
"""From this SQNR on, the error's root mean square is at most 10 % of the output's."""

WRONG_DB = 10.0
"""Below this SQNR it exceeds 32 %. Well-ranged 8-bit tensors have 30 to 40 dB each."""

GOOD_SHARE = 0.99
"""Accuracy falls by at most the share of changed answers. MLPerf Inference (Reddi et al.,
2020) demands 99 % of the float model's accuracy of a quantized one."""

WRONG_SHARE = 0.9
"""Below this agreement, more than every tenth answer is another one."""

JUMP = 10.0
"""A layer whose loss is this many times that of all layers it reads is named."""

_KERNEL_DB = 3.0  # twice the error of exact arithmetic
_FINE_DB = 40.0  # differences of kernels do not matter above
_ADDED = 0.5  # the share of a layer's error that makes it the layer's own

_ROUNDING = 1e-9  # 1 - 0.99 is not 0.01

Outputs = Mapping[str, Mapping[str, OutputError]]


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


def judge(
    outputs: Outputs, layers: Sequence[LayerError], *, asked: bool
) -> tuple[str, ...]:
    """Return a sentence for each output, and for the layers that lose most.

    Parameters
    ----------
    outputs, layers
        The errors.
    asked
        Whether layers were asked for. If not, a wrong output recommends it.
    """
    hint = "" if asked else " Find the layer with layers=True (--layers)."
    found = [_judge_output(name, by, hint) for name, by in outputs.items()]
    found += [_error_source(layers), _largest_own(layers), _first_native(layers)]
    return tuple(text for text in found if text)


def failures(
    outputs: Outputs,
    metrics: Mapping[str, Mapping[str, MetricMean]],
    min_sqnr: float | None,
    max_drop: float | None,
) -> tuple[str, ...]:
    """Return a line for each limit that does not hold; the drop is in percent.

    Raises
    ------
    CalibrationError
        When a limit is not a number that can be checked, or there is nothing to check.
    """
    found: list[str] = []
    if min_sqnr is not None:
        if not math.isfinite(min_sqnr):
            raise CalibrationError(
                f"min_sqnr is {min_sqnr}. Give decibels, such as 20."
            )
        found += _weak_outputs(outputs, min_sqnr)
    if max_drop is not None:
        found += _drops(metrics, max_drop) if metrics else _changes(outputs, max_drop)
    return tuple(found)


def _judge_output(name: str, by: Mapping[str, OutputError], hint: str) -> str | None:
    known = [
        (grade, error.sqnr_db or 0, error.top1 or 0, arithmetic)
        for arithmetic, error in by.items()
        if (grade := _grade(error)) is not None
    ]
    if not known:
        return None
    grade, *_, arithmetic = min(known)
    error = by[arithmetic]
    figures = []
    if error.sqnr_db is not None:
        figures.append(f"SQNR {decibels(error.sqnr_db)}")
    if error.top1 is not None:
        figures.append(f"{share(error.top1)} equal answers")
    where = f"{name!r}, {arithmetic}: {' and '.join(figures)}"
    if grade == 2:
        return f"good: {where}."
    limits = _limits(error, grade)
    if grade == 1:
        return f"check: {where}; good is {limits}. Measure the accuracy with a metric."
    return f"wrong: {where}, below {limits}.{hint}"


def _grade(error: OutputError) -> int | None:
    """Return 2 for good, 1 for doubtful and 0 for wrong, by the worse figure."""
    grades = [
        (figure >= wrong) + (figure >= good)
        for figure, wrong, good in _figures(error)
        if figure is not None
    ]
    return min(grades, default=None)


def _figures(error: OutputError) -> tuple[tuple[float | None, float, float], ...]:
    """Return the figures that count, with their limits.

    The SQNR of probabilities says the same as their largest elements, but exaggerates: one
    changed answer of ten leaves 7 dB.
    """
    classes = error.kl is not None and error.top1 is not None
    sqnr = None if classes else error.sqnr_db
    return (
        (sqnr, WRONG_DB, GOOD_DB),
        (error.top1, WRONG_SHARE, GOOD_SHARE),
    )


def _limits(error: OutputError, grade: int) -> str:
    """Return the limits that the figures of an output miss."""
    missed = []
    for (figure, wrong, good), write in zip(
        _figures(error), (decibels, share), strict=True
    ):
        limit = good if grade else wrong
        if figure is not None and figure < limit:
            missed.append(write(limit))
    return " and ".join(missed) + (" or more" if grade else "")


def _error_source(layers: Sequence[LayerError]) -> str | None:
    """Name the first layer with a sudden loss; else where the error has grown large."""
    losses = {layer.node: _loss(layer) for layer in layers}
    for layer in layers:
        now = losses[layer.node]
        before = max((losses.get(name, 0.0) for name in layer.inputs), default=0.0)
        if now <= SMALL_LOSS or now < JUMP * before:
            continue
        return (
            f"first guilty layer: {_named(layer)}. Its loss is {now:.3g}; that of the "
            f"layers before it is {before:.3g}. {_own_part(layer, now)}"
        )
    for layer in layers:
        if losses[layer.node] > LARGE_LOSS:
            return (
                f"no layer multiplies the loss by {JUMP:.0f}: the error accumulates. "
                f"{_named(layer)} is the first with a loss above {LARGE_LOSS:g}."
            )
    return None


def _loss(layer: LayerError) -> float:
    """Return the accumulated loss in exact arithmetic, or in the only one."""
    error = next(iter(layer.errors.values()), None)
    return 0.0 if error is None or error.loss is None else error.loss


def _own_part(layer: LayerError, now: float) -> str:
    own = layer.own.loss if layer.own else None
    if own is None:
        return ""
    if own >= _ADDED * now:
        return (
            f"It is its own rounding ({own:.3g} alone): change its ranges or formats, or "
            "exclude it."
        )
    return f"Alone it loses {own:.3g}: it amplifies the error of earlier layers."


def _largest_own(layers: Sequence[LayerError]) -> str | None:
    figures = [
        (layer.own.loss, layer)
        for layer in layers
        if layer.own is not None and layer.own.loss
    ]
    if not figures:
        return None
    own, layer = max(figures, key=lambda pair: pair[0])
    return f"largest loss of a layer alone: {own:.3g} at {_named(layer)}."


def _first_native(layers: Sequence[LayerError]) -> str | None:
    for layer in layers:
        exact, native = layer.sqnr_db(), layer.sqnr_db("native")
        if exact is None or native is None or native >= _FINE_DB:
            continue
        if exact - native > _KERNEL_DB:
            return (
                f"this machine's kernels first lose accuracy at {_named(layer)}: "
                f"{decibels(exact)} exact, {decibels(native)} native."
            )
    return None


def _named(layer: LayerError) -> str:
    return f"{layer.operator} {layer.node!r}"


def _weak_outputs(outputs: Outputs, limit: float) -> list[str]:
    found = []
    checked = 0
    for name, by in outputs.items():
        for arithmetic, error in by.items():
            if error.sqnr_db is None:
                continue
            checked += 1
            if error.sqnr_db < limit:
                found.append(
                    f"min_sqnr: {name!r} has {error.sqnr_db:.1f} dB ({arithmetic}); "
                    f"at least {limit:g} dB was promised"
                )
    if not checked:
        raise CalibrationError(
            "min_sqnr needs an output of floats, and the model has none. Give max_drop."
        )
    return found


def _drops(metrics: Mapping[str, Mapping[str, MetricMean]], limit: float) -> list[str]:
    """Compare means of metrics with the float model's, of which a share may be lost."""
    found = []
    for name, by in metrics.items():
        if "float" not in by:
            raise CalibrationError(
                f"max_drop compares the metric {name!r} with the float model's, which it "
                "was not returned for. Return the same metrics for every model."
            )
        first = by["float"].mean
        for arithmetic, found_mean in by.items():
            lost = first - found_mean.mean
            # Not `>`: NaN fails too.
            if not lost <= abs(first) * (limit / 100 + _ROUNDING):
                percent = 100 * lost / abs(first) if first else math.inf
                found.append(
                    f"max_drop: {name!r} falls from {first:.4g} to {found_mean.mean:.4g} "
                    f"({arithmetic}), by {percent:.3g} %; at most {limit:g} % was promised"
                )
    return found


def _changes(outputs: Outputs, limit: float) -> list[str]:
    """Compare the share of equal answers with 100 %."""
    found = []
    checked = 0
    for name, by in outputs.items():
        for arithmetic, error in by.items():
            if error.top1 is None:
                continue
            checked += 1
            if 1 - error.top1 > limit / 100 + _ROUNDING:
                found.append(
                    f"max_drop: {name!r} has another top-1 in {share(1 - error.top1)} of "
                    f"places ({arithmetic}); at most {limit:g} % was promised"
                )
    if not checked:
        raise CalibrationError(
            "max_drop needs a metric, or an output with classes along its last axis. "
            "Give a metric."
        )
    return found
