"""MaxEntropy: let the codes carry the most information."""

from __future__ import annotations

from dataclasses import dataclass

from quantcal import _core
from quantcal.formats import QuantFormat


@dataclass(frozen=True)
class MaxEntropy:
    """The range whose codes have the highest Shannon entropy.

    -sum(p ln p) over the codes, p being the share of the values that a code stands for: the
    codes are used as evenly as the values allow (the criterion of information-preserving
    low-bit quantizers, such as H. Qin et al., "Forward and Backward Information Retention for
    Accurate Binary Neural Networks", CVPR 2020). It looks at how often values are told apart,
    not at how far they are moved, so it clips more than "mse" does, and far too much where
    large values matter. Same search as `MSE`.
    """

    def range(
        self, histogram: _core.Histogram, format: QuantFormat
    ) -> tuple[float, float]:
        """Return the range of highest entropy; [0, 0] without finite values."""
        return _core.max_entropy(histogram, format)

    def __str__(self) -> str:
        return "entropy"
