"""Percentile: cover a given share of the values."""

from __future__ import annotations

from dataclasses import dataclass

from quantcal import _core


@dataclass(frozen=True)
class Percentile:
    """The range that covers `percentile` percent of the values.

    Symmetric scaling: the percentile of |x|. Affine scaling: half of the rest is cut on
    either side. The percentile is the order statistic itself for 16-bit data, and
    interpolated within a bin (0.4 %) otherwise. O(bins).

    Parameters
    ----------
    percentile
        Above 0, up to 100. The default of 99.99 cuts one value in ten thousand.

    Raises
    ------
    CalibrationError
        If `percentile` is not above 0 and at most 100.
    """

    percentile: float = 99.99

    def __post_init__(self) -> None:
        if not 0 < self.percentile <= 100:
            msg = f"percentile is {self.percentile}, but it must be above 0 and at most 100"
            raise _core.CalibrationError(msg)

    def range(
        self, histogram: _core.Histogram, format: str, symmetric: bool
    ) -> tuple[float, float]:
        """Return the covering range; [0, 0] without finite values."""
        return _core.percentile(histogram, self.percentile / 100, symmetric)

    def __str__(self) -> str:
        return f"percentile_{self.percentile:g}"
