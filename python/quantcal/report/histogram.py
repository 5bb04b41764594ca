"""The picture of a histogram: `Histogram.plot`."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from quantcal._core import Histogram
from quantcal._text import amount, plural, share
from quantcal.report import canvas, density

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def plot(histogram: Histogram, ax: Axes | None = None) -> Axes:
    """Draw the distribution of a histogram's finite values; see `Histogram.plot`."""
    ax = canvas.axes(ax, 7.0, 3.6)
    zero = 0.0 if histogram.min is None else histogram.min
    heights = density.draw(ax, histogram, low=zero, high=zero)
    canvas.tidy(ax)
    canvas.title(ax, _title(histogram))
    if heights is not None:
        ax.set_ylabel("share of values per unit")
        bottom = 10.0 ** math.floor(math.log10(heights.min))
        ax.set_ylim(bottom, 3 * heights.max)
    return ax


def _title(histogram: Histogram) -> str:
    parts = [
        plural(histogram.count, "value")
        if histogram.count < 10_000
        else f"{amount(histogram.count)} values"
    ]
    if histogram.min is not None and histogram.max is not None:
        parts.append(f"{histogram.min:.3g} to {histogram.max:.3g}".replace("-", "−"))
        if histogram.zeros:
            parts.append(f"{share(histogram.zeros / histogram.finite)} zeros")
    if histogram.nan:
        parts.append(f"{amount(histogram.nan)} NaN")
    if histogram.posinf + histogram.neginf:
        parts.append(f"{amount(histogram.posinf + histogram.neginf)} infinite")
    return ", ".join(parts)
