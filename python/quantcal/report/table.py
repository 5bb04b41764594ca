"""The picture of a table of ranges: `CalibrationTable.plot`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import median
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from quantcal._core import CalibrationError
from quantcal._text import decibels, plural, shorten, shown
from quantcal.params import QuantParams
from quantcal.report import canvas, colors
from quantcal.report.canvas import SMALL
from quantcal.report.scales import set_values_axis
from quantcal.table import CalibrationTable

if TYPE_CHECKING:
    from matplotlib.axes import Axes

TableOrder = Literal["error", "table"]
"""The orders of rows: the lowest SQNR first, or that of the table."""

_ROW = 0.155
"""Height of a tensor's line in inches, for names of 7 points."""

_SMALLEST = 5.0
"""Smallest letters in points; where a line has less room, tensors are left out."""

_NAME = 44
"""Maximum characters of a name."""

_CHANNELS = 32
"""Maximum number of channels that are drawn one by one; of more, every n-th is."""

_TALL = 3
"""Lines that a tensor by channel takes."""

_BELOW = 2.2 * SMALL + canvas.LABEL + 6
"""Room below the axes in points."""


def plot(
    table: CalibrationTable, ax: Axes | None = None, *, order: TableOrder = "error"
) -> Axes:
    """Draw the ranges of all tensors beside their extremes; see `CalibrationTable.plot`."""
    canvas.check(ax)
    if order not in get_args(TableOrder):
        msg = f'order is {shown(order)}, but it must be "error" or "table"'
        raise CalibrationError(msg)
    names = list(table)
    if order == "error":
        names.sort(key=lambda name: _sqnr(table, name))
    own = ax is None
    lines = sum(_lines(table[name]) for name in names)
    ax = canvas.axes(ax, 9.0, 1.2 + _ROW * max(lines, 4))
    width, height = canvas.size(ax)
    room = height - _BELOW - 2.6 * canvas.TITLE - 20
    line = canvas.POINTS * _ROW
    if not own:
        names = _fitting(table, names, room)
        lines = sum(_lines(table[name]) for name in names)
        line = min(line, room / max(lines + 1, 2))
    letters = min(7.0 if len(names) > 20 else SMALL, 0.83 * line)
    labels = shorten(names, _NAME)
    left = max((canvas.width_of(each, letters) for each in labels), default=0.0) + 10
    left = left if own else min(left, 0.4 * width)
    right = 6.5 * letters if any(math.isfinite(_sqnr(table, n)) for n in names) else 6.0
    drawn = width - left - right
    canvas.tidy(ax)
    text = _title(table, len(names), order)
    title_lines = canvas.title(ax, text, drawn, pad=18)
    canvas.reserve(ax, left, right, title_lines * 1.3 * canvas.TITLE + 20, _BELOW)
    if not names:
        ax.set_yticks([])
        return ax
    _legend(ax, drawn)
    places = _places([_lines(table[name]) for name in names])
    _draw(ax, table, names, places, drawn)
    labels = canvas.fitted_names(names, _NAME, left - 8, letters)
    ax.set_yticks(places, labels, fontsize=letters, parse_math=False)
    _figures(ax, table, names, places, letters)
    return ax


def _fitting(table: CalibrationTable, names: list[str], room: float) -> list[str]:
    """Return the first tensors, as many as have room for legible names."""
    kept: list[str] = []
    taken = 1
    for name in names:
        taken += _lines(table[name])
        if kept and taken * _SMALLEST / 0.83 > room:
            break
        kept.append(name)
    return kept


def _lines(params: QuantParams) -> int:
    return 1 if params.axis is None else _TALL


def _places(lines: Sequence[int]) -> list[float]:
    """Return the middle of each tensor's lines, the first at 0."""
    ends = np.cumsum(lines)
    return [float(end - n / 2 - 0.5) for end, n in zip(ends, lines, strict=True)]


def _draw(
    ax: Axes,
    table: CalibrationTable,
    names: list[str],
    places: list[float],
    width: float,
) -> None:
    """Draw a bar for each range, and a line for what was seen."""
    palette = colors.of(ax)
    seen = [_extremes(table, name) for name in names]
    ranges = [_reach(table[name]) for name in names]
    reach = [max(abs(low), abs(high)) for low, high in ranges]
    ends = [end for pair in (*seen, *ranges) if pair for end in pair]
    set_values_axis(ax, min(ends), max(ends), median(reach), room=0.02, width=width)
    ax.axvline(0, color=palette.edge, lw=0.6, zorder=1)
    for name, y, extremes, (low, high) in zip(names, places, seen, ranges, strict=True):
        params = table[name]
        for each_y, each, lw in _bars(params, y):
            ax.plot(
                each, [each_y] * 2, color=palette.strategy, lw=lw, solid_capstyle="butt"
            )
        if extremes is None:
            continue
        ax.plot(extremes, [y, y], color=palette.edge, lw=0.9, zorder=1.5)
        step = float(np.max(params.scale))
        for end in extremes:
            # Clipped: moved further than rounding moves it.
            clipped = not low - step / 2 <= end <= high + step / 2
            color = palette.chosen if clipped else palette.edge
            ax.plot([end], [y], color=color, marker="|", ms=5, mew=1.4, zorder=3)
    ax.set_ylim(places[-1] + _lines(table[names[-1]]) / 2 + 0.1, -1.2)
    ax.tick_params(axis="y", length=0)
    ax.grid(axis="x", color=palette.guide, lw=0.6, zorder=0)
    ax.set_axisbelow(True)


def _bars(params: QuantParams, y: float) -> list[tuple[float, list[float], float]]:
    """Return the bars of a range, or of the ranges of all channels: place, ends, thickness."""
    if params.axis is None:
        return [(y, [float(params.low), float(params.high)], 3.0)]
    low, high = np.asarray(params.low), np.asarray(params.high)
    some = range(0, len(low), math.ceil(len(low) / _CHANNELS))
    top, depth = y - 0.42 * _TALL, 0.84 * _TALL
    thick = min(3.0, 0.6 * depth * _ROW * canvas.POINTS / len(some))
    return [
        (
            top + depth * (number + 0.5) / len(some),
            [float(low[k]), float(high[k])],
            thick,
        )
        for number, k in enumerate(some)
    ]


def _figures(
    ax: Axes,
    table: CalibrationTable,
    names: list[str],
    places: list[float],
    letters: float,
) -> None:
    """Write the SQNR of each tensor on the right."""
    if not any(math.isfinite(_sqnr(table, name)) for name in names):
        return
    color = colors.of(ax).text

    def beside(y: float, text: str, **style: Any) -> None:
        ax.annotate(
            text, (1, y), xycoords=ax.get_yaxis_transform(), ha="right", va="center",
            xytext=(6.2 * letters, 0), textcoords="offset points", fontsize=letters,
            color=color, annotation_clip=False, **style,
        )  # fmt: skip

    beside(-0.9, "SQNR", weight="bold")
    for name, y in zip(names, places, strict=True):
        if name in table.report:
            beside(y, decibels(_sqnr(table, name)))


def _sqnr(table: CalibrationTable, name: str) -> float:
    """Return a tensor's SQNR; infinite where it is not known."""
    report = table.report.get(name)
    return math.inf if report is None or math.isnan(report.sqnr_db) else report.sqnr_db


def _title(table: CalibrationTable, count: int, order: str) -> str:
    formats = sorted({params.format for params in table.values()})
    what = plural(len(table), "tensor")
    if count < len(table):
        part = "worst" if order == "error" else "first"
        what = f"the {part} {count} of {what}"
    return ", ".join([f"ranges of {what}", *formats])


def _reach(params: QuantParams) -> tuple[float, float]:
    """Return the ends of the range; by channel, those of all ranges together."""
    return float(np.min(params.low)), float(np.max(params.high))


def _extremes(table: CalibrationTable, name: str) -> tuple[float, float] | None:
    report = table.report.get(name)
    if report is None or report.min is None or report.max is None:
        return None
    return report.min, report.max


def _legend(ax: Axes, width: float) -> None:
    """Write the legend above the axes, in the colors of the marks, as far as it fits."""
    palette = colors.of(ax)
    parts = [
        ("━  range", palette.strategy),
        ("|  extremes seen", palette.edge),
        ("|  outside it", palette.chosen),
    ]
    start = 0.0
    for text, color in parts:
        length = canvas.width_of(text, SMALL)
        if start + length > width:
            break
        ax.annotate(
            text, (0, 1), xycoords="axes fraction", xytext=(start, 5),
            textcoords="offset points", color=color, fontsize=SMALL,
        )  # fmt: skip
        start += length + 14
