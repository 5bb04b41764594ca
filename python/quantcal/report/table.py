"""The picture of a table of ranges: `CalibrationTable.plot`."""

from __future__ import annotations

from statistics import median
from typing import TYPE_CHECKING

import numpy as np

from quantcal._text import plural, shorten
from quantcal.params import QuantParams
from quantcal.report import canvas
from quantcal.report.canvas import CHOSEN, EDGE, SMALL, STRATEGY
from quantcal.report.scales import set_values_axis
from quantcal.table import CalibrationTable

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_ROW = 0.155
"""Height of a tensor's line in inches, for names of 7 points."""

_NAME = 44
"""Maximum characters of a name."""


def plot(table: CalibrationTable, ax: Axes | None = None) -> Axes:
    """Draw the ranges of all tensors beside their extremes; see `CalibrationTable.plot`."""
    names = list(table)
    ax = canvas.axes(ax, 9.0, 1.2 + _ROW * max(len(names), 4))
    canvas.tidy(ax)
    canvas.title(ax, _title(table), pad=18)
    _legend(ax)
    if not names:
        ax.set_yticks([])
        return ax
    seen = [_extremes(table, name) for name in names]
    ranges = [_reach(table[name]) for name in names]
    reach = [max(abs(low), abs(high)) for low, high in ranges]
    ends = [end for pair in (*seen, *ranges) if pair for end in pair]
    set_values_axis(ax, min(ends), max(ends), median(reach), room=0.02)
    ax.axvline(0, color=EDGE, lw=0.6, zorder=1)
    for row, name in enumerate(names):
        extremes, (low, high), step = (
            seen[row],
            ranges[row],
            float(np.max(table[name].scale)),
        )
        ax.plot([low, high], [row, row], color=STRATEGY, lw=3, solid_capstyle="butt")
        if extremes is None:
            continue
        ax.plot(extremes, [row, row], color=EDGE, lw=0.9, zorder=1.5)
        for end in extremes:
            # Clipped: moved further than rounding moves it.
            clipped = not low - step / 2 <= end <= high + step / 2
            color = CHOSEN if clipped else EDGE
            ax.plot([end], [row], color=color, marker="|", ms=5, mew=1.4, zorder=3)
    ax.set_ylim(len(names) - 0.4, -0.6)
    small = 7 if len(names) > 20 else SMALL
    ax.set_yticks(range(len(names)), shorten(names, _NAME), fontsize=small)
    ax.tick_params(axis="y", length=0)
    ax.grid(axis="x", color=canvas.GUIDE, lw=0.6, zorder=0)
    ax.set_axisbelow(True)
    return ax


def _title(table: CalibrationTable) -> str:
    formats = sorted({params.format for params in table.values()})
    return ", ".join([f"ranges of {plural(len(table), 'tensor')}", *formats])


def _reach(params: QuantParams) -> tuple[float, float]:
    """Return the ends of the range; by channel, those of all ranges together."""
    return float(np.min(params.low)), float(np.max(params.high))


def _extremes(table: CalibrationTable, name: str) -> tuple[float, float] | None:
    report = table.report.get(name)
    if report is None or report.min is None or report.max is None:
        return None
    return report.min, report.max


def _legend(ax: Axes) -> None:
    """Write the legend above the axes, in the colors of the marks."""
    parts = [
        ("━  range", STRATEGY),
        ("|  extremes seen", EDGE),
        ("|  outside it", CHOSEN),
    ]
    for number, (text, color) in enumerate(parts):
        ax.annotate(
            text, (0, 1), xycoords="axes fraction", xytext=(90 * number, 5),
            textcoords="offset points", color=color, fontsize=SMALL,
        )  # fmt: skip
