"""Fixed: a range that is known beforehand."""

from __future__ import annotations

import math
from dataclasses import dataclass

from quantcal import _core
from quantcal.formats import QuantFormat


@dataclass(frozen=True)
class Fixed:
    """The given range, whatever was observed.

    For outputs whose range is known: [0, 1] of a softmax or sigmoid (the name "softmax"),
    [-1, 1] of a tanh.

    Parameters
    ----------
    low, high
        Ends of the range: finite and in order.

    Raises
    ------
    CalibrationError
        If they are not.
    """

    low: float
    high: float

    def __post_init__(self) -> None:
        numbers = all(isinstance(end, (int, float)) for end in (self.low, self.high))
        if not (
            numbers
            and math.isfinite(self.low)
            and math.isfinite(self.high)
            and self.low <= self.high
        ):
            msg = f"the range [{self.low}, {self.high}] must have finite ends, the lower first"
            raise _core.CalibrationError(msg)

    def range(
        self, histogram: _core.Histogram, format: QuantFormat
    ) -> tuple[float, float]:
        """Return the given range."""
        return float(self.low), float(self.high)

    def __str__(self) -> str:
        return f"fixed({self.low:g}, {self.high:g})"


def softmax() -> Fixed:
    """Return the range of probabilities, [0, 1]."""
    return Fixed(0.0, 1.0)
