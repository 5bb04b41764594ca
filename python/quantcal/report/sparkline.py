"""The shape of a histogram as a small SVG, for tables in notebooks."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from quantcal._core import Histogram
from quantcal._text import real

_BARS = 64
"""Number of bars."""

_BULK = 0.99
"""The scale is linear up to this quantile of the magnitudes, and logarithmic beyond it."""


def small(histogram: Histogram) -> str:
    """Return a picture for a cell of a table; empty without finite values."""
    return _svg(histogram, 120, 22, labels=False)


def large(histogram: Histogram) -> str:
    """Return a picture with the minimum, zero and the maximum below it."""
    return _svg(histogram, 420, 110, labels=True)


def _svg(histogram: Histogram, width: int, height: int, *, labels: bool) -> str:
    low, high = histogram.min, histogram.max
    if low is None or high is None:
        return ""
    across = _Scale(histogram, low, high, width)
    heights = _heights(histogram, across)
    top, foot = 1.0, 16.0 if labels else 1.0
    room = height - top - foot
    step = width / _BARS
    # One path; a light file matters in tables of many tensors.
    bars = "".join(
        f"M{k * step:.1f} {height - foot:g}v{-room * h:.1f}h{step:.1f}v{room * h:.1f}z"
        for k, h in enumerate(heights)
        if h > 0
    )
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
        f'viewBox="0 0 {width} {height}" role="img" aria-label="{_label(histogram)}">',
        # The color of the text around it, so that it is legible in light and dark notebooks.
        f'<path d="{bars}" fill="currentColor" fill-opacity="0.45"/>',
        f'<path d="M0 {height - foot:g}H{width}" stroke="currentColor" stroke-opacity="0.6" '
        'fill="none"/>',
    ]
    if labels:
        parts += _ends(across, low, high, width, height)
    return "".join([*parts, "</svg>"])


def _ends(
    across: _Scale, low: float, high: float, width: int, height: int
) -> list[str]:
    places = [(0.0, low, "start"), (float(width), high, "end")]
    zero = across(0.0)
    if low < 0 < high and 70 < zero < width - 70:
        places.insert(1, (zero, 0.0, "middle"))
    return [
        f'<text x="{x:.0f}" y="{height - 3}" text-anchor="{anchor}" font-size="11" '
        f'fill="currentColor">{real(value).replace("-", "−")}</text>'
        for x, value, anchor in places
    ]


class _Scale:
    """Places values across the picture: linear in the bulk, logarithmic beyond it."""

    def __init__(
        self, histogram: Histogram, low: float, high: float, width: float
    ) -> None:
        bulk = histogram.abs_quantile(_BULK) or 0.0
        self._unit = bulk or max(abs(low), abs(high)) or 1.0
        # A single value stands in the middle.
        ends = (low, high) if low < high else (low - self._unit, high + self._unit)
        self._start, self._end = (math.asinh(end / self._unit) for end in ends)
        self._width = width

    def __call__(self, value: float) -> float:
        part = (math.asinh(value / self._unit) - self._start) / (
            self._end - self._start
        )
        return part * self._width

    def edges(self) -> NDArray[np.float64]:
        """Return the edges of the bars as values."""
        return np.sinh(np.linspace(self._start, self._end, _BARS + 1)) * self._unit


def _heights(histogram: Histogram, across: _Scale) -> NDArray[np.float64]:
    """Return the heights of the bars from 0 to 1, logarithmic in the count."""
    low, high, count = histogram.bins()
    edges = across.edges()
    middles = (low.astype(np.float64) + high) / 2
    place = np.clip(np.searchsorted(edges, middles, side="right") - 1, 0, _BARS - 1)
    bars = np.bincount(place, weights=count, minlength=_BARS)
    logs = np.log1p(bars)
    total: NDArray[np.float64] = logs / logs.max()
    return total


def _label(histogram: Histogram) -> str:
    """Return what the picture shows, for readers who do not see it."""
    low, high = real(histogram.min), real(histogram.max)
    return f"distribution of {histogram.finite} values from {low} to {high}"
