"""Convert histograms to the form from which onnxruntime's collector computes ranges.

The original code then computes Percentile, Entropy and Distribution. Only the search of
Entropy is replaced: :func:`quantcal.compat.onnxruntime_entropy` is hundreds of times faster.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from quantcal._core import Histogram
from quantcal.compat import onnxruntime_entropy


def collector_of(calibrate: Any) -> Callable[[Any], Any]:
    """Return a function that makes a collector from the histograms of a calibrator."""

    class Collector(calibrate.HistogramCollector):  # type: ignore[misc]
        def get_entropy_threshold(self, histogram: Any, num_quantized_bins: int) -> Any:
            hist, edges, low, high = histogram
            start, end = onnxruntime_entropy(
                hist, edges.astype(np.float32), num_quantized_bins=num_quantized_bins
            )
            return np.maximum(edges.dtype.type(start), low), np.minimum(
                edges.dtype.type(end), high
            )

    def make(owner: Any) -> Any:
        made = Collector(
            method=owner.method,
            symmetric=owner.symmetric,
            num_bins=owner.num_bins,
            num_quantized_bins=owner.num_quantized_bins,
            percentile=owner.percentile,
            scenario=owner.scenario,
        )
        folded = owner.method == "percentile" and owner.symmetric
        made.histogram_dict = {
            name: _uniform(histogram, dtype, owner.num_bins, folded=folded)
            for name, (histogram, dtype) in owner.engine.seen()
        }
        return made

    return make


def _uniform(
    histogram: Histogram, dtype: np.dtype[Any], num_bins: int, *, folded: bool
) -> tuple[Any, Any, Any, Any]:
    """Return counts, edges and extremes as onnxruntime's collector stores them.

    Bins are equal and cover [-T, T], where T is the largest magnitude. With `folded` they
    count |x| and cover [0, T].
    """
    low, high = histogram.min or 0.0, histogram.max or 0.0
    limit = max(abs(low), abs(high))
    extremes = (np.array(low, dtype), np.array(high, dtype))
    if not limit:  # numpy's histogram of a range of width 0
        counts, edges = np.histogram(np.zeros(1), num_bins, range=(-0.5, 0.5))
        return counts * histogram.zeros, edges.astype(dtype), *extremes
    if folded:
        counts, edges = histogram.rebin(2 * num_bins, -limit, limit)
        whole = counts.astype(np.int64)
        whole = whole[num_bins:] + whole[:num_bins][::-1]
        return whole, edges[num_bins:].astype(dtype), *extremes
    counts, edges = histogram.rebin(num_bins, -limit, limit)
    whole = counts.astype(np.int64)
    # numpy's middle edge may lie a rounding error above 0, and the original counts with
    # numpy. Tensors often have many zeros, so these must be in the same bin.
    end = dtype.type(limit)
    zero, wanted = np.histogram(np.zeros(1, dtype), num_bins, range=(-end, end))
    whole[np.searchsorted(edges, 0.0, side="right") - 1] -= histogram.zeros
    whole[np.argmax(zero)] += histogram.zeros
    return whole, wanted.astype(dtype), *extremes
