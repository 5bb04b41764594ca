"""MinMax: clip nothing, or what is beyond the extremes of a usual observation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from quantcal import _core
from quantcal._text import shown
from quantcal.formats import QuantFormat

Reduce = Literal["extreme", "mean", "median"]


@dataclass(frozen=True)
class MinMax:
    """The finite minimum and maximum, of all values or of a usual observation.

    Safe where every value matters and there are no outliers (attention inputs, embeddings);
    one outlier makes all other values coarse. O(1).

    Parameters
    ----------
    reduce
        "extreme" takes the extremes of all values, exactly. "mean" and "median" take those of
        each observation (the moving average of PyTorch and ONNX Runtime, without its dependence
        on order), so that one odd batch counts as one; they come from histograms of the
        extremes, within their bins (0.4 %). They depend on how the data were split.

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
        """Whether the extremes of each observation are asked for."""
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
