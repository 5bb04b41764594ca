"""Fixed: a range that is known in advance."""

from __future__ import annotations

import sys
from dataclasses import dataclass

from quantcal import _core
from quantcal._plain_values import as_real
from quantcal._text import shown
from quantcal.formats import QuantFormat

_MAX = sys.float_info.max


@dataclass(frozen=True)
class Fixed:
    """The given range, independent of the data.

    For outputs whose range is known: [0, 1] of a softmax or sigmoid (the name "softmax"),
    [-1, 1] of a tanh.

    Parameters
    ----------
    low, high
        Ends of the range: finite and in order.

    Raises
    ------
    CalibrationError
        If they are not finite and in order.
    """

    low: float
    high: float

    def __post_init__(self) -> None:
        low, high = as_real(self.low), as_real(self.high)
        if low is None or high is None or not -_MAX <= low <= high <= _MAX:
            msg = (
                f"the range [{shown(self.low)}, {shown(self.high)}] must have finite ends, the "
                "lower first"
            )
            raise _core.CalibrationError(msg)
        object.__setattr__(self, "low", low)
        object.__setattr__(self, "high", high)

    def range(
        self, histogram: _core.Histogram, format: QuantFormat
    ) -> tuple[float, float]:
        """Return the given range."""
        return float(self.low), float(self.high)

    def __str__(self) -> str:
        return f"fixed({self.low:g}, {self.high:g})"


def softmax() -> Fixed:
    """Return a strategy for probabilities, [0, 1]."""
    return Fixed(0.0, 1.0)
