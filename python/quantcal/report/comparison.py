"""The picture of a comparison: one tensor's distribution and every range below it.

`network.py` draws several tensors.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from quantcal._core import CalibrationError, Histogram
from quantcal._text import decibels, share
from quantcal.comparison.comparison import Comparison
from quantcal.comparison.score import Score
from quantcal.formats import QuantFormat
from quantcal.params import QuantParams
from quantcal.report import canvas, colors, density, network
from quantcal.report.canvas import SMALL
from quantcal.report.density import Heights

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MAX_POINTS = 1024
"""Above this number of levels, points would merge to a band."""

_ROW = 0.19
"""Height of a strategy's line below a distribution, in inches."""

_ABOVE = 2.9
"""Height of the distribution above the lines of strategies, in inches."""

_MAX_SHARE = 0.6
"""Share of the height that the lines take at most."""

_SMALLEST = 5.0
"""Smallest letters in points; smaller ones are not drawn, and strategies are left out."""

_NUMBERS = 48.0
"""Room for the numbers and the name of the y axis, in points."""

_BELOW = 2.6 * SMALL + canvas.LABEL
"""Room below the axes in points."""


class _Room(NamedTuple):
    """What fits into the place of the axes.

    Attributes
    ----------
    rows
        The strategies in their order; those with the minimum error if not all fit.
    share
        Share of the height of the axes that their lines take.
    size
        Size of the letters in points.
    left, right
        Room beside the axes in points.
    columns
        How many columns of figures there are, 0 to 2.
    """

    rows: list[Score]
    share: float
    size: float
    left: float
    right: float
    columns: int


def plot(
    comparison: Comparison, ax: Axes | None = None, strategy: str | None = None
) -> Axes:
    """Draw one tensor's values and ranges; see `Comparison.plot`."""
    if len(comparison.tensors) > 1:
        return network.plot(comparison, ax, strategy)
    canvas.check(ax)
    chosen, params = _chosen(comparison, strategy)
    own = ax is None
    ax = canvas.axes(ax, *figure_size(comparison))
    width, height = canvas.size(ax)
    room = _room(comparison, chosen, width, height, own=own)
    drawn = width - room.left - room.right
    histogram = comparison.histograms[chosen.tensor]
    ends = [end for row in room.rows if row.params for end in _ends(row.params)]
    heights = density.draw(ax, histogram, low=min(ends), high=max(ends), width=drawn)
    canvas.tidy(ax)
    note = 1.6 * SMALL
    lines = canvas.title(ax, comparison.title, drawn, pad=note + 6)
    top = lines * 1.3 * canvas.TITLE + note + 8
    canvas.reserve(ax, room.left, room.right, top, _BELOW)
    if heights is not None:
        middle = (1 + room.share) / 2
        upper = (height - top - _BELOW) * (1 - room.share)
        words = ("share of values per unit", "share per unit", "density", "")
        label = next(w for w in words if canvas.width_of(w, canvas.LABEL) <= upper)
        if upper < 5 * SMALL:
            for covering in list(ax.texts):  # words beside a line of zeros
                covering.remove()
        ax.set_ylabel(label, y=middle, ha="center", va="bottom", fontsize=canvas.LABEL)
        used = _draw_levels(ax, histogram, params, drawn)
        low, high = min(used.min, heights.min), max(used.max, heights.max)
        _share_height(ax, low, high, room.share, upper)
    _draw_rows(ax, comparison, chosen, room)
    return ax


def figure_size(comparison: Comparison) -> tuple[float, float]:
    """Return width and height of a figure with all strategies, in inches."""
    if len(comparison.tensors) > 1:
        return network.figure_size(comparison)
    return 9.0, _ABOVE + _ROW * (len(comparison) + 1) + 0.7


def _room(
    comparison: Comparison, chosen: Score, width: float, height: float, *, own: bool
) -> _Room:
    """Divide the place: figures and strategies go before the drawing becomes too small."""
    axes = height if own else height - _BELOW - 3.5 * SMALL
    fitting = max(1, int(_MAX_SHARE * axes / (1.25 * _SMALLEST)) - 1)
    rows = list(comparison)
    if len(rows) > fitting:
        best = sorted(rows, key=lambda row: (row is not chosen, _rank(row)))[:fitting]
        rows = [row for row in rows if row in best]
    line = canvas.POINTS * _ROW if own else _MAX_SHARE * axes / (len(rows) + 1)
    line = min(line, canvas.POINTS * _ROW)
    size = min(SMALL, 0.83 * line)
    names = max(canvas.width_of(row.strategy, size) for row in rows) + 10
    left = max(min(names, 0.3 * width), _NUMBERS)
    columns = 2
    while columns and width - left - _right(columns, size) < 0.4 * width:
        columns -= 1
    share = min(line * (len(rows) + 1) / axes, _MAX_SHARE)
    return _Room(rows, share, size, left, _right(columns, size), columns)


def _rank(row: Score) -> float:
    return math.inf if math.isnan(row.mse) else row.mse


def _right(columns: int, size: float) -> float:
    """Return the room for columns of figures: as "<0.001 %" and "148.6 dB" need it."""
    return 6.0 + columns * 5.9 * size


def _chosen(comparison: Comparison, strategy: str | None) -> tuple[Score, QuantParams]:
    if strategy is None:
        strategy = comparison.best().strategy
    for row in comparison:
        if row.strategy == strategy:
            if row.params is None:
                raise CalibrationError(f"{strategy} does not apply here: {row.error}")
            if row.params.axis is not None:
                msg = (
                    f"a picture has room for one range, and {row.tensor} is by channel"
                )
                raise CalibrationError(f"{msg}; compare calibrator[name] instead")
            return row, row.params
    known = ", ".join(comparison.strategies)
    msg = f'strategy "{strategy}" was not compared; those that were: {known}'
    raise CalibrationError(msg)


def _draw_levels(
    ax: Axes, histogram: Histogram, params: QuantParams, width: float
) -> Heights:
    """Draw the quantized values of the chosen strategy; return the heights drawn."""
    color = colors.of(ax).chosen
    levels = _levels(params)
    middles = 0.5 * (levels[1:] + levels[:-1])
    below = density.Mass.of(histogram).below(middles)
    counts = np.diff(below, prepend=0.0, append=float(histogram.finite))
    # The outermost levels hold all values beyond them; their width is one step.
    widths = np.diff(middles)
    widths = np.concatenate(
        [[levels[1] - levels[0]], widths, [levels[-1] - levels[-2]]]
    )
    heights = counts / histogram.finite / widths
    used = heights > 0
    many = len(levels) > _MAX_POINTS
    ax.plot(
        levels[used],
        heights[used],
        color=color,
        ls="-" if many else "",
        marker="" if many else "o",
        ms=4.5 if len(levels) <= 32 else 1.8,
        mew=0,
        lw=1.0,
        zorder=3,
    )
    count = f"●  {int(used.sum())}"
    notes = (
        f"{count} of {len(levels)} levels used by {params.strategy}",
        f"{count} of {len(levels)} levels",
        f"{count} levels",
        "",
    )
    note = next(n for n in notes if canvas.width_of(n, SMALL + 1) <= width)
    ax.annotate(
        note,
        (0.0, 1.0),
        xycoords="axes fraction",
        xytext=(0, 6),
        textcoords="offset points",
        color=color,
        fontsize=SMALL + 1,
    )
    return Heights(float(heights[used].min()), float(heights.max()))


def _ends(params: QuantParams) -> list[float]:
    return [float(params.low), float(params.high)]


def _levels(params: QuantParams) -> np.ndarray[Any, Any]:
    """Return the real values of the codes, rising."""
    format = QuantFormat(params.format)
    codes = np.arange(1 << format.bits)
    if not format.is_float and format.name.startswith("int"):
        codes = codes - (1 << (format.bits - 1))
    values = params.dequantize(codes.astype(format.storage)).astype(np.float64)
    return np.unique(values[np.isfinite(values)])


def _share_height(ax: Axes, low: float, high: float, rows: float, upper: float) -> None:
    """Set the y axis so that densities stay above the lines of the strategies.

    `upper` is the height of the densities in points.
    """
    bottom, top = math.log10(low) - 0.15, math.log10(high) + 0.3
    below = (top - bottom) * rows / (1 - rows)
    ax.set_ylim(10 ** (bottom - below), 10**top)
    decades = range(math.ceil(bottom), math.floor(top) + 1)
    most = min(8, max(2, int(upper / (2 * SMALL))))
    step = math.ceil(len(decades) / most) or 1
    ax.set_yticks([10.0**decade for decade in decades][::-step])
    ax.set_yticks([], minor=True)
    ax.spines["left"].set_bounds(10**bottom, 10**top)


def _draw_rows(ax: Axes, comparison: Comparison, chosen: Score, room: _Room) -> None:
    """Draw a line per strategy, with its name on the left and its figures on the right."""
    palette = colors.of(ax)
    across = ax.get_xaxis_transform()
    _cover(ax, room.share)
    step = room.share / (len(room.rows) + 1)
    first = room.share - 0.45 * step
    _beside(ax, first, ("SQNR", "clipped"), room, palette.text, weight="bold")
    missing = len(comparison) - len(room.rows)
    if missing:
        _name(ax, first, f"{missing} more", room, palette.edge)
    for number, row in enumerate(room.rows):
        y = room.share - (number + 1.45) * step
        is_chosen = row is chosen
        color = palette.chosen if is_chosen else palette.strategy
        words = palette.chosen if is_chosen else palette.text
        ax.plot(
            [0, 1],
            [y, y],
            transform=ax.transAxes,
            color=palette.guide,
            lw=0.6,
            zorder=2.1,
        )
        _name(ax, y, row.strategy, room, words)
        if row.params is None:
            ax.text(
                0.5, y, "does not apply", transform=ax.transAxes, ha="center", va="center",
                fontsize=room.size, color=palette.text, style="italic", zorder=2.4,
            )  # fmt: skip
            continue
        ends = _ends(row.params)
        ax.plot(
            ends, [y, y], transform=across, color=color, lw=1.6, marker="|",
            ms=0.9 * room.size, mew=1.6, zorder=2.3, solid_capstyle="butt",
            label=row.strategy,
        )  # fmt: skip
        if is_chosen:
            for end in ends:
                ax.plot(
                    [end, end], [y, 1], transform=across, color=color, lw=0.8,
                    ls=(0, (3, 3)), zorder=2.2,
                )  # fmt: skip
        _beside(ax, y, (decibels(row.sqnr_db), share(row.clipped)), room, words)


def _cover(ax: Axes, height: float) -> None:
    """Hide the lower part of the distribution."""
    from matplotlib.patches import Rectangle

    face = colors.ground(ax)
    ax.add_patch(
        Rectangle((0, 0), 1, height, transform=ax.transAxes, color=face, zorder=2)
    )


def _name(ax: Axes, y: float, text: str, room: _Room, color: str) -> None:
    ax.annotate(
        canvas.fitted(text, room.left - 8, room.size), (0, y), xycoords="axes fraction",
        xytext=(-6, 0), textcoords="offset points", ha="right", va="center",
        fontsize=room.size, color=color, parse_math=False,
    )  # fmt: skip


def _beside(
    ax: Axes, y: float, figures: Sequence[str], room: _Room, color: str, **style: Any
) -> None:
    for number, text in enumerate(figures[: room.columns]):
        ax.annotate(
            text, (1, y), xycoords="axes fraction",
            xytext=(_right(number + 1, room.size) - 2, 0), textcoords="offset points",
            ha="right", va="center", fontsize=room.size, color=color, **style,
        )  # fmt: skip
