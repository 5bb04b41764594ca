"""The picture of a tensor by channel: `Channels.plot`."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from quantcal._core import Histogram
from quantcal._text import plural
from quantcal.channels import Channels
from quantcal.report import canvas, colors
from quantcal.report.canvas import LABEL, SMALL

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MIDDLE = 0.9
"""Share of the values of a channel that its thick line covers."""

_MAX_DRAWN = 512
"""Maximum number of channels that are drawn; of more, every n-th is."""

_LEFT = 46.0
"""Room for the numbers and the name of the y axis, in points."""

_BELOW = 2.2 * LABEL + SMALL + 2


def plot(
    channels: Channels, ax: Axes | None = None, *, name: str | None = None
) -> Axes:
    """Draw the values of every channel; see `Channels.plot`."""
    from matplotlib.ticker import MaxNLocator

    own = ax is None
    ax = canvas.axes(ax, 7.0, 3.6)
    palette = colors.of(ax)
    width, height = canvas.size(ax)
    drawn = width - _LEFT - 6
    some = range(0, len(channels), math.ceil(len(channels) / _MAX_DRAWN))
    spans = {k: _span(channels[k]) for k in some}
    thick = min(7.0, max(0.7, 0.6 * drawn / len(some)))
    for k, span in spans.items():
        if span is None:
            continue
        low, first, last, high = span
        ax.plot(
            [k, k], [low, high], color=palette.edge, lw=max(0.5, thick / 6), zorder=2
        )
        ax.plot(
            [k, k], [first, last], color=palette.strategy, lw=thick,
            solid_capstyle="butt", zorder=3,
        )  # fmt: skip
    ax.axhline(0, color=palette.edge, lw=0.6, zorder=1)
    ax.margins(y=0.05)
    ax.set_xlim(-0.7, len(channels) - 0.3)
    most = max(2, int(drawn / 40))
    ax.xaxis.set_major_locator(MaxNLocator(min(most, 10), integer=True, min_n_ticks=1))
    ax.yaxis.set_major_locator(MaxNLocator(max(2, min(7, int(height / 30)))))
    canvas.tidy(ax)
    text = f"{plural(len(channels), 'channel')} along axis {channels.axis}"
    text = text if name is None else f"{name}: {text}"
    title_width = width if own else drawn
    lines = canvas.title(ax, text, title_width, pad=18)
    top = lines * 1.3 * canvas.TITLE + 20
    canvas.reserve(ax, _LEFT, 6.0, top, _BELOW)
    canvas.label(ax.xaxis, "channel", drawn)
    canvas.label(ax.yaxis, "value", height - top - _BELOW)
    note, rest = f"━  {100 * _MIDDLE:g} % of the values", "─  minimum to maximum"
    start = 0.0
    for words, color in ((note, palette.strategy), (rest, palette.edge)):
        length = canvas.width_of(words, SMALL)
        if start + length <= drawn:
            ax.annotate(
                words, (0, 1), xycoords="axes fraction", xytext=(start, 5),
                textcoords="offset points", color=color, fontsize=SMALL,
            )  # fmt: skip
        start += length + 14
    return ax


def _span(histogram: Histogram) -> tuple[float, float, float, float] | None:
    """Return minimum, the ends of the middle part, and maximum; None without finite values."""
    rest = (1 - _MIDDLE) / 2
    ends = [
        histogram.min,
        histogram.quantile(rest),
        histogram.quantile(1 - rest),
        histogram.max,
    ]
    if any(end is None for end in ends):
        return None
    low, first, last, high = (float(np.float64(end)) for end in ends if end is not None)
    return low, first, last, high
