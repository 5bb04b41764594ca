"""The axis of the values: linear, or linear about zero and logarithmic beyond it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from quantcal.report import canvas

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FAR = 10.0
"""Extremes this many times beyond the bulk need a logarithmic part, so that it has room."""

_LINSCALE = 1.8
"""Makes the linear part of each side as wide as two decades: matplotlib divides by 0.9."""

_TICK = 34.0
"""Minimum distance of ticks in points: "−5000" in small letters, with some room."""


def set_values_axis(
    ax: Axes,
    low: float,
    high: float,
    bulk: float,
    *,
    room: float = 0.03,
    width: float | None = None,
) -> None:
    """Set scale, limits, ticks and label of the x axis.

    Parameters
    ----------
    low, high
        The minimum and maximum value to show.
    bulk
        The magnitude that nearly all values are below.
    room
        Share of the width that is free on each side.
    width
        Points from end to end, for the number of ticks; None for the whole place.
    """
    from matplotlib.ticker import MaxNLocator

    if low == high:
        reach = abs(low) or 1.0
        low, high = low - reach, high + reach
    reach = max(abs(low), abs(high))
    text = "value"
    width = canvas.size(ax)[0] if width is None else width
    most = max(3, int(width / _TICK))
    if 0 < bulk < reach / FAR:
        linear = _round_up(bulk)
        text = f"value (logarithmic beyond ±{_number(linear)})"
        ax.set_xscale("symlog", linthresh=linear, linscale=_LINSCALE)
        ax.set_xticks(_ticks(low, high, linear, most), minor=False)
        ax.set_xticks([], minor=True)
    else:
        ax.xaxis.set_major_locator(MaxNLocator(min(most, 9), steps=[1, 2, 2.5, 5, 10]))
    transform = ax.xaxis.get_transform()
    ends = transform.transform(np.array([low, high]))
    free = room * (ends[1] - ends[0])
    left, right = transform.inverted().transform(
        np.array([ends[0] - free, ends[1] + free])
    )
    ax.set_xlim(float(left), float(right))
    canvas.label(ax.xaxis, text, width)
    ax.xaxis.set_major_formatter(lambda x, _: _number(x))


def even_edges(ax: Axes, low: float, high: float, count: int) -> NDArray[Any]:
    """Return edges of `count` bins from `low` to `high` of equal width on the page."""
    transform = ax.xaxis.get_transform()
    ends = transform.transform(np.array([low, high]))
    inside = transform.inverted().transform(np.linspace(ends[0], ends[1], count + 1))[
        1:-1
    ]
    edges: NDArray[Any] = np.concatenate([[low], inside, [high]])
    return edges


def _round_up(value: float) -> float:
    """Return the next of 1, 2, 5, 10, 20, …"""
    power = 10.0 ** math.floor(math.log10(value))
    return next(m * power for m in (1, 2, 5, 10) if m * power >= value * 0.999)


def _ticks(low: float, high: float, linear: float, most: int) -> list[float]:
    """Return ticks that are evenly apart on the page, no more than `most` of them.

    One step from zero is half of the linear part, two are all of it, and each further one is
    a decade. Steps of two and four skip ticks, so that the distances stay equal.
    """
    first, last = (_steps(end, linear) for end in (low, high))
    stride = 1
    while (last // stride) - math.ceil(first / stride) + 1 > most and stride < 64:
        stride *= 2
    places = range(math.ceil(first / stride) * stride, math.floor(last) + 1, stride)
    return [_value(place, linear) for place in places]


def _steps(value: float, linear: float) -> float:
    """Return the distance of a value from zero in steps of ticks, with its sign."""
    size = abs(value) / linear
    steps = 2 * size if size <= 1 else 2 + math.log10(size)
    return math.copysign(steps, value)


def _value(place: int, linear: float) -> float:
    size = linear * (place / 2 if abs(place) <= 2 else 10.0 ** (abs(place) - 2))
    return math.copysign(abs(size), place) if place else 0.0


def _number(value: float) -> str:
    """Return a number as short as possible: 2.5, 50000, 1e6."""
    text = f"{value:.6g}" if 1e-4 <= abs(value) < 1e6 or value == 0 else f"{value:.3g}"
    mantissa, e, power = text.partition("e")
    text = f"{mantissa}e{int(power)}" if e else mantissa
    return text.replace("-", "−")
