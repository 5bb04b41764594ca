"""MinMax: clip nothing."""

from __future__ import annotations

from dataclasses import dataclass

from quantcal import _core


@dataclass(frozen=True)
class MinMax:
    """The finite minimum and maximum.

    Safe where every value matters and there are no outliers (attention inputs, embeddings);
    one outlier makes all other values coarse. O(1).

    Examples
    --------
    >>> import numpy as np, quantcal as qc
    >>> qc.calibrate(np.float32([-1.27, 0.5]), qc.MinMax()).scale
    0.009999999776482582
    """

    def range(
        self, histogram: _core.Histogram, format: str, symmetric: bool
    ) -> tuple[float, float]:
        """Return the finite extremes; [0, 0] without finite values."""
        return _core.minmax(histogram)

    def __str__(self) -> str:
        return "minmax"
