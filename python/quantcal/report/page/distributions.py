"""A tensor's distribution for the page: buckets, a sparkline, errors by threshold, channels.

A few hundred small numbers stand for a histogram of thousands of bins.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from quantcal import _core
from quantcal._core import ChannelStats, Histogram
from quantcal.formats import QuantFormat
from quantcal.params import QuantParams
from quantcal.report.page.numbers import short, shorts

PER_OCTAVE = 6
"""Buckets an octave. Bins have at most 1/8 octave, so that each falls into one bucket."""

OCTAVES = 18
"""Octaves below the largest magnitude that are drawn. A grid of 8 bits reaches 8 of them, one
of 16 bits 16."""

SPARKS = 28
"""Bins of a sparkline, of equal width from the minimum to the maximum."""

_CURVE_OCTAVES, _CURVE_STEPS = 9, 4  # thresholds of the curve of errors
_CURVE_BITS = 6  # bins of 1.6 %, which a line of 300 pixels does not resolve
_GROUPS = 256  # channels that are drawn; more share a cell


def draw_buckets(histogram: Histogram) -> dict[str, Any] | None:
    """Return the counts of logarithmic buckets of both signs; None without finite values.

    Bucket k has the magnitudes from ``top / 2**((k + 1) / 6)`` to ``top / 2**(k / 6)``.
    """
    if histogram.min is None or histogram.max is None:
        return None
    top = max(abs(histogram.min), abs(histogram.max))
    low, high, counts = histogram.bins()
    middle = (low + high) / 2
    sides = {}
    inside = np.zeros(len(middle), np.bool_)
    for name, side in (("pos", middle > 0), ("neg", middle < 0)):
        place = np.zeros(len(middle), np.int64)
        place[side] = np.floor(PER_OCTAVE * np.log2(top / np.abs(middle[side])) + 1e-9)
        drawn = side & (place < PER_OCTAVE * OCTAVES)
        inside |= drawn
        found = np.bincount(place[drawn], weights=counts[drawn].astype(np.float64))
        sides[name] = [int(count) for count in found]
    zeros = histogram.zeros
    tiny = int(counts[~inside].sum()) - zeros
    return {"top": short(top, 6), **sides, "zero": zeros, "tiny": max(tiny, 0)}


def draw_spark(histogram: Histogram) -> str:
    """Return a digit of 0 to 9 for each of some equal bins: the logarithm of its count."""
    low, high = histogram.min, histogram.max
    if low is None or high is None:
        return ""
    if low == high:
        return "9"
    counts, _ = histogram.rebin(SPARKS, low, high)
    top = np.log1p(max(int(counts.max()), 1))
    levels = np.ceil(9 * np.log1p(counts.astype(np.float64)) / top)
    return "".join(str(int(level)) for level in levels)


def error_curve(histogram: Histogram, format: QuantFormat) -> dict[str, Any] | None:
    """Return the SQNR and the clipped share by threshold; None if all values are 0.

    The range reaches from the minimum to the maximum, but no further from zero than the
    threshold.
    """
    if not histogram.min and not histogram.max:
        return None
    low, high = float(histogram.min or 0), float(histogram.max or 0)
    top = max(abs(low), abs(high))
    coarse = histogram
    if (histogram.mantissa_bits or 0) > _CURVE_BITS:
        coarse = histogram.coarsen(_CURVE_BITS)
    sqnr, clipped = [], []
    for k in range(_CURVE_OCTAVES * _CURVE_STEPS + 1):
        reach = top * 2.0 ** (-k / _CURVE_STEPS)
        ends = max(min(low, 0.0), -reach), min(max(high, 0.0), reach)
        scale, zero_point, *_ = _core.grid(format, *ends)
        _, decibels, share, *_ = _core.grid_error(
            coarse, format.name, scale, zero_point
        )
        sqnr.append(short(decibels))
        clipped.append(short(share, 3))
    return {"steps": _CURVE_STEPS, "sqnr": sqnr, "clipped": clipped}


def draw_channels(stats: ChannelStats) -> dict[str, Any]:
    """Return the minimum and maximum of each channel, or of groups of them."""
    return {
        "axis": stats.axis,
        "count": len(stats),
        "low": pool(stats.min, least=True),
        "high": pool(stats.max),
    }


def pool(values: NDArray[Any], *, least: bool = False) -> list[Any]:
    """Return the extremes of at most 256 groups of neighbors."""
    size = -(-len(values) // _GROUPS)
    starts = np.arange(0, len(values), size)
    real = values.astype(np.float64)
    # NaN stands for a channel without a finite value.
    function = np.fmin if least else np.fmax
    return shorts(function.reduceat(real, starts), 3)


def grid_of(params: QuantParams) -> dict[str, Any]:
    """Return what the page needs to draw the grid of one range."""
    format = QuantFormat(params.format, params.symmetric)
    return {
        "low": short(np.min(params.low), 6),
        "high": short(np.max(params.high), 6),
        "scale": short(np.max(params.scale), 6),
        "channels": 0 if params.axis is None else int(np.size(params.scale)),
        "format": params.format,
        "bits": format.bits,
        "float": format.is_float,
        "symmetric": params.symmetric,
    }
