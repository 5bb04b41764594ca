"""`compare`: try every strategy on what was observed, before one is chosen."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from quantcal import _core, _intended_formats
from quantcal._calibrate import stats_of
from quantcal._compute import Stats, decide
from quantcal._core import CalibrationError, Histogram
from quantcal.calibrator import Calibrator
from quantcal.comparison.comparison import Comparison
from quantcal.comparison.score import LONE, Score, score
from quantcal.formats import QuantFormat
from quantcal.params import QuantParams
from quantcal.strategies.aciq import ACIQ
from quantcal.strategies.base import Strategy, explanation, range_of
from quantcal.strategies.entropy import MaxEntropy
from quantcal.strategies.hybrid import Hybrid
from quantcal.strategies.kl import KL
from quantcal.strategies.minmax import MinMax
from quantcal.strategies.mse import MSE
from quantcal.strategies.percentile import Percentile
from quantcal.strategies.policy import unknown_name
from quantcal.strategies.registry import resolve

STRATEGIES: tuple[Strategy, ...] = (
    MinMax(),
    *(Percentile(percentile) for percentile in (99, 99.9, 99.99, 99.999)),
    Percentile(adaptive=True),
    KL(),
    MSE(),
    MSE(p=2.4),
    MSE(newton=True),
    MaxEntropy(),
    ACIQ(),
    Hybrid(),
)
"""What is compared unless told otherwise: every method, with its usual options."""

_FEW = 8  # tensors; below, threads cost more than they save


def compare(
    values: Any,
    format: str | QuantFormat | None = None,
    *,
    strategies: str | Strategy | Iterable[str | Strategy] | None = None,
    symmetric: bool | None = None,
    power_of_two: bool | None = None,
    axis: int | None = None,
    tensors: Iterable[str] | None = None,
) -> Comparison:
    """Return the range of every strategy and what it does to the values.

    Takes some ten to a hundred milliseconds a tensor with all strategies, and no second look
    at the data. A strategy that does not apply to a tensor, such as a half form of ACIQ to
    values of both signs, ends nothing: its row says why. Tensors are worked on in parallel.

    Parameters
    ----------
    values
        An array (any shape, float), a `Histogram`, `Channels`, or a `Calibrator` for all of
        its tensors. By channel, every channel has a range of its own, the figures are of all
        channels together, and there is neither divergence nor entropy.
    format
        A name such as "int8", "uint4" or "float8_e4m3fn", or a `QuantFormat`. None, the
        default, takes for a calibrator's tensors the formats that they were observed for
        (`Calibrator.formats`), and int8 for all else.
    strategies
        Names or strategy objects, each once. None takes minmax, percentile_99, _99.9, _99.99
        and _99.999, percentile_adaptive, kl, mse, mse(p=2.4), mse(newton), entropy, aciq and
        hybrid.
    symmetric, power_of_two
        Scaling, where it is not to be the format's.
    axis
        The axis of an array's channels; None for one range of the whole array.
    tensors
        Names of a calibrator's tensors; None for all. Not for arrays and histograms.

    Returns
    -------
    A `Comparison`: a sequence of `Score` that prints as a table, sorts and plots.

    Raises
    ------
    TypeError
        If the values are not floats, a strategy is none, or names come without a calibrator.
    CalibrationError
        If a name or the format is not known, a strategy is given twice, there is none, or a
        tensor was never observed.

    Examples
    --------
    >>> x = np.random.default_rng(0).laplace(size=100_000).astype(np.float32)
    >>> comparison = qc.compare(x, "uint8", strategies=["minmax", "kl", qc.MSE()])
    >>> comparison.best().strategy
    'mse'
    >>> [round(scored.sqnr_db) for scored in comparison]
    [34, 35, 35]
    """
    chosen = _strategies(strategies)
    found = _tensors(values, axis, tensors)
    intended = values._intended if isinstance(values, Calibrator) else {}
    formats = _intended_formats.chosen(
        intended, (name for name, _ in found), format, symmetric, power_of_two
    )
    usual = Counter(formats.values()).most_common(1)[0][0]

    def compared(item: tuple[str, Stats]) -> tuple[Histogram, list[Score]]:
        name, stats = item
        format = formats[name]
        if isinstance(stats, _core.ChannelStats):
            rows = [_score_channels(name, stats, each, format) for each in chosen]
            return stats.histogram, rows
        seen = stats.histogram
        return seen, [_score(name, stats, seen, each, format) for each in chosen]

    if len(found) < _FEW:
        parts = [compared(item) for item in found]
    else:
        with ThreadPoolExecutor(_core.get_num_threads()) as pool:
            parts = list(pool.map(compared, found))
    names = [name for name, _ in found]
    return Comparison(
        scored=tuple(row for _, rows in parts for row in rows),
        format=usual,
        histograms=dict(zip(names, (seen for seen, _ in parts), strict=True)),
        formats={name: each for name, each in formats.items() if each != usual},
    )


def _strategies(
    given: str | Strategy | Iterable[str | Strategy] | None,
) -> tuple[Strategy, ...]:
    if given is None:
        return STRATEGIES
    if isinstance(given, (str, Strategy)):
        given = (given,)
    if not isinstance(given, Iterable):
        given = (given,)  # which `resolve` refuses
    chosen = tuple(resolve(strategy) for strategy in given)
    if not chosen:
        raise CalibrationError(
            "strategies is empty; give at least one, or None for all"
        )
    name, times = Counter(map(str, chosen)).most_common(1)[0]
    if times > 1:
        msg = f'strategy "{name}" is given {times} times; rows go by name, so give it once'
        raise CalibrationError(msg)
    return chosen


def _tensors(
    values: Any, axis: int | None, names: Iterable[str] | None
) -> list[tuple[str, Stats]]:
    if isinstance(values, Calibrator):
        if axis is not None:
            msg = f"axis is {axis}, but it goes with an array, not with a calibrator"
            raise TypeError(msg)
        if not len(values):
            msg = "The calibrator has observed nothing; call observe() first."
            raise CalibrationError(msg)
        if isinstance(names, str):
            names = (names,)
        wanted = list(values if names is None else dict.fromkeys(names))
        if not wanted:
            msg = "tensors is empty; name at least one, or give None for all"
            raise CalibrationError(msg)
        for name in wanted:
            if name not in values:
                raise CalibrationError(unknown_name(name, list(values)))
        return [(name, values.stats(name)) for name in wanted]
    if names is not None:
        msg = f"tensors are named, but the values are no Calibrator: {type(values).__name__}"
        raise TypeError(msg)
    return [(LONE, stats_of(values, axis))]


def _score(
    name: str,
    stats: _core.TensorStats,
    histogram: Histogram,
    strategy: Strategy,
    format: QuantFormat,
) -> Score:
    """Range and figures of one strategy on one tensor."""
    label = str(strategy)
    start = time.perf_counter()
    try:
        low, high = range_of(strategy, stats, format)
        seconds = time.perf_counter() - start
        params = QuantParams.from_range(low, high, format=format, strategy=label)
        reason = explanation(strategy, histogram, format)
    except CalibrationError as error:
        return Score(name, label, None, error=str(error))
    return score(name, label, histogram, params, format, seconds=seconds, reason=reason)


def _score_channels(
    name: str, stats: _core.ChannelStats, strategy: Strategy, format: QuantFormat
) -> Score:
    """Ranges and figures of one strategy on one tensor by channel."""
    label = str(strategy)
    start = time.perf_counter()
    try:
        ((params, report),) = decide([(name, stats, "*", strategy)], format)
    except CalibrationError as error:
        return Score(name, label, None, error=str(error))
    return Score(
        tensor=name,
        strategy=label,
        params=params,
        clipped=report.clipped,
        rounded_to_zero=report.rounded_to_zero,
        mse=report.mse,
        sqnr_db=report.sqnr_db,
        cosine=report.cosine,
        seconds=time.perf_counter() - start,
    )
