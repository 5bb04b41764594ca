"""MaxEntropy: maximize the information in the codes."""

from __future__ import annotations

from dataclasses import dataclass

from quantcal import _core
from quantcal.formats import QuantFormat


@dataclass(frozen=True)
class MaxEntropy:
    """The range whose codes have the highest Shannon entropy.

    The entropy is -sum(p ln p) over the codes, where p is the share of the values with a code.
    Its maximum uses the codes as evenly as possible, as information-preserving low-bit
    quantizers do (H. Qin et al., "Forward and Backward Information Retention for Accurate
    Binary Neural Networks", CVPR 2020). Entropy measures how often values get different codes,
    not how large their errors are. So it clips more than "mse", and far too much where large
    values matter. Same search as `MSE`.
    """

    def range(
        self, histogram: _core.Histogram, format: QuantFormat
    ) -> tuple[float, float]:
        """Return the range of highest entropy; [0, 0] without finite values."""
        return _core.max_entropy(histogram, format)

    def __str__(self) -> str:
        return "entropy"
