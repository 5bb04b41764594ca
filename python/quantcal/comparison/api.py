"""`compare`: runs every strategy on the observed values, to choose one."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from quantcal import _core
from quantcal._calibrate import stats_of
from quantcal._compute import compute_params
from quantcal._core import CalibrationError, Histogram
from quantcal._format_names import format_name
from quantcal._statistics import Stats
from quantcal._tensor_formats import choose_formats
from quantcal._text import shown
from quantcal.calibrator import Calibrator
from quantcal.comparison.comparison import Comparison
from quantcal.comparison.score import LONE, Score, score_channels, score_tensor
from quantcal.formats import FormatLike, QuantFormat
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
from quantcal.strategies.registry import is_name, resolve
from quantcal.tensor_report import TensorReport

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
"""The strategies that are compared by default: each with its usual options."""

# Below this number of tensors, threads cost more than they save.
_MIN_PARALLEL = 8

_T = TypeVar("_T")


def compare(
    values: Any,
    format: FormatLike | None = None,
    *,
    strategies: str | Strategy | Iterable[str | Strategy] | None = None,
    symmetric: bool | None = None,
    power_of_two: bool | None = None,
    axis: int | None = None,
    tensors: Iterable[str] | None = None,
) -> Comparison:
    """Return the range of every strategy and its error.

    Takes about ten to a hundred milliseconds per tensor with all strategies, without another
    pass over the data. If a strategy does not apply to a tensor, its row says why: for example,
    a half distribution of ACIQ with values of both signs. Tensors are processed in parallel.

    Parameters
    ----------
    values
        An array (any shape, float), a `Histogram`, `Channels`, or a `Calibrator` for all of
        its tensors. By channel, every channel has a separate range. The figures are of all
        channels together, without divergence and entropy.
    format
        A name such as "int8", "uint4" or "float8_e4m3fn", or a `QuantFormat`. None, the
        default, takes for a calibrator's tensors the formats that they were observed for
        (`Calibrator.formats`), and int8 for all else.
    strategies
        Names or strategy objects, each once. None takes minmax, percentile_99, _99.9, _99.99,
        _99.999 and _adaptive, kl, mse, mse(p=2.4), mse(newton), entropy, aciq and hybrid.
    symmetric, power_of_two
        Scaling, if it differs from the default of the format.
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
        If the values are not floats, a strategy is not one, or tensors are named without a
        calibrator.
    CalibrationError
        If a name or the format is not known, a strategy is given twice, there is none, or a
        tensor was never observed.

    Examples
    --------
    >>> x = np.random.default_rng(0).laplace(size=100_000).astype(np.float32)
    >>> comparison = qc.compare(x, "uint8", strategies=["minmax", "kl", qc.MSE()])
    >>> comparison.best().strategy
    'mse'
    >>> [round(score.sqnr_db) for score in comparison]
    [34, 35, 35]
    """
    _check_format(format)
    chosen = _strategies(strategies)
    stats = _statistics(values, axis, tensors)
    observed = values.formats if isinstance(values, Calibrator) else {}
    formats = choose_formats(observed, stats, format, symmetric, power_of_two)
    usual = Counter(formats.values()).most_common(1)[0][0]

    def compared(name: str) -> tuple[Histogram, list[Score]]:
        seen = stats[name].histogram
        return seen, [_score(name, stats[name], seen, s, formats[name]) for s in chosen]

    parts = _map(compared, list(stats))
    return Comparison(
        scores=tuple(row for _, rows in parts for row in rows),
        format=usual,
        histograms=dict(zip(stats, (seen for seen, _ in parts), strict=True)),
        formats={name: each for name, each in formats.items() if each != usual},
    )


def _map(function: Callable[[str], _T], names: list[str]) -> list[_T]:
    """Return what a function returns for each tensor, in threads if there are many."""
    if len(names) < _MIN_PARALLEL:
        return [function(name) for name in names]
    with ThreadPoolExecutor(_core.get_num_threads()) as pool:
        return list(pool.map(function, names))


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


def _check_format(format: Any) -> None:
    """Refuse strategies in the place of the format."""
    several = format if isinstance(format, (list, tuple)) else [format]
    for each in several:
        if isinstance(each, Strategy) and not isinstance(each, type):
            break
        if isinstance(each, str) and format_name(each) is None and is_name(each):
            break
    else:
        return
    given = shown(format, 80)
    msg = f"{given} is no format but a strategy; give strategies={given}"
    raise CalibrationError(msg)


def _statistics(
    values: Any, axis: int | None, names: Iterable[str] | None
) -> dict[str, Stats]:
    """Return the statistics of the tensors to compare."""
    if not isinstance(values, Calibrator):
        if names is not None:
            kind = type(values).__name__
            raise TypeError(
                f"tensors are named, but the values are not a Calibrator: {kind}"
            )
        return {LONE: stats_of(values, axis)}
    if axis is not None:
        msg = f"axis is {axis}, but only an array takes an axis, not a calibrator"
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
    return {name: values.stats(name) for name in wanted}


def _score(
    name: str,
    stats: Stats,
    histogram: Histogram,
    strategy: Strategy,
    format: QuantFormat,
) -> Score:
    """Return the range of one strategy for one tensor, and its figures."""
    start = time.perf_counter()
    try:
        if isinstance(stats, _core.ChannelStats):
            ((params, report),) = compute_params([(name, stats, "*", strategy)], format)
            return score_channels(name, params, report, time.perf_counter() - start)
        low, high = range_of(strategy, stats, format)
        seconds = time.perf_counter() - start
        params = QuantParams.from_range(
            low, high, format=format, strategy=str(strategy)
        )
        reason = explanation(strategy, histogram, format)
    except CalibrationError as error:
        return Score(name, str(strategy), None, error=str(error))
    report = TensorReport.of(histogram, params, "*", reason)
    return score_tensor(name, params, report, seconds, histogram, format)
