"""KL: lose the least information, in the sense of Kullback and Leibler."""

from __future__ import annotations

from dataclasses import dataclass

from quantcal import _core


@dataclass(frozen=True)
class KL:
    """The range whose quantised distribution diverges least from the clipped one.

    The form that TensorRT made known (S. Migacz, "8-bit Inference with TensorRT", 2017): on
    `num_bins` equal bins, the clipped distribution keeps the outside mass in its edge bins, the
    quantised one spreads each level's mass over its non-empty bins, and the range with the
    least divergence wins. One-sided over |x| for symmetric scaling; affine scaling searches
    both ends. Good for bell-shaped activations with thin tails; on heavy tails it may clip
    far too much. O(num_bins * levels).

    Parameters
    ----------
    num_bins
        Equal bins between zero and the extreme. 2048 is what TensorRT uses.

    Raises
    ------
    CalibrationError
        If `num_bins` is not between 1 and 2**24.
    """

    num_bins: int = 2048

    def __post_init__(self) -> None:
        if not (isinstance(self.num_bins, int) and 1 <= self.num_bins <= 1 << 24):
            msg = f"num_bins is {self.num_bins}, but it must be between 1 and {1 << 24}"
            raise _core.CalibrationError(msg)

    def range(
        self, histogram: _core.Histogram, format: str, symmetric: bool
    ) -> tuple[float, float]:
        """Return the range of least divergence; [0, 0] without finite values."""
        return _core.kl(histogram, self.num_bins, format, symmetric)

    def __str__(self) -> str:
        return "kl" if self.num_bins == 2048 else f"kl(num_bins={self.num_bins})"
