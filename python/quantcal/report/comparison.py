"""The picture of a comparison: one tensor's distribution and every range below it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from quantcal._core import CalibrationError, Histogram
from quantcal._text import decibels, share
from quantcal.comparison.comparison import Comparison
from quantcal.comparison.score import Score
from quantcal.formats import QuantFormat
from quantcal.params import QuantParams
from quantcal.report import canvas, density
from quantcal.report.canvas import CHOSEN, GUIDE, SMALL, STRATEGY, TEXT
from quantcal.report.density import Heights

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MAX_POINTS = 1024
"""Above this number of levels, points would merge to a band."""


def plot(
    comparison: Comparison, ax: Axes | None = None, strategy: str | None = None
) -> Axes:
    """Draw one tensor's values and ranges; see `Comparison.plot`."""
    canvas.check(ax)
    chosen, params = _chosen(comparison, strategy)
    rows = len(comparison) + 1  # and one of headings
    height = canvas.ABOVE + canvas.ROW * rows
    if ax is not None:
        height = ax.get_window_extent().height / ax.figure.dpi
    share_of_rows = min(canvas.ROW * rows / height, 0.6)
    size = min(SMALL, 60 * height * share_of_rows / rows)  # 72 points are an inch
    ax = canvas.axes(ax, 9.0, height + 0.7)
    histogram = comparison.histograms[chosen.tensor]
    ends = [end for row in comparison if row.params for end in _ends(row.params)]
    heights = density.draw(ax, histogram, low=min(ends), high=max(ends))
    canvas.tidy(ax)
    canvas.title(ax, comparison.title, pad=20)
    if heights is not None:
        middle = (1 + share_of_rows) / 2
        roomy = height * (1 - share_of_rows) > 1.8
        label = "share of values per unit" if roomy else "share per unit"
        ax.set_ylabel(label, y=middle, ha="center", va="bottom")
        used = _draw_levels(ax, histogram, params)
        _share_height(
            ax,
            min(used.min, heights.min),
            max(used.max, heights.max),
            share_of_rows,
        )
    _draw_rows(ax, comparison, chosen, share_of_rows, size)
    return ax


def _chosen(comparison: Comparison, strategy: str | None) -> tuple[Score, QuantParams]:
    if len(comparison.tensors) != 1:
        msg = (
            f"a picture shows one tensor, and there are {len(comparison.tensors)}: "
            "name one, comparison[name].plot()"
        )
        raise CalibrationError(msg)
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


def _draw_levels(ax: Axes, histogram: Histogram, params: QuantParams) -> Heights:
    """Draw the quantized values of the chosen strategy; return the heights drawn."""
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
        color=CHOSEN,
        ls="-" if many else "",
        marker="" if many else "o",
        ms=4.5 if len(levels) <= 32 else 1.8,
        mew=0,
        lw=1.0,
        zorder=3,
    )
    note = f"{int(used.sum())} of {len(levels)} levels used by {params.strategy}"
    ax.annotate(
        f"●  {note}",
        (0.0, 1.0),
        xycoords="axes fraction",
        xytext=(0, 6),
        textcoords="offset points",
        color=CHOSEN,
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


def _share_height(ax: Axes, low: float, high: float, rows: float) -> None:
    """Set the y axis so that densities stay above the lines of the strategies."""
    bottom, top = math.log10(low) - 0.15, math.log10(high) + 0.3
    below = (top - bottom) * rows / (1 - rows)
    ax.set_ylim(10 ** (bottom - below), 10**top)
    decades = range(math.ceil(bottom), math.floor(top) + 1)
    step = math.ceil(len(decades) / 8) or 1
    ax.set_yticks([10.0**decade for decade in decades][::-step])
    ax.set_yticks([], minor=True)
    ax.spines["left"].set_bounds(10**bottom, 10**top)


def _draw_rows(
    ax: Axes, comparison: Comparison, chosen: Score, height: float, size: float
) -> None:
    """Draw a line per strategy, with its name on the left and its figures on the right."""
    across = ax.get_xaxis_transform()
    _cover(ax, height)
    step = height / (len(comparison) + 1)
    _beside(ax, height - 0.45 * step, "SQNR", "clipped", size, TEXT, weight="bold")
    for number, row in enumerate(comparison):
        y = height - (number + 1.45) * step
        is_chosen = row is chosen
        color = CHOSEN if is_chosen else STRATEGY
        ax.plot([0, 1], [y, y], transform=ax.transAxes, color=GUIDE, lw=0.6, zorder=2.1)
        ax.annotate(
            row.strategy,
            (0, y),
            xycoords="axes fraction",
            xytext=(-6, 0),
            textcoords="offset points",
            ha="right",
            va="center",
            fontsize=size,
            color=CHOSEN if is_chosen else TEXT,
        )
        if row.params is None:
            ax.text(
                0.5, y, "does not apply", transform=ax.transAxes, ha="center", va="center",
                fontsize=size, color=TEXT, style="italic", zorder=2.4,
            )  # fmt: skip
            continue
        ends = _ends(row.params)
        ax.plot(
            ends, [y, y], transform=across, color=color, lw=1.6, marker="|",
            ms=0.9 * size, mew=1.6, zorder=2.3, solid_capstyle="butt", label=row.strategy,
        )  # fmt: skip
        if is_chosen:
            for end in ends:
                ax.plot(
                    [end, end], [y, 1], transform=across, color=color, lw=0.8,
                    ls=(0, (3, 3)), zorder=2.2,
                )  # fmt: skip
        _beside(
            ax,
            y,
            decibels(row.sqnr_db),
            share(row.clipped),
            size,
            color if is_chosen else TEXT,
        )


def _cover(ax: Axes, height: float) -> None:
    """Hide the lower part of the distribution."""
    from matplotlib.patches import Rectangle

    ground = Rectangle(
        (0, 0), 1, height, transform=ax.transAxes, color=ax.get_facecolor(), zorder=2
    )
    ax.add_patch(ground)


def _beside(
    ax: Axes, y: float, sqnr: str, clipped: str, size: float, color: str, **style: Any
) -> None:
    for text, offset in ((sqnr, 46), (clipped, 100)):
        ax.annotate(
            text, (1, y), xycoords="axes fraction", xytext=(offset, 0),
            textcoords="offset points", ha="right", va="center", fontsize=size,
            color=color, **style,
        )  # fmt: skip
