"""The drawn distribution of a histogram: density over bins of equal width on the page."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from quantcal._core import Histogram
from quantcal._text import share
from quantcal.report import colors
from quantcal.report.canvas import SMALL
from quantcal.report.scales import even_edges, set_values_axis

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Array = NDArray[Any]

_COUNT = 240
"""Number of bins drawn, each about three pixels wide at the usual size."""

_SPIKE = 0.01
"""Minimum share of zeros that is drawn separately: they have no density."""


@dataclass(frozen=True)
class Mass:
    """The number of values below a point; those of a bin are spread evenly over it."""

    low: Array
    high: Array
    count: Array

    @classmethod
    def of(cls, histogram: Histogram) -> Mass:
        """Return the mass of a histogram's finite values."""
        return cls(*histogram.bins())

    def below(self, points: Array) -> Array:
        """Return the number of values below each point, which are in rising order."""
        before = np.concatenate([[0.0], np.cumsum(self.count, dtype=np.float64)])
        at = np.searchsorted(self.high, points, side="left")
        inside = np.minimum(at, len(self.low) - 1)
        low, high = self.low[inside], self.high[inside]
        width = np.where(high > low, high - low, 1.0)
        part = np.clip((points - low) / width, 0.0, 1.0) * (high > low)
        part[at == len(self.low)] = 0.0
        found: Array = before[at] + part * self.count[inside]
        return found

    def without_zeros(self) -> Mass:
        """Return the mass of all values but exact zeros."""
        kept = (self.low != 0) | (self.high != 0)
        return Mass(self.low[kept], self.high[kept], self.count[kept])


def draw(
    ax: Axes,
    histogram: Histogram,
    *,
    low: float,
    high: float,
    width: float | None = None,
) -> Heights | None:
    """Draw a distribution; the axis of the values includes `low` and `high`.

    `width` is that of the drawing in points; None for all of the place.

    Returns
    -------
    The minimum and maximum density drawn, for the y axis. None without values or with a single
    one, which is written as text.
    """
    palette = colors.of(ax)
    minimum, maximum = histogram.min, histogram.max
    if minimum is None or maximum is None:
        ax.text(
            0.5,
            0.5,
            "no finite values",
            transform=ax.transAxes,
            ha="center",
            va="center",
            color=palette.text,
            fontsize=SMALL + 1,
        )
        set_values_axis(ax, low, high, 0.0, width=width)
        ax.set_yticks([])
        return None
    bulk = histogram.abs_quantile(0.99) or 0.0
    set_values_axis(ax, min(low, minimum), max(high, maximum), bulk, width=width)
    mass = Mass.of(histogram)
    total = float(histogram.finite)
    zeros = histogram.zeros / total
    if zeros >= _SPIKE:
        mass = mass.without_zeros()
        _spike(ax, 0.0, f"{share(zeros)} are 0")
    if not len(mass.low) or mass.low[0] == mass.high[-1]:
        for value, count in zip(mass.low, mass.count, strict=True):
            _spike(ax, float(value), f"{share(count / total)} are {value:g}")
        ax.set_yticks([])
        return None
    ax.set_yscale("log", nonpositive="clip")
    start, end = float(mass.low[0]), float(mass.high[-1])
    edges = even_edges(ax, start, end, _COUNT)
    below = mass.below(edges)
    below[-1] = mass.count.sum()
    counts = np.diff(below)
    density = counts / np.diff(edges) / total
    seen = density[
        counts >= min(0.5, counts.max())
    ]  # smaller counts are the rim of a bin
    heights = Heights(float(seen.min()), float(seen.max()))
    floor = heights.min / 1e12  # below any limit: bars stand on the axis
    ax.stairs(
        np.maximum(density, floor),
        edges,
        baseline=floor,
        fill=True,
        color=palette.fill,
        zorder=1,
    )
    ax.stairs(
        np.maximum(density, floor), edges, baseline=floor, color=palette.edge, lw=0.7
    )
    return heights


@dataclass(frozen=True)
class Heights:
    """The minimum and maximum density drawn."""

    min: float
    max: float


def _spike(ax: Axes, at: float, label: str) -> None:
    """Draw values that are all equal: a line to the top, with their share."""
    palette = colors.of(ax)
    ax.axvline(at, color=palette.edge, lw=2.5, zorder=1.5)
    right = at > np.mean(ax.get_xlim())
    ax.annotate(
        label,
        (at, 1.0),
        xycoords=ax.get_xaxis_transform(),
        xytext=(-5 if right else 5, -4),
        textcoords="offset points",
        ha="right" if right else "left",
        va="top",
        fontsize=SMALL,
        color=palette.text,
    )
