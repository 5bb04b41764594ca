"""How much a range still grows with more samples, from the extremes of each observation."""

from __future__ import annotations

import numpy as np

from quantcal._core import Histogram, TensorStats
from quantcal.params import QuantParams

# Each further term has less than half of the weight of the one before.
_TERMS = 64


def range_growth(stats: TensorStats, params: QuantParams) -> float | None:
    """Return the share of a range that comes with the second half of the observations.

    It is the mean over all ways to choose the first half. Extremes outside the range do not
    count, as the strategy has given them up.

    Returns
    -------
    0 if each half has the extremes of all. 1 for a single observation, as there is nothing
    without it. None without finite values.
    """
    ends = float(params.low), float(params.high)
    lowest = _last_growth(stats.minima, -1.0, ends)
    highest = _last_growth(stats.maxima, 1.0, ends)
    if lowest is None or highest is None:
        return None
    width = highest[1] + lowest[1]
    if _count(stats.maxima) == 1:
        return 1.0
    return (lowest[0] + highest[0]) / width if width > 0 else 0.0


def _count(extremes: Histogram) -> int:
    return extremes.finite


def _last_growth(
    extremes: Histogram, sign: float, ends: tuple[float, float]
) -> tuple[float, float] | None:
    """Return how far the extreme of all lies beyond that of a half, and the extreme."""
    low, high, counts = extremes.bins()
    if not len(counts):
        return None
    values = sign * np.clip(high if sign > 0 else low, *ends)
    order = np.argsort(-values, kind="stable")
    values, counts = values[order], counts[order]
    # The range contains 0, so a tensor without values below 0 has its low end there.
    values = np.maximum(values, 0.0)
    number = int(counts.sum())
    half = number // 2
    if not half:
        return 0.0, float(values[0])
    # The i-th largest is the maximum of a random half if the half has it and none above.
    ranks = np.repeat(values, np.minimum(counts, _TERMS).astype(np.int64))[:_TERMS]
    chance, expected, rest = half / number, 0.0, 1.0
    for rank, value in enumerate(ranks, start=1):
        expected += chance * float(value)
        rest -= chance
        chance *= max(number - rank - half + 1, 0) / max(number - rank, 1)
    expected += max(rest, 0.0) * float(ranks[-1])
    return float(values[0]) - expected, float(values[0])
