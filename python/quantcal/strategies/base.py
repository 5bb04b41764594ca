"""What a strategy is; write a class like this to add your own."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from quantcal._core import Histogram


@runtime_checkable
class Strategy(Protocol):
    """Chooses the range of a tensor from its histogram.

    Anything with this method can be given where a strategy is expected; its `str()` is the
    name that tables and reports show.
    """

    def range(
        self, histogram: Histogram, format: str, symmetric: bool
    ) -> tuple[float, float]:
        """Return the real interval [low, high] to represent without clipping.

        Must be finite and in order. For symmetric scaling only the larger magnitude counts.
        """
        ...
