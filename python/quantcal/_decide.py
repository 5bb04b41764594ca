"""From what was kept of a tensor to its parameters: what `Calibrator.compute` does."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from quantcal import _core
from quantcal._core import CalibrationError
from quantcal.formats import QuantFormat
from quantcal.params import QuantParams
from quantcal.strategies.base import (
    Explains,
    Strategy,
    as_range,
    needs_observations,
    range_of,
)
from quantcal.tensor_report import TensorReport

Stats = _core.TensorStats | _core.ChannelStats
"""What a calibrator keeps of one tensor."""

Task = tuple[str, Stats, str, Strategy]
"""A tensor's name, what was kept of it, and the rule that decides: pattern and strategy."""

_FEW = 8  # histograms; below, threads cost more than they save
_BLOCK = 64  # channels that one thread takes at a time

_T = TypeVar("_T")


def decide(
    tasks: Iterable[Task], format: QuantFormat
) -> list[tuple[QuantParams, TensorReport]]:
    """Return parameters and report of each tensor, in order.

    All histograms, those of channels too, are searched in parallel.

    Raises
    ------
    CalibrationError
        Names the tensor, the channel if there is one, and the strategy.
    """
    tasks = list(tasks)
    searches: list[Callable[[], Any]] = []
    for task in tasks:
        searches += _searches(*task, format)
    size = sum(
        len(stats) if isinstance(stats, _core.ChannelStats) else 1
        for _, stats, _, _ in tasks
    )
    found = iter(_run(searches, parallel=size >= _FEW))
    return [_collected(*task, format, found) for task in tasks]


def _run(work: list[Callable[[], _T]], *, parallel: bool) -> list[_T]:
    if not parallel:
        return [run() for run in work]
    from concurrent.futures import ThreadPoolExecutor  # costs an eighth of the import

    with ThreadPoolExecutor(_core.get_num_threads()) as pool:
        return list(pool.map(lambda run: run(), work))


def _searches(
    name: str, stats: Stats, pattern: str, strategy: Strategy, format: QuantFormat
) -> list[Callable[[], Any]]:
    """Return what there is to do for a tensor: one search, or one a block of channels."""
    if isinstance(stats, _core.TensorStats):
        return [lambda: _whole(name, stats, pattern, strategy, format)]
    if needs_observations(strategy):
        msg = (
            f'Tensor "{name}", strategy {strategy}: it needs the extremes of each observation, '
            "which are not kept by channel; take another strategy, or observe without axis"
        )
        raise CalibrationError(msg)
    firsts = range(0, len(stats), _BLOCK)
    return [
        lambda first=first: _block(name, stats, first, strategy, format)  # type: ignore[misc]
        for first in firsts
    ]


def _whole(
    name: str,
    stats: _core.TensorStats,
    pattern: str,
    strategy: Strategy,
    format: QuantFormat,
) -> tuple[QuantParams, TensorReport]:
    try:
        low, high = range_of(strategy, stats, format)
        params = QuantParams.from_range(
            low, high, format=format, strategy=str(strategy)
        )
    except CalibrationError as error:
        msg = f'Tensor "{name}", strategy {strategy}: {error}'
        raise CalibrationError(msg) from error
    histogram = stats.histogram
    reason = (
        strategy.explain(histogram, format) if isinstance(strategy, Explains) else ""
    )
    return params, TensorReport.of(histogram, params, pattern, reason)


def _block(
    name: str,
    stats: _core.ChannelStats,
    first: int,
    strategy: Strategy,
    format: QuantFormat,
) -> list[tuple[float, float]]:
    """Return the ranges of a block of channels."""
    ranges = []
    for channel in range(first, min(first + _BLOCK, len(stats))):
        try:
            ranges.append(as_range(strategy.range(stats.channel(channel), format)))
        except CalibrationError as error:
            msg = f'Tensor "{name}", channel {channel}, strategy {strategy}: {error}'
            raise CalibrationError(msg) from error
    return ranges


def _collected(
    name: str,
    stats: Stats,
    pattern: str,
    strategy: Strategy,
    format: QuantFormat,
    found: Any,
) -> tuple[QuantParams, TensorReport]:
    """Take a tensor's results from `found`, and put those of channels together."""
    if isinstance(stats, _core.TensorStats):
        whole: tuple[QuantParams, TensorReport] = next(found)
        return whole
    ranges = [ends for _ in range(0, len(stats), _BLOCK) for ends in next(found)]
    try:
        params = QuantParams.from_range(
            [low for low, _ in ranges],
            [high for _, high in ranges],
            format=format,
            strategy=str(strategy),
            axis=stats.axis,
        )
    except CalibrationError as error:
        msg = f'Tensor "{name}", strategy {strategy}: {error}'
        raise CalibrationError(msg) from error
    return params, TensorReport.of(stats, params, pattern)
