"""The picture of a comparison of many tensors: what each strategy loses where."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from quantcal._core import CalibrationError
from quantcal._text import decibels, plural
from quantcal.comparison.comparison import Comparison
from quantcal.report import canvas, colors
from quantcal.report.canvas import SMALL

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_ROW = 0.18
"""Height of a tensor's line in inches."""

_CELL = 0.42
"""Width of a strategy's column in inches, for "12.3"."""

_NAME = 44
"""Maximum characters of a name."""

_MAX_ROWS = 60
"""Maximum number of tensors in a figure; the others lose less."""

_SMALLEST = 5.0
"""Smallest letters in points; where a line has less room, tensors are left out."""

_FILL = 0.75
"""Height of the letters as a share of a line."""

_FULL = 6.0
"""Decibels of the strongest color: the loss of a bit."""

_SHOWN = 0.05
"""Losses below this are written as nothing; they would read 0.0."""


def plot(comparison: Comparison, ax: Axes | None, strategy: str | None) -> Axes:
    """Draw the loss of every strategy for every tensor; see `Comparison.plot`."""
    canvas.check(ax)
    names, loss, best = _losses(comparison, strategy)
    own = ax is None
    ax = canvas.axes(ax, *figure_size(comparison))
    width, height = canvas.size(ax)
    strategies = comparison.strategies
    letters = SMALL - 1
    below = _tallest(strategies, letters, 0.6 * height if own else 0.35 * height) + 6
    room = height - below - 2.6 * canvas.TITLE - 18
    # Above the rows there is one of headings.
    rows = _MAX_ROWS if own else max(1, int(room * _FILL / _SMALLEST - 1.1))
    names, loss, best = names[:rows], loss[:rows], best[:rows]
    if not own:
        letters = min(letters, _FILL * room / (len(names) + 1.1))
    whole = canvas.fitted_names(names, _NAME, math.inf, letters)
    left = max(canvas.width_of(name, letters) for name in whole)
    left = left + 8 if own else min(left + 8, 0.35 * width)
    right = 6.5 * letters
    drawn = width - left - right
    _draw(ax, loss, drawn / len(strategies), letters)
    labels = canvas.fitted_names(names, _NAME, left - 6, letters)
    ax.set_yticks(range(len(names)), labels, fontsize=letters, parse_math=False)
    short = [canvas.fitted(each, below - 8, letters) for each in strategies]
    ax.set_xticks(range(len(strategies)), short, rotation=90, fontsize=letters)
    if drawn / len(strategies) < letters:
        ax.set_xticks([])
    ax.tick_params(length=0)
    for side in ax.spines.values():
        side.set_visible(False)
    color = colors.of(ax).text
    ax.tick_params(colors=color)
    heading = [("best", -1.0), *((decibels(b), y) for y, b in enumerate(best))]
    for text, y in heading:
        ax.annotate(
            text, (1, y), xycoords=ax.get_yaxis_transform(), ha="right", va="center",
            xytext=(right - 4, 0), textcoords="offset points", fontsize=letters,
            color=color, weight="bold" if y < 0 else "normal", annotation_clip=False,
        )  # fmt: skip
    lines = canvas.title(ax, _title(comparison, len(names)), drawn, pad=16)
    canvas.reserve(ax, left, right, lines * 1.3 * canvas.TITLE + 18, below)
    return ax


def figure_size(comparison: Comparison) -> tuple[float, float]:
    """Return width and height of a figure, in inches."""
    rows = min(len(comparison.tensors), _MAX_ROWS)
    return max(8.0, 4.2 + _CELL * len(comparison.strategies)), 2.4 + _ROW * max(rows, 4)


def _tallest(strategies: list[str], letters: float, most: float) -> float:
    """Return the room for the names of strategies, which are written upright."""
    return min(max(canvas.width_of(each, letters) for each in strategies), most)


def _losses(
    comparison: Comparison, strategy: str | None
) -> tuple[list[str], NDArray[np.float64], list[float]]:
    """Return tensors with finite values, decibels lost by strategy, and the best SQNR.

    The tensors with the lowest SQNR come first: that of a strategy, or of the best one.
    """
    strategies = comparison.strategies
    if strategy is not None and strategy not in strategies:
        known = ", ".join(strategies)
        msg = f'strategy "{strategy}" was not compared; those that were: {known}'
        raise CalibrationError(msg)
    found = {
        (row.tensor, row.strategy): row.sqnr_db
        for row in comparison
        if row.params is not None
    }
    names = [
        name
        for name in comparison.tensors
        if comparison.histograms[name].finite
        and any((name, s) in found for s in strategies)
    ]
    if not names:
        raise CalibrationError("no strategy applies to any tensor; see the errors")
    sqnr = np.array([[found.get((n, s), math.nan) for s in strategies] for n in names])
    best = np.nanmax(sqnr, axis=1)
    with np.errstate(invalid="ignore"):  # exact minus exact
        loss = np.where(
            np.isinf(best)[:, None] & np.isinf(sqnr), 0.0, best[:, None] - sqnr
        )
    by = best if strategy is None else sqnr[:, strategies.index(strategy)]
    order = np.argsort(np.where(np.isnan(by), -math.inf, by), kind="stable")
    return [names[k] for k in order], loss[order], [float(best[k]) for k in order]


def _draw(ax: Axes, loss: NDArray[np.float64], cell: float, letters: float) -> None:
    from matplotlib.colors import LinearSegmentedColormap, to_hex

    palette = colors.of(ax)
    ground = colors.ground(ax)
    scale = LinearSegmentedColormap.from_list("loss", [to_hex(ground), palette.chosen])
    ramp = scale.with_extremes(bad=palette.guide)
    shown = np.ma.masked_invalid(np.minimum(loss, _FULL))
    ax.imshow(
        shown, cmap=ramp, vmin=0, vmax=_FULL, aspect="auto", interpolation="nearest"
    )
    rows, columns = loss.shape
    ax.set_xlim(-0.5, columns - 0.5)
    ax.set_ylim(rows - 0.5, -1.6)
    for edge in range(rows + 1):
        ax.axhline(edge - 0.5, color=palette.guide, lw=0.5, zorder=2)
    on_strong = "#14171A" if palette is colors.DARK else "#FFFFFF"
    if cell < canvas.width_of("12.3", letters) + 2:
        return
    for y in range(rows):
        for x in range(columns):
            value = float(loss[y, x])
            if math.isnan(value):
                text = "–"
            elif value < _SHOWN:
                text = "●" if value == 0 else ""
            else:
                text = f"{value:.1f}" if value < 99.5 else ">99"
            strong = value >= 0.6 * _FULL
            color = on_strong if strong else palette.text
            ax.text(
                x, y, text, ha="center", va="center", fontsize=letters, color=color,
                clip_on=True,
            )  # fmt: skip


def _title(comparison: Comparison, count: int) -> str:
    total = len(comparison.tensors)
    what = plural(total, "tensor")
    if count < total:
        what = f"the worst {count} of {what}"
    return f"dB lost to the best strategy (●), {what}, {comparison.formats_text}"
