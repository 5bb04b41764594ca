"""The axis of the values: linear, or linear about zero and logarithmic beyond it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FAR = 10.0
"""Extremes this many times beyond the bulk need a logarithmic part, so that it has room."""


def set_values_axis(
    ax: Axes, low: float, high: float, bulk: float, *, room: float = 0.03
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
    """
    if low == high:
        reach = abs(low) or 1.0
        low, high = low - reach, high + reach
    reach = max(abs(low), abs(high))
    label = "value"
    if 0 < bulk < reach / FAR:
        linear = _round_up(bulk)
        label = f"value (logarithmic beyond ±{linear:g})"
        ax.set_xscale("symlog", linthresh=linear, linscale=1.5)
        ax.set_xticks(_ticks(low, high, linear), minor=False)
        ax.set_xticks([], minor=True)
    transform = ax.xaxis.get_transform()
    ends = transform.transform(np.array([low, high]))
    free = room * (ends[1] - ends[0])
    left, right = transform.inverted().transform(
        np.array([ends[0] - free, ends[1] + free])
    )
    ax.set_xlim(float(left), float(right))
    ax.set_xlabel(label)
    ax.xaxis.set_major_formatter(lambda x, _: f"{x:g}".replace("-", "−"))


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


def _ticks(low: float, high: float, linear: float) -> list[float]:
    """Return zero, the linear part in halves, and round numbers beyond it with gaps."""
    reach = max(abs(low), abs(high))
    apart = max(2.2, (reach / linear) ** 0.25)
    sides = [linear / 2, linear]
    first, last = math.floor(math.log10(linear)), math.floor(math.log10(reach))
    for power in range(first, last + 1):
        for multiple in (1, 2, 5) if apart < 5 else (1,):
            if (value := multiple * 10.0**power) >= apart * sides[-1]:
                sides.append(value)
    ticks = [0.0, *sides, *(-side for side in sides)]
    return sorted(tick for tick in ticks if low <= tick <= high)
