"""Percentile: cover a given share of the values."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

from quantcal import _core
from quantcal._plain_values import as_flag, as_real
from quantcal._text import shown
from quantcal.formats import QuantFormat

Tails = Literal["split", "each"]

_MIN_CUT = 1e-4  # percent
_MAX_CUT = 50.0


@dataclass(frozen=True)
class Percentile:
    """The range that covers `percentile` percent of the values.

    Symmetric scaling takes the percentile of |x|, affine scaling a low and a high percentile.
    They are exact order statistics for 16-bit data, and interpolated within a bin (0.4 %)
    otherwise. O(bins).

    Parameters
    ----------
    percentile
        In percent, from 1 to 100. The default of 99.99 cuts one value in ten thousand.
        Values below 1 are refused, as 0.999 is probably a share, which is 99.9 here. 1 itself
        is one percent.
    tails
        What affine scaling cuts. "split" cuts half of the rest at each end, so that it covers
        `percentile` percent. "each" cuts all of it at each end.
    adaptive
        Cut c / kurtosis percent instead of 100 - `percentile`. Heavier tails carry more of the
        signal, so less of them is cut. For Gauss and Laplace, take kurtosis times the share
        beyond ACIQ's threshold for the format's bits; c is the geometric mean of both.

        At 8 bits c is 0.028. That covers 99.991 percent of Gaussian values, whose kurtosis is
        3, and 99.995 of Laplacian ones, whose kurtosis is 6. The minimum squared error covers
        the same. At 4 bits it covers 98.83 and 99.41, ACIQ's thresholds 98.95 and 99.35, and
        the minimum error of int4, which has 15 levels, 98.2 and 99.0. The cut is at least
        0.0001 percent.

    Raises
    ------
    CalibrationError
        If `percentile` is not from 1 to 100, or another option is none of these.

    Examples
    --------
    >>> import numpy as np, quantcal as qc
    >>> x = np.random.default_rng(0).normal(size=100_000).astype(np.float32)
    >>> round(qc.calibrate(x, qc.Percentile(99)).high, 2)
    2.58
    """

    percentile: float = 99.99
    tails: Tails = "split"
    adaptive: bool = False

    def __post_init__(self) -> None:
        percentile = as_real(self.percentile)
        if percentile is None or not 0 < percentile <= 100:
            msg = (
                f"percentile is {shown(self.percentile)}, but it must be above 0 and at most "
                "100"
            )
            raise _core.CalibrationError(msg)
        if percentile < 1:
            # Twelve digits: 100 * 0.9999 is 99.99000000000001.
            msg = (
                f"percentile is {percentile!r}, but it is in percent and must be at least "
                f"1; for a share of {percentile:.12g} of the values give "
                f"{100 * percentile:.12g}"
            )
            raise _core.CalibrationError(msg)
        object.__setattr__(self, "percentile", percentile)
        if self.tails not in get_args(Tails):
            msg = f'tails is {shown(self.tails)}, but it must be "split" or "each"'
            raise _core.CalibrationError(msg)
        adaptive = as_flag(self.adaptive)
        if adaptive is None:
            msg = f"adaptive is {shown(self.adaptive)}, but it must be True or False"
            raise _core.CalibrationError(msg)
        object.__setattr__(self, "adaptive", adaptive)

    def range(
        self, histogram: _core.Histogram, format: QuantFormat
    ) -> tuple[float, float]:
        """Return the covering range; [0, 0] without finite values."""
        percentile = self._percentile(histogram, format)
        each = self.tails == "each"
        return _core.percentile(histogram, percentile / 100, each, format)

    def explain(self, histogram: _core.Histogram, format: QuantFormat) -> str:
        """Return the percentile that follows from the kurtosis, if adaptive."""
        if not self.adaptive:
            return ""
        kurtosis = histogram.kurtosis() or 0.0
        percentile = self._percentile(histogram, format)
        return f"percentile {percentile:.6g} for a kurtosis of {kurtosis:.3g}"

    def _percentile(self, histogram: _core.Histogram, format: QuantFormat) -> float:
        if not self.adaptive:
            return self.percentile
        kurtosis = max(histogram.kurtosis() or 0.0, 1.0)  # 1 is the minimum
        cut = _share_times_kurtosis(format.bits) / kurtosis
        return 100.0 - min(max(cut, _MIN_CUT), _MAX_CUT)

    def __str__(self) -> str:
        extra = "_each" if self.tails == "each" else ""
        if self.adaptive:
            return f"percentile_adaptive{extra}"
        number = float(self.percentile)
        return (
            f"percentile_{number:g}" + extra
            if float(f"{number:g}") == number
            else (f"percentile_{number!r}{extra}")
        )


def _share_times_kurtosis(bits: int) -> float:
    """Percent beyond ACIQ's threshold times kurtosis: geometric mean of Gauss and Laplace."""
    gauss, laplace = (_core.share_beyond(name, bits) for name in ("gauss", "laplace"))
    return 100.0 * math.sqrt(3.0 * gauss * 6.0 * laplace)
