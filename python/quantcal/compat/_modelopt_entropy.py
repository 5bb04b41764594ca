"""ModelOpt's search for the minimum KL divergence, with scipy's float64 arithmetic."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from quantcal.compat._candidates import in_blocks, may_be_best, running_totals

# Divergences from running totals differ from those of the original by some 1e-12. That is the
# rounding error of sums of a few thousand terms, each at most ln(2**53).
_ERROR = 1e-9


def best_width(hist: NDArray[np.int64], widths: NDArray[np.int64], levels: int) -> int:
    """Return the last candidate width with the minimum divergence."""
    empty = np.flatnonzero(np.cumsum(hist)[widths - 1] == 0)
    if empty.size:
        # The original has NaN here, which numpy.argmin takes for the minimum.
        return int(widths[empty[-1]])
    estimates = _estimates(hist, widths, levels)
    best, width_of_best = math.inf, int(widths[-1])
    if estimates.min() == math.inf:
        return width_of_best
    possible = may_be_best(estimates, estimates + _ERROR * (1 + estimates))
    for width in widths[possible]:
        divergence = _divergence(hist, int(width), levels)
        if divergence <= best:
            best, width_of_best = divergence, int(width)
    return width_of_best


def _estimates(
    hist: NDArray[np.int64], widths: NDArray[np.int64], levels: int
) -> NDArray[np.float64]:
    """Return all divergences from running totals of h, h ln h and the non-empty bins.

    p is the reference with the sum T. q = s / n is the sum of a level over its number of
    non-empty bins, and S is the sum of all levels. Then
    T * divergence = sum p ln p - sum over levels of s ln q - outside * ln q_last
    - T ln T + T ln S.
    """
    h = hist.astype(np.float64)
    totals = running_totals(h)
    full = running_totals(hist > 0)
    entropies = running_totals(_x_ln_x(h))
    total = totals[-1]

    def estimate(width: NDArray[np.int64]) -> NDArray[np.float64]:
        # Bin k is in level floor(k * levels / width).
        starts = -(-np.arange(levels + 1) * width[:, None] // levels)
        sums = np.diff(totals[starts], axis=1)
        numbers = np.diff(full[starts], axis=1)
        values = np.log(np.where(sums > 0, sums / np.maximum(numbers, 1), 1.0))
        inside, last = totals[width], h[width - 1]
        outside = total - inside
        # The level of the last bin. With more levels than bins some levels are empty.
        at_end = (width - 1) * levels // width
        last_value = values[np.arange(width.size), at_end]
        reference = entropies[width - 1] + _x_ln_x(last + outside)
        cross = (sums * values).sum(axis=1) + outside * last_value
        divergence: NDArray[np.float64] = (reference - cross) / total
        divergence -= np.log(total / inside)
        divergence[(outside > 0) & (last == 0)] = np.inf
        return divergence

    return in_blocks(widths, levels, estimate)


def _x_ln_x(x: NDArray[np.float64]) -> NDArray[np.float64]:
    return x * np.log(np.where(x > 0, x, 1.0))


def _divergence(hist: NDArray[np.int64], width: int, levels: int) -> float:
    """Return the divergence of one candidate with the original's roundings."""
    inside = hist[:width]
    full = np.flatnonzero(inside)
    level = full * levels // width
    sums = np.bincount(level, weights=inside[full])
    q = np.zeros(width)
    q[full] = (sums / np.maximum(np.bincount(level), 1))[level]
    p = inside.astype(np.float64)
    p[-1] += hist[width:].sum()
    p, q = p / p.sum(), q / q.sum()
    terms = np.zeros(width)
    terms[full] = [_relative_entropy(p[k], q[k]) for k in full]
    return float(terms.sum())


def _relative_entropy(p: float, q: float) -> float:
    """Return p ln(p / q) of positive numbers, with log1p near p = q, where it is exact.

    The logarithms are those of the C library, as in scipy. numpy's differ in the last bit.
    """
    ratio = p / q
    if 0.5 < ratio < 2:
        return p * math.log1p((p - q) / q)
    return p * math.log(ratio)
