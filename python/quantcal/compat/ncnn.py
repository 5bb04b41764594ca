"""ncnn's KL threshold."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quantcal._core import CalibrationError
from quantcal.compat import _checks

Floats = NDArray[np.float32]

_EPSILON = np.float32(1e-4)  # added to every bin of both distributions
_CELLS = 1 << 17  # candidates times bins that are in memory at once


def ncnn_kl(counts: Any, absmax: float, *, target_bins: int = 128) -> float:
    """Return the amax that ncnn's table tool chooses with `method=kl`.

    The first t bins are merged to `target_bins` levels of t / target_bins bins, where a bin
    that a border cuts belongs to both levels in proportion; empty bins are treated as all
    others. Both distributions get 1e-4 in every bin and are not normalised afterwards. The
    first t with the least divergence wins; all bins (t = num_bins) are never tried.

    Written from ncnn's ncnn2table.cpp, 2026; not compared with its binary, but with a loop
    written from the same description. All in float32, sums one after the other, logarithms
    rounded from float64. O(num_bins^2), 60 to 160 ms
    at 2048 bins; a compiled loop takes 30.

    Parameters
    ----------
    counts : array of whole numbers, shape (num_bins,)
        How many values of |x| each bin of [0, absmax] holds, exact zeros left out, as ncnn
        leaves them out; it has 2048 bins.
    absmax : float
        The end of the last bin, in the unit of the data; not negative.
    target_bins : int
        Levels; 128 as in the original.

    Returns
    -------
    float
        (t + 1/2) bins, in float32; t = target_bins if all counts are zero or there are no
        more bins. ncnn's scale is
        127 / amax.

    Raises
    ------
    CalibrationError
        If counts are malformed or fewer than `target_bins`, or absmax is negative or
        not finite.
    TypeError
        If an argument is of the wrong type.

    Examples
    --------
    >>> x = np.abs(np.random.default_rng(0).standard_normal(100_000))
    >>> counts, _ = np.histogram(x, 2048, range=(0, 8))
    >>> 3 < qc.compat.ncnn_kl(counts, 8.0) < 6
    True
    """
    hist = _checks.histogram_counts(counts)
    end = _checks.real("absmax", absmax)
    levels = _checks.integer("target_bins", target_bins, 2)
    with np.errstate(over="ignore"):
        rounded = np.float32(end)
    if not (end >= 0 and math.isfinite(rounded)):
        msg = f"absmax is {end}, but it must be finite in float32 and not negative"
        raise CalibrationError(msg)
    if hist.size < levels:
        _checks.too_few_bins(hist.size, levels, "target_bins")
    threshold = _best_width(hist, levels)
    size = np.float32(hist.size)
    return float(np.float32(threshold + 0.5) * rounded / size)


def _best_width(hist: NDArray[np.int64], levels: int) -> int:
    total = hist.sum()
    if not total or hist.size == levels:  # no candidate is better than none
        return levels
    shares = (hist / total).astype(np.float32)
    widths = np.arange(levels, hist.size)
    block = max(1, _CELLS // hist.size)
    parts = [
        _divergences(shares, widths[at : at + block], levels)
        for at in range(0, widths.size, block)
    ]
    return int(widths[np.argmin(np.concatenate(parts))])


def _divergences(shares: Floats, widths: NDArray[np.int64], levels: int) -> Floats:
    """Return the divergences of some candidates; rows are candidates, columns are bins."""
    bins = np.arange(widths[-1])
    p = np.tile(shares[: bins.size] + _EPSILON, (widths.size, 1))
    for row, width in enumerate(widths):
        tail = shares[width - 1 :].copy()
        tail[0] += _EPSILON
        p[row, width - 1] = np.add.accumulate(tail)[-1]
    q = _spread(shares, widths, levels, bins.size)
    outside = bins >= widths[:, None]
    p[outside] = q[outside] = 1
    terms = p * np.log((p / q).astype(np.float64)).astype(np.float32)
    divergences: Floats = np.add.accumulate(terms, axis=1, dtype=np.float32)[:, -1]
    return divergences


def _spread(
    shares: Floats, widths: NDArray[np.int64], levels: int, size: int
) -> Floats:
    """Return the quantised distributions, shape (widths, size)."""
    per_level = widths.astype(np.float32)[:, None] / np.float32(levels)
    level = np.arange(levels, dtype=np.float32)
    start = level * per_level
    start[:, -1] = widths.astype(np.float32) - per_level[:, 0]
    end = (level + 1) * per_level
    end[:, -1] = widths
    first, last = np.ceil(start).astype(np.int64), np.floor(end).astype(np.int64)
    left, right = (first - start).astype(np.float32), (end - last).astype(np.float32)
    at_left = np.maximum(first - 1, 0)
    at_right = np.minimum(last, shares.size - 1)
    # In the original's order: the cut bins, left before right, then the whole ones.
    values = left * shares[at_left]
    values += right * shares[at_right]
    for step in range(int((last - first).max())):
        k = first + step
        inside = k < last
        values += np.where(inside, shares[np.minimum(k, shares.size - 1)], 0)
    values /= (last - first).astype(np.float32) + left + right
    q = np.full((widths.size, size + 1), _EPSILON)  # the last column takes what is void
    rows = np.arange(widths.size)[:, None]
    # A bin is cut once at most, so no index comes twice within one of these additions.
    q[rows, np.where(right > 0, at_right, size)] += right * values
    q[rows, np.where(left > 0, at_left, size)] += left * values
    for step in range(int((last - first).max())):
        k = first + step
        q[rows, np.where(k < last, k, size)] += values
    return q[:, :size]
