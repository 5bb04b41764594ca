"""ONNX Runtime's entropy and percentile thresholds."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quantcal import _core
from quantcal._core import CalibrationError
from quantcal.compat import _checks

_EPSILON = 1e-4  # what an empty bin is given
_FLOAT32 = 4  # bytes; divergences in smaller floats would have ties


def onnxruntime_entropy(
    counts: Any, edges: Any, *, num_quantized_bins: int = 128
) -> tuple[float, float]:
    """Return the range that ONNX Runtime's Entropy calibration chooses.

    Windows about the middle bin, from `num_quantized_bins` bins to all, are merged to
    `num_quantized_bins` levels, and the first with the least KL divergence wins. Four
    things set it apart: empty bins get their level's value too, that value is cut to a whole
    number, bins beyond the last full level count as empty, and sums are in float32. With as
    many bins as levels, which are the calibrator's defaults, there is one window: all.

    The calibrator then limits the range to the extremes it observed; a histogram does not
    have them, so the caller does. Equal to onnxruntime 1.32.0, bit for bit
    with the same numpy. Bounds from running totals leave a few windows,
    O(num_bins^2 / levels); those are computed as the original does. Some 600 times faster at
    2048 bins.

    Parameters
    ----------
    counts : array of whole numbers, shape (num_bins,)
        How many values each bin holds, over [-T, T].
    edges : array of floats, shape (num_bins + 1,)
        The rising ends of the bins, in the unit of the data.
    num_quantized_bins : int
        Levels; 128 as in the original.

    Returns
    -------
    tuple of float
        `low` and `high`, both edges. The narrowest window if all counts are zero.

    Raises
    ------
    CalibrationError
        If the histogram is malformed, has fewer bins than levels, or is so sparse
        (10,000 empty bins for each other one) that the original fails, too.
    TypeError
        If an argument is of the wrong type.

    Examples
    --------
    >>> x = np.random.default_rng(0).standard_normal(100_000)
    >>> counts, edges = np.histogram(x, 1024, range=(-8, 8))
    >>> low, high = qc.compat.onnxruntime_entropy(counts, edges)
    >>> low, high
    (-5.203125, 5.21875)
    """
    hist, ends = _checks.histogram(counts, edges)
    levels = _checks.integer("num_quantized_bins", num_quantized_bins, 1)
    middle, half = hist.size // 2, levels // 2
    if middle < half:
        _checks.too_few_bins(hist.size, levels, "num_quantized_bins")
    search = _Search(hist, levels)
    halves = np.arange(half, middle + 1)
    if ends.dtype.itemsize >= _FLOAT32:
        # Windows that cannot be the best in any rounding are left out.
        least, most = _core.ort_divergence_bounds(hist.astype(np.uint64), levels)
        halves = halves[least <= most.min()]
    windows = [(middle - i, min(middle + i + 1, hist.size)) for i in halves.tolist()]
    # The original stores each divergence in the type of the edges.
    divergences = [np.asarray(search(*w)).astype(ends.dtype) for w in windows]
    low, high = windows[int(np.argmin(divergences))]
    return float(ends[low]), float(ends[high])


class _Search:
    """The divergence of a window; group sums come from running totals, so they are exact."""

    def __init__(self, hist: NDArray[np.int64], levels: int) -> None:
        self.hist = hist
        self.levels = levels
        self.totals = np.concatenate(([0], np.cumsum(hist)))

    def __call__(self, start: int, end: int) -> float:
        totals, size = self.totals, end - start
        reference = self.hist[start:end].copy()
        reference[0] += totals[start]
        reference[-1] += totals[-1] - totals[end]
        full = reference != 0
        merged = size // self.levels
        inside = merged * self.levels
        ends = totals[start : start + inside + 1 : merged] if merged else totals[[0]]
        sums = np.zeros(self.levels)
        sums[: ends.size - 1] = np.diff(ends)
        sums[-1] += totals[end] - totals[start + inside]
        numbers = full[:inside].reshape(self.levels, merged).sum(axis=1)
        # A level without a full bin stays 0.
        values = (sums / np.maximum(numbers, 1)).astype(np.int64)
        values[numbers == 0] = 0
        quantized = np.zeros(size, dtype=np.int64)
        quantized[:inside] = np.repeat(values, merged)
        p, q = _smooth(reference, full), _smooth(quantized, quantized != 0)
        if p is None or q is None:
            return math.inf
        p /= p.sum()
        q /= q.sum()
        terms: NDArray[np.float32] = p * np.log(p / q)
        return float(terms.sum())


def _smooth(
    counts: NDArray[np.int64], full: NDArray[np.bool_]
) -> NDArray[np.float32] | None:
    """Give empty bins a little and take it evenly from the others; None if all are empty."""
    number = int(np.count_nonzero(full))
    if not number:
        return None
    taken = _EPSILON * (counts.size - number) / number
    smoothed = counts.astype(np.float32) + np.float32(-taken)
    if taken >= 1 or not (smoothed[full] > 0).all():
        msg = (
            f"only {number} of {counts.size} bins in a window are not empty: onnxruntime "
            "fails on such a histogram, too; use fewer bins or another method"
        )
        raise CalibrationError(msg)
    values: NDArray[np.float32] = np.where(full, smoothed, np.float32(_EPSILON))
    return values


def onnxruntime_percentile(
    counts: Any, edges: Any, *, percentile: float = 99.999, symmetric: bool = False
) -> tuple[float, float]:
    """Return the range that ONNX Runtime's Percentile calibration chooses.

    Both ends are lower edges of the bins in which the running share of the counts reaches its
    goal, so `high` may lie up to a bin below the true percentile. The calibrator then limits
    the range to the extremes it observed; here the caller does. Equal to onnxruntime
    1.32.0, bit for bit. O(num_bins).

    Parameters
    ----------
    counts : array of whole numbers, shape (num_bins,)
        How many values each bin holds; of |x| if `symmetric`.
    edges : array of floats, shape (num_bins + 1,)
        The rising ends of the bins, in the unit of the data.
    percentile : float
        The share to keep, in per cent; 99.999 as in the original.
    symmetric : bool
        Whether the histogram is of |x| and the range is -T to T. Otherwise half of what is
        cut off is cut off at each end. Default: False.

    Returns
    -------
    tuple of float
        `low` and `high`. From the first edge, (`edges[0]`, `edges[0]`) or its symmetric
        form, if all counts are zero.

    Raises
    ------
    CalibrationError
        If the histogram is malformed or the percentile outside 0 to 100.
    TypeError
        If an argument is of the wrong type.

    Examples
    --------
    >>> counts, edges = np.array([5, 90, 4, 1]), np.linspace(-2.0, 2.0, 5)
    >>> qc.compat.onnxruntime_percentile(counts, edges, percentile=98)
    (-2.0, 0.0)
    """
    hist, ends = _checks.histogram(counts, edges)
    share = _checks.percent(percentile)
    total = hist.sum()
    # The original divides 0 by 0 and finds every goal beyond NaN: at the first edge.
    running = np.cumsum(hist / total) if total else np.full(hist.size, np.inf)
    if symmetric:
        high = float(ends[np.searchsorted(running, share / 100.0)])
        return -high, high
    cut = (100.0 - share) / 200.0
    right = np.searchsorted(running, 1.0 - cut)
    return float(ends[np.searchsorted(running, cut)]), float(ends[right])
