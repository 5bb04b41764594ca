"""MinMax: clip nothing, or what is beyond the average extremes of an observation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from quantcal import _core
from quantcal._text import shown
from quantcal.formats import QuantFormat

Reduce = Literal["extreme", "mean", "median"]


@dataclass(frozen=True)
class MinMax:
    """The finite minimum and maximum, of all values or averaged over the observations.

    Safe where every value matters and there are no outliers (attention inputs, embeddings).
    One outlier reduces the resolution for all other values. O(1).

    Parameters
    ----------
    reduce
        "extreme" takes the exact extremes of all values. "mean" and "median" are over the
        extremes of each observation, so that one unusual batch counts once. This is like the
        moving average of PyTorch and ONNX Runtime, but independent of the order. The extremes
        are in histograms, with the resolution of their bins (0.4 %). The result depends on how
        the data are split into observations.

    Raises
    ------
    CalibrationError
        If `reduce` is none of these.

    Examples
    --------
    >>> import numpy as np, quantcal as qc
    >>> qc.calibrate(np.float32([-1.27, 0.5]), qc.MinMax()).scale
    0.009999999776482582
    """

    reduce: Reduce = "extreme"

    def __post_init__(self) -> None:
        if self.reduce not in get_args(Reduce):
            allowed = ", ".join(f'"{name}"' for name in get_args(Reduce))
            msg = f"reduce is {shown(self.reduce)}, but it must be one of {allowed}"
            raise _core.CalibrationError(msg)

    @property
    def needs_observations(self) -> bool:
        """Whether the extremes of each observation are required."""
        return self.reduce != "extreme"

    def range(
        self, histogram: _core.Histogram, format: QuantFormat
    ) -> tuple[float, float]:
        """Return the extremes of all values; [0, 0] without finite values."""
        return _core.minmax(histogram)

    def range_of(
        self, stats: _core.TensorStats, format: QuantFormat
    ) -> tuple[float, float]:
        """Return the extremes, reduced over the observations."""
        if self.reduce == "extreme":
            return _core.minmax(stats.histogram)
        low, high = self._reduced(stats.minima), self._reduced(stats.maxima)
        return min(low, high), max(low, high)

    def _reduced(self, extremes: _core.Histogram) -> float:
        value = extremes.mean() if self.reduce == "mean" else extremes.quantile(0.5)
        return 0.0 if value is None else value

    def __str__(self) -> str:
        return "minmax" if self.reduce == "extreme" else f"minmax({self.reduce})"
