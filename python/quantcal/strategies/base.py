"""The protocol of a strategy; a class with its method is a custom strategy."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from quantcal._core import CalibrationError, Histogram
from quantcal._text import shown

if TYPE_CHECKING:
    from quantcal._core import TensorStats
    from quantcal.formats import QuantFormat


@runtime_checkable
class Strategy(Protocol):
    """Chooses the range of a tensor from its histogram.

    Any object with this method is a strategy; its `str()` is the name in tables and reports.
    The methods of `UsesObservations` and `Explains` are optional.
    """

    def range(self, histogram: Histogram, format: QuantFormat) -> tuple[float, float]:
        """Return the real interval [low, high] to represent without clipping.

        Must be finite and in order. For symmetric scaling only the larger magnitude counts.
        """
        ...


@runtime_checkable
class UsesObservations(Protocol):
    """A strategy that uses the extremes of each observation.

    `range_of` is called for each tensor that was observed as a whole. The extremes are not kept
    by channel, so the strategy is refused there, unless an attribute `needs_observations` is
    false. Then `range` is called for each channel.
    """

    def range_of(self, stats: TensorStats, format: QuantFormat) -> tuple[float, float]:
        """Return the range from a histogram and the extremes of each observation."""
        ...


@runtime_checkable
class Explains(Protocol):
    """A strategy that gives a reason for its choice."""

    def explain(self, histogram: Histogram, format: QuantFormat) -> str:
        """Return one short sentence for the report; may be empty."""
        ...


def needs_observations(strategy: Strategy) -> bool:
    """Return whether a strategy requires the extremes of each observation."""
    uses = isinstance(strategy, UsesObservations)
    return bool(getattr(strategy, "needs_observations", uses))


def range_of(
    strategy: Strategy, stats: TensorStats, format: QuantFormat
) -> tuple[float, float]:
    """Return a strategy's range, from the observations if it uses them.

    Raises
    ------
    CalibrationError
        If the result is not a range.
    """
    # Not isinstance, which takes 10 µs for a protocol.
    of_stats = getattr(strategy, "range_of", None)
    if callable(of_stats):
        return as_range(of_stats(stats, format))
    return as_range(strategy.range(stats.histogram, format))


def explanation(strategy: Strategy, histogram: Histogram, format: QuantFormat) -> str:
    """Return a strategy's reason for its choice; empty without one."""
    explain = getattr(strategy, "explain", None)
    return str(explain(histogram, format) or "") if callable(explain) else ""


def as_range(ends: Any) -> tuple[float, float]:
    """Return the ends that a strategy returned; custom strategies may return anything.

    Raises
    ------
    CalibrationError
        If they are not two numbers.
    """
    try:
        low, high = ends
        return float(low), float(high)
    except (TypeError, ValueError, OverflowError):
        msg = f"it returned {shown(ends, 80)}, but a range is two numbers, low and high"
        raise CalibrationError(msg) from None
