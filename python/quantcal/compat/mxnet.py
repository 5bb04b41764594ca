"""Apache MXNet's entropy threshold."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quantcal._core import CalibrationError
from quantcal.compat import _checks

Floats = NDArray[np.float32]

_EPSILON = np.float32(1e-4)  # what an empty bin is given


def mxnet_entropy(
    counts: Any, edges: Any, *, num_quantized_bins: int = 255
) -> tuple[float, float]:
    """Return the range that MXNet's entropy calibration chooses.

    Windows about the middle bin, from `num_quantized_bins` bins to all, are merged to that
    many levels, and the first with the least KL divergence wins. Unlike ONNX Runtime, which
    cites it, a level's value goes to bins with mass only and the last level extends to the
    end; but the first bin's own count is missing from the quantised distribution, since it
    is counted among what lies outside.

    Equal to mxnet 1.9.1: float32 sums one after the other, logarithms rounded from float64
    (the C library's, which mxnet calls, may differ in the last bit). O(num_bins^2), 0.3 s at
    8001 bins, as long as the original's compiled loop on two cores.

    Parameters
    ----------
    counts : array of whole numbers, shape (num_bins,)
        How many values each bin holds, over [-T, T]; num_bins must be odd (8001 in mxnet).
    edges : array of floats, shape (num_bins + 1,)
        The rising ends of the bins, in the unit of the data.
    num_quantized_bins : int
        Levels; 255 as in the original, which takes 511 for data without negative values that
        may become uint8.

    Returns
    -------
    tuple of float
        (-T, T), or (0, T) if no bin below the middle one has mass, which mxnet decides from
        the least value. T is an edge in float32; that of the narrowest window if all counts
        are zero.

    Raises
    ------
    CalibrationError
        If the histogram is malformed, has an even number of bins, fewer than levels, or
        2**31 counts or more.
    TypeError
        If an argument is of the wrong type.

    Examples
    --------
    >>> x = np.random.default_rng(0).standard_normal(100_000)
    >>> counts, edges = np.histogram(x, 2001, range=(-8, 8))
    >>> low, high = qc.compat.mxnet_entropy(counts, edges)
    >>> low == -high
    True
    """
    hist, ends = _checks.histogram(counts, edges)
    levels = _checks.integer("num_quantized_bins", num_quantized_bins, 1)
    middle, half = hist.size // 2, levels // 2
    if hist.size % 2 == 0:
        msg = (
            f"{hist.size} bins have no middle one, about which mxnet widens its window: "
            "give an odd number of bins"
        )
        raise CalibrationError(msg)
    if hist.sum() >= 1 << 31:
        msg = (
            f"counts sum to {hist.sum()}, but mxnet adds in 32 bits: below 2**31 it has an "
            "answer; divide the counts"
        )
        raise CalibrationError(msg)
    if hist.size < levels:
        _checks.too_few_bins(hist.size, levels, "num_quantized_bins")
    search = _Search(hist, levels)
    divergences = [search(middle - i, middle + i + 1) for i in range(half, middle + 1)]
    threshold = float(np.float32(ends[middle + half + 1 + int(np.argmin(divergences))]))
    return (-threshold if hist[:middle].any() else 0.0), threshold


class _Search:
    """The divergence of a window; sums of counts come from running totals."""

    def __init__(self, hist: NDArray[np.int64], levels: int) -> None:
        self.hist = hist.astype(np.float32)  # mxnet's arrays are
        self.levels = levels
        self.left = np.cumsum(self.hist, dtype=np.float32)
        whole = self.hist.astype(np.int64)
        self.totals = np.concatenate(([0], np.cumsum(whole)))
        self.full = np.concatenate(([0], np.cumsum(whole > 0)))

    def __call__(self, start: int, end: int) -> float:
        size = end - start
        p = self.hist[start:end].copy()
        p[0] = self.left[start]
        p[-1] = _total(self.hist[end - 1 :])
        full = p != 0
        merged = size // self.levels
        bounds = start + merged * np.arange(self.levels + 1)
        # The first bin's own count belongs to the outside.
        totals, numbers = self.totals[bounds], self.full[bounds]
        totals[0], numbers[0] = self.totals[start + 1], self.full[start + 1]
        values = np.diff(totals).astype(np.float32)
        rest = self.totals[end] - self.totals[bounds[-1]]
        values[-1] += np.float32(rest)
        norms = np.diff(numbers)
        norms[-1] += self.full[end] - self.full[bounds[-1]]
        values = np.where(
            norms > 0, values / np.maximum(norms, 1).astype(np.float32), 0
        )
        widths = np.full(self.levels, merged)
        widths[-1] += size - merged * self.levels
        q = np.repeat(values.astype(np.float32), widths)
        q[~full] = 0
        smooth_p, smooth_q = _smooth(p, full), _smooth(q, q != 0)
        if smooth_p is None or smooth_q is None:
            return math.inf
        smooth_p /= _total(smooth_p)
        smooth_q /= _total(smooth_q)
        ratio = (smooth_p / smooth_q).astype(np.float64)
        return float(_total(smooth_p * np.log(ratio).astype(np.float32)))


def _smooth(values: Floats, full: NDArray[np.bool_]) -> Floats | None:
    """Give empty bins a little and take it from the others; None where mxnet gives up."""
    number = int(np.count_nonzero(full))
    if not number:
        return None
    taken = _EPSILON * np.float32(values.size - number) / np.float32(number)
    if taken >= 1:
        return None
    smoothed: Floats = np.where(full, values - taken, _EPSILON)
    return smoothed


def _total(values: Floats) -> np.float32:
    """Return the sum, one after the other: `sum` would add in pairs."""
    total: np.float32 = np.add.accumulate(values, dtype=np.float32)[-1]
    return total
