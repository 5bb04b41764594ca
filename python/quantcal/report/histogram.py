"""The picture of a histogram: `Histogram.plot`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from quantcal._core import CalibrationError, Histogram
from quantcal._param_checks import as_number
from quantcal._text import amount, plural, share, shown
from quantcal.report import canvas, colors, density
from quantcal.report.canvas import LABEL, SMALL

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PERCENTILES = (99.0, 99.9)
"""Shares of the values between the marks, in percent."""

_NUMBERS = 34.0
"""Room for the numbers of the y axis, in points."""


def plot(
    histogram: Histogram,
    ax: Axes | None = None,
    *,
    name: str | None = None,
    percentiles: Sequence[float] = PERCENTILES,
) -> Axes:
    """Draw the distribution of a histogram's finite values; see `Histogram.plot`."""
    canvas.check(ax)
    inside = [_percent(each) for each in percentiles]
    own = ax is None
    ax = canvas.axes(ax, 7.0, 3.6)
    width, height = canvas.size(ax)
    left = _NUMBERS + 2 * LABEL
    drawn = width - left
    zero = 0.0 if histogram.min is None else histogram.min
    heights = density.draw(ax, histogram, low=zero, high=zero, width=drawn)
    canvas.tidy(ax)
    text = _title(histogram)
    text = text if name is None else f"{name}: {text}"
    lines = canvas.title(ax, text, width if own else drawn)
    top, bottom = lines * 1.3 * canvas.TITLE + 8.0, 2.2 * LABEL + SMALL
    canvas.reserve(ax, left, 6.0, top, bottom)
    if heights is not None:
        canvas.label(ax.yaxis, "share of values per unit", height - top - bottom)
        ax.set_ylim(10.0 ** math.floor(math.log10(heights.min)), 3 * heights.max)
        _mark(ax, histogram, inside, drawn)
    return ax


def _percent(value: float) -> float:
    number = as_number("percentile", value)
    if not 0 < number < 100:
        msg = f"percentile is {shown(value)}, but it must be between 0 and 100"
        raise CalibrationError(msg)
    return number


def _mark(
    ax: Axes,
    histogram: Histogram,
    percentiles: Sequence[float],
    width: float,
) -> None:
    """Draw the ends of the middle `percentiles` percent, a line of labels for each.

    Values on one side of zero have one end, as a range for them has.
    """
    palette = colors.of(ax)
    step = 1.25 * SMALL
    room = canvas.size(ax)[1]
    marks = sorted(percentiles)
    above = 1 if ax.texts else 0  # the words beside a line of zeros
    rows = len(marks) + above
    if not marks or room < (rows + 4) * step:
        return
    # Above the distribution, so that it is not covered.
    low, high = ax.get_ylim()
    decades = math.log10(high / low)
    free = rows * step / (0.75 * room)
    ax.set_ylim(low, high * 10 ** (decades * free / (1 - free)))
    across = ax.get_xaxis_transform()
    for row, percent in enumerate(reversed(marks)):
        label = f"{percent:g} %"
        needed = canvas.width_of(label, SMALL) + 4
        y = 1.0 - (row + above + 0.6) * free / rows
        ends = _ends(histogram, percent)
        places = [_across(ax, end) * width for end, _ in ends]
        # Outside there are the marks of larger shares.
        inside = row > 0 and (len(ends) == 1 or places[-1] - places[0] > 2.2 * needed)
        for (end, is_low), place in zip(ends, places, strict=True):
            left = place > needed if is_low != inside else width - place < needed
            ax.plot(
                [end, end], [0, y], transform=across, color=palette.strategy, lw=0.8,
                ls=(0, (3, 3)), zorder=2.2,
            )  # fmt: skip
            ax.annotate(
                label, (end, y), xycoords=across, ha="right" if left else "left",
                xytext=(-3 if left else 3, 0), textcoords="offset points", va="center",
                fontsize=SMALL, color=palette.strategy,
            )  # fmt: skip


def _across(ax: Axes, value: float) -> float:
    """Return how far across the axes a value is, from 0 to 1."""
    scale = ax.xaxis.get_transform()
    low, high, at = scale.transform([*ax.get_xlim(), value])
    return float((at - low) / (high - low))


def _ends(histogram: Histogram, percent: float) -> list[tuple[float, bool]]:
    """Return the ends of the middle share, and whether each is the lower one."""
    part = percent / 100
    if histogram.min is None or histogram.max is None:
        return []
    if histogram.min >= 0:
        ends = [(histogram.quantile(part), False)]
    elif histogram.max <= 0:
        ends = [(histogram.quantile(1 - part), True)]
    else:
        rest = (1 - part) / 2
        ends = [(histogram.quantile(rest), True), (histogram.quantile(1 - rest), False)]
    return [(end, is_low) for end, is_low in ends if end is not None]


def _title(histogram: Histogram) -> str:
    parts = [
        plural(histogram.count, "value")
        if histogram.count < 10_000
        else f"{amount(histogram.count)} values"
    ]
    if histogram.min is not None and histogram.max is not None:
        parts.append(f"{histogram.min:.3g} to {histogram.max:.3g}".replace("-", "−"))
        if histogram.zeros:
            parts.append(f"{share(histogram.zeros / histogram.finite)} zeros")
    if histogram.nan:
        parts.append(f"{amount(histogram.nan)} NaN")
    if histogram.posinf + histogram.neginf:
        parts.append(f"{amount(histogram.posinf + histogram.neginf)} infinite")
    return ", ".join(parts)
