"""What a strategy is; write a class like this to add your own."""

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

    Anything with this method can be given where a strategy is expected; its `str()` is the
    name that tables and reports show. Two more methods are used where they exist: those of
    `UsesObservations` and of `Explains`.
    """

    def range(self, histogram: Histogram, format: QuantFormat) -> tuple[float, float]:
        """Return the real interval [low, high] to represent without clipping.

        Must be finite and in order. For symmetric scaling only the larger magnitude counts.
        """
        ...


@runtime_checkable
class UsesObservations(Protocol):
    """A strategy that asks how the values were spread over the observations.

    The extremes of each observation are not kept by channel, so there it is refused; unless it
    has an attribute `needs_observations` that is false, when its `range` is asked.
    """

    def range_of(self, stats: TensorStats, format: QuantFormat) -> tuple[float, float]:
        """Return the range from a histogram and the extremes of each observation."""
        ...


@runtime_checkable
class Explains(Protocol):
    """A strategy that has something to say about its choice."""

    def explain(self, histogram: Histogram, format: QuantFormat) -> str:
        """Return one short sentence for the report; empty when there is nothing to say."""
        ...


def needs_observations(strategy: Strategy) -> bool:
    """Return whether a strategy cannot do without the extremes of each observation."""
    uses = isinstance(strategy, UsesObservations)
    return bool(getattr(strategy, "needs_observations", uses))


def range_of(
    strategy: Strategy, stats: TensorStats, format: QuantFormat
) -> tuple[float, float]:
    """Return a strategy's range, with the observations if it asks for them.

    Raises
    ------
    CalibrationError
        If it is no range.
    """
    # Not isinstance, which takes 10 µs to look into a protocol.
    of_stats = getattr(strategy, "range_of", None)
    if callable(of_stats):
        return as_range(of_stats(stats, format))
    return as_range(strategy.range(stats.histogram, format))


def explanation(strategy: Strategy, histogram: Histogram, format: QuantFormat) -> str:
    """Return what a strategy says of its choice; empty if it says nothing."""
    explain = getattr(strategy, "explain", None)
    return str(explain(histogram, format) or "") if callable(explain) else ""


def as_range(ends: Any) -> tuple[float, float]:
    """Return the ends that a strategy gave, which may be anybody's code.

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
