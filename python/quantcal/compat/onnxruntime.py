"""ONNX Runtime's entropy and percentile thresholds."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quantcal import _core
from quantcal._core import CalibrationError
from quantcal.compat import _checks
from quantcal.compat._candidates import may_be_best, running_shares, running_totals

# The count that the smoothing gives to an empty bin.
_EPSILON = 1e-4
# Size in bytes. Divergences in smaller floats would have ties that the bounds do not show.
_FLOAT32 = 4


def onnxruntime_entropy(
    counts: Any, edges: Any, *, num_quantized_bins: int = 128
) -> tuple[float, float]:
    """Return the range that ONNX Runtime's Entropy calibration chooses.

    A candidate is a window around the middle bin, from `num_quantized_bins` bins to all. It
    is merged to `num_quantized_bins` levels, and the first window with the minimum KL
    divergence wins. The algorithm has four peculiarities. Empty bins get the value of their
    level too, and that value is truncated to an integer. Bins after the last full level count
    as empty. Sums are in float32. With as many bins as levels, the calibrator's default,
    there is one window: all bins.

    The calibrator then limits the range to the observed extremes. A histogram does not have
    them, so the caller must do that. The result equals onnxruntime 1.32.0, bit for bit with
    the same numpy. Bounds from running totals find the few best windows in
    O(num_bins^2 / levels). Those are computed as in the original. At 2048 bins this is some
    600 times faster.

    Parameters
    ----------
    counts
        Integers, shape (num_bins,): the number of values in each bin of [-T, T].
    edges
        Floats, shape (num_bins + 1,): the rising edges of the bins in the unit of the data.
    num_quantized_bins
        Number of levels; 128 as in the original.

    Returns
    -------
    `low` and `high`, both edges. If all counts are zero, they are those of the narrowest
    window.

    Raises
    ------
    CalibrationError
        If the histogram is malformed, has fewer bins than levels, or is so sparse that the
        original fails too (10,000 empty bins per non-empty one).
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
        _checks.refuse_few_bins(hist.size, levels, "num_quantized_bins")
    radii = np.arange(half, middle + 1)
    if ends.dtype.itemsize >= _FLOAT32:
        lower, upper = _core.smoothed_divergences(hist.astype(np.uint64), levels)
        radii = radii[may_be_best(lower, upper)]
    windows = [(middle - i, min(middle + i + 1, hist.size)) for i in radii.tolist()]
    totals = running_totals(hist)
    # The original stores each divergence in the type of the edges.
    divergences = [
        np.asarray(_divergence(hist, totals, levels, *window)).astype(ends.dtype)
        for window in windows
    ]
    low, high = windows[int(np.argmin(divergences))]
    return float(ends[low]), float(ends[high])


def _divergence(
    hist: NDArray[np.int64],
    totals: NDArray[np.int64],
    levels: int,
    start: int,
    end: int,
) -> float:
    """Return the divergence of a window; the sums from running totals are exact."""
    size = end - start
    reference = hist[start:end].copy()
    reference[0] += totals[start]
    reference[-1] += totals[-1] - totals[end]
    full = reference != 0
    merged = size // levels
    inside = merged * levels
    ends = totals[start : start + inside + 1 : merged] if merged else totals[[0]]
    sums = np.zeros(levels)
    sums[: ends.size - 1] = np.diff(ends)
    sums[-1] += totals[end] - totals[start + inside]
    numbers = full[:inside].reshape(levels, merged).sum(axis=1)
    # A level without a non-empty bin stays 0.
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
    """Give empty bins a little, taken evenly from the others; None if all are empty.

    Raises
    ------
    CalibrationError
        If a non-empty bin would lose its whole count.
    """
    number = int(np.count_nonzero(full))
    if not number:
        return None
    taken = _EPSILON * (counts.size - number) / number
    smoothed = counts.astype(np.float32) + np.float32(-taken)
    if taken >= 1 or not (smoothed[full] > 0).all():
        msg = (
            f"only {number} of {counts.size} bins in a window are not empty: onnxruntime "
            "fails on such a histogram too; use fewer bins or another function"
        )
        raise CalibrationError(msg)
    values: NDArray[np.float32] = np.where(full, smoothed, np.float32(_EPSILON))
    return values


def onnxruntime_percentile(
    counts: Any, edges: Any, *, percentile: float = 99.999, symmetric: bool = False
) -> tuple[float, float]:
    """Return the range that ONNX Runtime's Percentile calibration chooses.

    Both ends are lower edges of the bins in which the running share of the counts reaches its
    goal. So `high` may be up to one bin below the true percentile. The calibrator then limits
    the range to the observed extremes; here the caller must do that. The result equals
    onnxruntime 1.32.0, bit for bit. O(num_bins).

    Parameters
    ----------
    counts
        Integers, shape (num_bins,): the number of values in each bin, of |x| if `symmetric`.
    edges
        Floats, shape (num_bins + 1,): the rising edges of the bins in the unit of the data.
    percentile
        The share to keep in percent; 99.999 as in the original.
    symmetric
        Whether the histogram is of |x| and the range is -T to T. Otherwise each end clips
        half of the rest.

    Returns
    -------
    `low` and `high`. If all counts are zero, both are the first edge, or its symmetric form.

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
    running = running_shares(hist)
    if symmetric:
        high = float(ends[np.searchsorted(running, share / 100.0)])
        return -high, high
    cut = (100.0 - share) / 200.0
    right = np.searchsorted(running, 1.0 - cut)
    return float(ends[np.searchsorted(running, cut)]), float(ends[right])
