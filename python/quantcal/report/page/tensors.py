"""The tensors of a report: a row of figures for each, and what is drawn of a chosen one."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from quantcal._core import ChannelStats
from quantcal._statistics import Stats
from quantcal.formats import QuantFormat
from quantcal.params import QuantParams
from quantcal.report.page.distributions import (
    draw_buckets,
    draw_channels,
    draw_spark,
    error_curve,
    grid_of,
)
from quantcal.report.page.methods import compare_ranges, range_row, work_on
from quantcal.report.page.numbers import short
from quantcal.report.page.sources import Sources
from quantcal.report.page.verdicts import judge_tensor
from quantcal.tensor_report import TensorReport

_PERCENTILES = {"p0_1": 0.001, "p50": 0.5, "p99_9": 0.999}

Row = dict[str, Any]


def tensor_rows(sources: Sources) -> list[Row]:
    """Return one row per tensor, in the order of the graph if that is known."""
    names = _ordered(sources)
    sensitivity, layers = _sensitivity(sources), _layer_errors(sources)
    parts = _Parts(sources)
    rows = work_on(names, parts.row)
    for name, row in zip(names, rows, strict=True):
        place = sources.places.get(name)
        if place is not None:
            row |= {"node": place.node, "op": place.operator}
        if name in sensitivity:
            row["sens"] = short(sensitivity[name])
        if name in layers:
            node, operator, sqnr = layers[name]
            row.setdefault("node", node)
            row.setdefault("op", operator)
            row["layer"] = short(sqnr)
    return [{k: v for k, v in row.items() if v not in (None, "")} for row in rows]


def _ordered(sources: Sources) -> list[str]:
    """Return the names of all tensors that something is known of."""
    known: dict[str, None] = {}
    if sources.calibrator is not None:
        known |= dict.fromkeys(sources.calibrator.names)
    if sources.table is not None:
        known |= dict.fromkeys(sources.table)
    known |= dict.fromkeys(_layer_errors(sources))
    known |= dict.fromkeys(_sensitivity(sources))
    order = {name: number for number, name in enumerate(sources.places)}
    return sorted(known, key=lambda name: order.get(name, len(order)))


def _sensitivity(sources: Sources) -> dict[str, float]:
    """Return what the outputs lose when one tensor alone is rounded."""
    found: dict[str, float] = {}
    choice = None if sources.result is None else sources.result.choice
    if choice is not None:
        found |= {each.tensor: each.loss for each in choice.worst}
    if sources.advice is not None:
        found |= {each.name: each.loss_alone for each in sources.advice.tensors}
    return found


def _layer_errors(
    sources: Sources,
) -> dict[str, tuple[str, str, float | None]]:
    layers = () if sources.evaluation is None else sources.evaluation.layers
    return {
        layer.tensor: (layer.node, layer.operator, layer.sqnr_db()) for layer in layers
    }


class _Parts:
    """Makes the row of one tensor from its histogram and its range."""

    def __init__(self, sources: Sources) -> None:
        self._calibrator = sources.calibrator
        table = sources.table
        self._params = {} if table is None else dict(table)
        self._reports = {} if table is None else table.report
        result = sources.result
        self._samples = result.samples or None if result is not None else None
        self._power_of_two = _powers_of_two(self._params.values())

    def row(self, name: str) -> Row:
        stats = None
        if self._calibrator is not None and name in self._calibrator:
            stats = self._calibrator.stats(name)
        params, report = self._params.get(name), self._reports.get(name)
        if report is None and stats is not None and params is not None:
            report = _report_of(stats, params)
        row: Row = {"name": name}
        if report is not None:
            row |= _figures(report)
        if stats is not None:
            row |= _observed(stats)
        if params is not None:
            row |= {"method": params.strategy, **_ends(params)}
        verdict = judge_tensor(report, params, stats, self._samples)
        row |= {
            "verdict": verdict.word,
            "kinds": list(verdict.kinds) or None,
            "reasons": list(verdict.reasons) or None,
        }
        row["detail"] = self._detail(stats, params, report)
        return row

    def _detail(
        self,
        stats: Stats | None,
        params: QuantParams | None,
        report: TensorReport | None,
    ) -> Row | None:
        detail: Row = {}
        if params is not None:
            detail["grid"] = grid_of(params)
        if stats is not None and stats.histogram.finite:
            histogram = stats.histogram
            format = QuantFormat.of("int8")
            if params is not None:
                format = QuantFormat(
                    params.format, params.symmetric, self._power_of_two
                )
            detail |= {
                "buckets": draw_buckets(histogram),
                "curve": error_curve(histogram, format),
                "methods": compare_ranges(stats, format),
            }
            names = {each["name"] for each in detail["methods"]}
            if params is not None and report and params.strategy not in names:
                detail["methods"].append(range_row(params, report))
            if isinstance(stats, ChannelStats):
                detail["channels"] = draw_channels(stats)
        return detail or None


def _figures(report: TensorReport) -> Row:
    return {
        "count": report.count,
        "min": short(report.min),
        "max": short(report.max),
        "nonfinite": report.nan + report.posinf + report.neginf,
        "clipped": short(report.clipped, 3),
        "tozero": short(report.rounded_to_zero, 3),
        "sqnr": short(report.sqnr_db),
    }


def _observed(stats: Stats) -> Row:
    histogram = stats.histogram
    found: Row = {
        "count": histogram.count,
        "min": short(histogram.min),
        "max": short(histogram.max),
        "nonfinite": histogram.count - histogram.finite,
        "spark": draw_spark(histogram),
    }
    for key, quantile in _PERCENTILES.items():
        found[key] = short(histogram.quantile(quantile))
    return found


def _ends(params: QuantParams) -> Row:
    return {
        "low": short(np.min(params.low)),
        "high": short(np.max(params.high)),
        "format": params.format,
    }


def _report_of(stats: Stats, params: QuantParams) -> TensorReport | None:
    """Return the errors of a range; None if only one of them is by channel."""
    by_channel = isinstance(stats, ChannelStats)
    if params.axis is None:
        return TensorReport.of(stats.histogram, params, "")
    if not by_channel or len(stats) != np.size(params.scale):  # type: ignore[arg-type]
        return None
    return TensorReport.of(stats, params, "")  # type: ignore[arg-type]


def _powers_of_two(params: Iterable[QuantParams]) -> bool:
    """Whether all scales are powers of two, as hardware that shifts needs them."""
    scales = [np.ravel(each.scale) for each in params]
    if not scales:
        return False
    fractions, _ = np.frexp(np.concatenate(scales))
    return bool((fractions == 0.5).all())
