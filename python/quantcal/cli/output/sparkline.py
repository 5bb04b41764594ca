"""A tensor's distribution in one line of block characters.

The axis is linear from the smallest to the largest value, as the steps of an integer
grid are. Heights are logarithms of counts, so that one value in millions still shows. A
tensor with outliers is a block at one place and small marks far away from it:

    "▂█▃                ▁"   one outlier: with MinMax 85 % of the codes are unused
    "▁▂▄▅▆▇███▇▆▅▄▂▁"        a bell
"""

from __future__ import annotations

import math

from quantcal._core import Histogram

_BLOCKS = "▁▂▃▄▅▆▇█"
_ASCII = ".:-=+*#@"


def draw_sparkline(
    histogram: Histogram, width: int = 20, *, ascii_only: bool = False
) -> str:
    """Return the distribution of a histogram's finite values.

    Parameters
    ----------
    histogram
        Any; without finite values the line is empty.
    width
        Characters. A constant tensor takes one.
    ascii_only
        For terminals without block characters.

    Returns
    -------
    A space for each part of the range without values. On a logarithmic scale, the lowest
    block stands for one value and the full block for the fullest part.
    """
    low, high = histogram.min, histogram.max
    if low is None or high is None:
        return ""
    levels = _ASCII if ascii_only else _BLOCKS
    if low == high:
        return levels[-1]
    counts, _ = histogram.rebin(width, low, high)
    top = math.log(max(int(counts.max()), 2))
    return "".join(_level(int(count), top, levels) for count in counts)


def _level(count: int, top: float, levels: str) -> str:
    if count == 0:
        return " "
    return levels[min(round(math.log(count) / top * 7), 7)]
