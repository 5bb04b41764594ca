"""From the statistics of tensors to their parameters: what `Calibrator.compute` does."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

from quantcal import _core
from quantcal._core import CalibrationError
from quantcal._statistics import Stats
from quantcal.formats import QuantFormat
from quantcal.params import QuantParams
from quantcal.strategies.base import (
    Strategy,
    as_range,
    explanation,
    needs_observations,
    range_of,
)
from quantcal.strategies.policy import Policy
from quantcal.table import CalibrationTable
from quantcal.tensor_report import TensorReport

Task = tuple[str, Stats, str, Strategy]
"""A tensor's name, its statistics, and the rule that matches it: pattern and strategy."""

# Below this number of histograms, threads cost more than they save.
_MIN_PARALLEL = 8
_BLOCK = 64  # channels that one thread takes at a time

_T = TypeVar("_T")


def compute_table(
    tensors: Mapping[str, Stats], policy: Policy, formats: Mapping[str, QuantFormat]
) -> CalibrationTable:
    """Return parameters and reports of all tensors that have statistics and a format.

    Raises
    ------
    CalibrationError
        If there are none, a tensor matches no rule, or a strategy fails.
    """
    names = [name for name in formats if name in tensors]
    if not names:
        msg = "The calibrator has observed nothing; call observe() first."
        raise CalibrationError(msg)
    rules, unused = policy.assign(names)
    params: dict[str, QuantParams] = {}
    report: dict[str, TensorReport] = {}
    for format in dict.fromkeys(formats[name] for name in names):
        same = [name for name in names if formats[name] == format]
        tasks = [(name, tensors[name], *rules[name]) for name in same]
        for name, found in zip(same, compute_params(tasks, format), strict=True):
            params[name], report[name] = found
    return CalibrationTable(
        {name: params[name] for name in names},
        {name: report[name] for name in names},
        unused_rules=unused,
    )


def compute_params(
    tasks: Iterable[Task], format: QuantFormat
) -> list[tuple[QuantParams, TensorReport]]:
    """Return parameters and report of each tensor, in order.

    All histograms, those of channels too, are searched in parallel.

    Raises
    ------
    CalibrationError
        If a strategy fails; names the tensor, the channel if there is one, and the strategy.
    """
    tasks = list(tasks)
    searches: list[Callable[[], Any]] = []
    for task in tasks:
        searches += _searches(*task, format)
    size = sum(
        len(stats) if isinstance(stats, _core.ChannelStats) else 1
        for _, stats, _, _ in tasks
    )
    found = iter(_run(searches, parallel=size >= _MIN_PARALLEL))
    return [_collected(*task, format, found) for task in tasks]


def _run(work: list[Callable[[], _T]], *, parallel: bool) -> list[_T]:
    """Return the results of all pieces of work; raise the first error."""
    # Threads take one piece after another themselves: a future for each costs 40 µs, in which
    # no other thread can run.
    if not parallel:
        return [run() for run in work]
    from concurrent.futures import ThreadPoolExecutor  # costs an eighth of the import

    left = deque(enumerate(work))
    found: dict[int, _T] = {}
    failed: dict[int, Exception] = {}

    def take() -> None:
        while left and not failed:
            try:
                number, run = left.popleft()
            except IndexError:  # another thread was faster
                return
            try:
                found[number] = run()
            except Exception as error:
                failed[number] = error

    threads = _core.get_num_threads()
    with ThreadPoolExecutor(threads) as pool:
        try:
            for taking in [pool.submit(take) for _ in range(threads)]:
                taking.result()
        finally:  # after an interruption, start nothing more
            left.clear()
    if failed:
        raise failed[min(failed)]
    return [found[number] for number in range(len(work))]


def _searches(
    name: str, stats: Stats, pattern: str, strategy: Strategy, format: QuantFormat
) -> list[Callable[[], Any]]:
    """Return the searches for a tensor: one, or one per block of channels."""
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
        histogram = stats.histogram
        reason = explanation(strategy, histogram, format)
    except CalibrationError as error:
        msg = f'Tensor "{name}", strategy {strategy}: {error}'
        raise CalibrationError(msg) from error
    except Exception as error:
        _note(error, f'Tensor "{name}"', strategy)
        raise
    return params, TensorReport.of(histogram, params, pattern, reason)


def _note(error: Exception, where: str, strategy: Strategy) -> None:
    """Add to a foreign error where a strategy failed; Python 3.10 has no place for it."""
    if hasattr(error, "add_note"):
        error.add_note(f"{where}, strategy {strategy}")


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
        except Exception as error:
            _note(error, f'Tensor "{name}", channel {channel}', strategy)
            raise
    return ranges


def _collected(
    name: str,
    stats: Stats,
    pattern: str,
    strategy: Strategy,
    format: QuantFormat,
    found: Any,
) -> tuple[QuantParams, TensorReport]:
    """Take a tensor's results from `found`, and join those of its channels."""
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
