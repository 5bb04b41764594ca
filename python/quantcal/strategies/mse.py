"""MSE: the least squared error."""

from __future__ import annotations

from dataclasses import dataclass

from quantcal import _core


@dataclass(frozen=True)
class MSE:
    """The range whose grid has the least expected squared error E(x - x_hat)^2.

    Global search, coarse to fine, over one end (symmetric) or both (affine), scored through
    the very grid that is deployed. The default: it weighs clipping against rounding
    without assuming a distribution. O(candidates * levels), about a thousand candidates.
    """

    def range(
        self, histogram: _core.Histogram, format: str, symmetric: bool
    ) -> tuple[float, float]:
        """Return the range of least squared error; [0, 0] without finite values."""
        return _core.mse(histogram, format, symmetric)

    def __str__(self) -> str:
        return "mse"
