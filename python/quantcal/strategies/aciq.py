"""ACIQ: the optimal threshold of a known distribution, without a search."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from quantcal import _core
from quantcal._text import shown
from quantcal.formats import QuantFormat

Distribution = Literal["auto", "gauss", "laplace", "half_gauss", "half_laplace"]
Approximation = Literal["closed_form"]


@dataclass(frozen=True)
class ACIQ:
    """Analytic clipping for a Gaussian or Laplacian distribution, or half of one.

    R. Banner, Y. Nahshan, D. Soudry, "Post training 4-bit quantization of convolutional
    networks for rapid-deployment", NeurIPS 2019. The range reaches from mean - t to mean + t.
    For Laplace, t = a * b, where b is the mean of |x - mean| and a = W0(3 * 4^bits) (W0:
    Lambert's function). For Gauss, t = a * std, with a from the stationarity of equation 5.
    Half distributions are for values on one side of zero, such as the output of a ReLU. They
    start at zero and take the threshold of one bit more; their spread ignores zeros. Any bit
    width. For float formats the error of the fitted distribution is minimized numerically over
    the real levels. The range is never wider than the data. O(bins).

    For other distributions, such as heavy tails, the range may be far from the optimum. See
    docs/reference/strategies.md for figures.

    Parameters
    ----------
    distribution
        "auto" takes the distribution with the smallest Kolmogorov distance to the values (the
        maximum difference of the cumulative distributions). The report lists all distances.
        Half distributions are tried only for data on one side of zero.
    approximation
        "closed_form" takes sqrt(2 / pi) * std * sqrt(ln 2^bits) instead, which is far below the
        optimum. For Gaussian values it is 1.33 std at 4 bits, where 2.56 std is optimal, and
        1.88 std at 8 bits, where 3.92 std is. That is 6.9 and 188 times the minimum of equation
        5. On int4 and int8 it is 5.0 and about 180 times the minimum squared error.

    Raises
    ------
    CalibrationError
        If an argument is none of these, or values for a half distribution have both signs.
    """

    distribution: Distribution = "auto"
    approximation: Approximation | None = None

    def __post_init__(self) -> None:
        if self.distribution not in get_args(Distribution):
            allowed = ", ".join(f'"{name}"' for name in get_args(Distribution))
            msg = f"distribution is {shown(self.distribution)}, but it must be one of {allowed}"
            raise _core.CalibrationError(msg)
        if self.approximation not in (None, "closed_form"):
            msg = (
                f'approximation is {shown(self.approximation)}, but it must be "closed_form" '
                "or None"
            )
            raise _core.CalibrationError(msg)

    def range(
        self, histogram: _core.Histogram, format: QuantFormat
    ) -> tuple[float, float]:
        """Return the analytic range; the extremes if all values are equal or there are none."""
        low, high = histogram.min or 0.0, histogram.max or 0.0
        if self.distribution.startswith("half") and low < 0 < high:
            msg = (
                f"{self.distribution} is for values on one side of zero, but they reach from "
                f'{low:g} to {high:g}; use distribution="auto"'
            )
            raise _core.CalibrationError(msg)
        named = None if self.distribution == "auto" else self.distribution
        closed_form = self.approximation == "closed_form"
        return _core.aciq(histogram, named, closed_form, format)

    def explain(self, histogram: _core.Histogram, format: QuantFormat) -> str:
        """Return the distance of each distribution to the values."""
        fits = _core.fits(histogram)
        if not fits:
            return "no distribution fits: all values are equal"
        distances = ", ".join(f"{name} {distance:.3f}" for name, _, distance in fits)
        chosen = fits[0][0] if self.distribution == "auto" else self.distribution
        return f"{chosen}; Kolmogorov distances: {distances}"

    def __str__(self) -> str:
        options: list[str] = []
        if self.distribution != "auto":
            options.append(self.distribution)
        if self.approximation:
            options.append(self.approximation)
        return f"aciq({', '.join(options)})" if options else "aciq"
