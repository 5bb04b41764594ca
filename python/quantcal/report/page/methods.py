"""The ranges of several strategies for each tensor, with their errors."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from statistics import median
from typing import Any, TypeVar

import numpy as np

from quantcal import _core
from quantcal._compute import compute_params
from quantcal._core import CalibrationError, ChannelStats
from quantcal._statistics import Stats
from quantcal.formats import QuantFormat
from quantcal.params import QuantParams
from quantcal.report.page.numbers import short
from quantcal.strategies.base import Strategy
from quantcal.strategies.entropy import MaxEntropy
from quantcal.strategies.kl import KL
from quantcal.strategies.minmax import MinMax
from quantcal.strategies.mse import MSE
from quantcal.strategies.percentile import Percentile
from quantcal.tensor_report import TensorReport

COMPARED: tuple[Strategy, ...] = (
    MinMax(),
    Percentile(99.99),
    Percentile(99.9),
    KL(),
    MSE(),
    MaxEntropy(),
)
"""The strategies of each tensor: those that other tools have, and that differ most."""

# By channel a search for each takes as long as that of a tensor.
_BY_CHANNEL: tuple[Strategy, ...] = (MinMax(), Percentile(99.99))

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


def work_on(
    items: Sequence[_Item], function: Callable[[_Item], _Result]
) -> list[_Result]:
    """Return what a function returns for each item, computed by all threads."""
    with ThreadPoolExecutor(_core.get_num_threads()) as pool:
        return list(pool.map(function, items))


def compare_ranges(stats: Stats, format: QuantFormat) -> list[dict[str, Any]]:
    """Return the range and SQNR of each strategy that applies to a tensor.

    By channel, the range is that of all channels together.
    """
    rows = []
    for strategy in _BY_CHANNEL if isinstance(stats, ChannelStats) else COMPARED:
        try:
            ((params, report),) = compute_params([("", stats, "*", strategy)], format)
        except CalibrationError:  # the strategy does not apply to such values
            continue
        rows.append(range_row(params, report))
    return rows


def range_row(params: QuantParams, report: TensorReport) -> dict[str, Any]:
    """Return a range with its error; by channel, the ends of all ranges together."""
    return {
        "name": params.strategy,
        "low": short(np.min(params.low), 6),
        "high": short(np.max(params.high), 6),
        "sqnr": short(report.sqnr_db),
        "clipped": short(report.clipped, 3),
    }


def summarize(rows: Iterable[Sequence[Mapping[str, Any]]]) -> list[dict[str, Any]]:
    """Return the median and minimum SQNR of each strategy over all tensors.

    Tensors that a strategy represents exactly, or that have no value, do not count. Strategies
    of fewer than half of the tensors are left out, as they are not comparable.
    """
    found: dict[str, list[float]] = {}
    best: dict[str, int] = {}
    for row in rows:
        known = {r["name"]: float(r["sqnr"]) for r in row if _finite(r["sqnr"])}
        for name, value in known.items():
            found.setdefault(name, []).append(value)
            best.setdefault(name, 0)
        if known:
            top = max(known.values())
            for name, value in known.items():
                best[name] += value == top
    most = max(map(len, found.values()), default=0)
    return [
        {
            "name": name,
            "median": short(median(values)),
            "min": short(min(values)),
            "best": best[name],
            "tensors": len(values),
        }
        for name, values in found.items()
        if 2 * len(values) >= most
    ]


def _finite(value: object) -> bool:
    return isinstance(value, (int, float))
