"""Histograms of other libraries, as work to be timed after their counts are checked.

A library that is not installed is skipped, with the reason.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import numpy as np

from benches.harness.shapes import Floats

BINS = 2048

Work = dict[str, Callable[[], Any]]


def found(name: str) -> Any:
    """Return a module; None, with the reason printed, if it is missing."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        print(
            f"  skipped: {name} ({error}); install it with `make bench` or `make torch`"
        )
        return None


def counting(x: Floats) -> Work:
    """Return how each library counts `x` in 2048 bins."""
    expected = np.histogram(x, bins=BINS)[0]
    return {
        "numpy.histogram": lambda: np.histogram(x, bins=BINS),
        **_fast(x, expected),
        **_boost(x, expected),
        **_torch(x, expected),
        **_onnxruntime(x),
    }


def _check(name: str, counts: Any, expected: Any) -> None:
    """Compare counts with numpy's; rounding may put a value into the neighboring bin."""
    counts = np.asarray(counts, dtype=np.int64)
    apart = int(np.abs(np.cumsum(counts) - np.cumsum(expected)).max())
    if apart > 1e-4 * expected.sum() + 1:
        msg = (
            f"{name}: {apart} of {expected.sum()} values are in other bins than numpy's"
        )
        raise AssertionError(msg)


def _fast(x: Floats, expected: Any) -> Work:
    fast = found("fast_histogram")
    if fast is None:
        return {}
    ends = (float(x.min()), float(x.max()))
    _check("fast-histogram", fast.histogram1d(x, bins=BINS, range=ends), expected)

    def run() -> Any:  # it needs the range, so finding it is part of the work
        ends = (float(x.min()), float(x.max()))
        return fast.histogram1d(x, bins=BINS, range=ends)

    return {"fast-histogram": run}


def _boost(x: Floats, expected: Any) -> Work:
    boost = found("boost_histogram")
    if boost is None:
        return {}

    def run(threads: int) -> Any:
        axis = boost.axis.Regular(BINS, float(x.min()), float(x.max()))
        histogram = boost.Histogram(axis, storage=boost.storage.Int64())
        return histogram.fill(x, threads=threads)

    # Its overflow bin takes the maximum.
    _check("boost-histogram", run(1).values(), expected)
    return {
        "boost-histogram, 1 thread": lambda: run(1),
        "boost-histogram, 2 threads": lambda: run(2),
    }


def _torch(x: Floats, expected: Any) -> Work:
    torch = found("torch")
    if torch is None:
        return {}
    from torch.ao.quantization import HistogramObserver

    tensor = torch.from_numpy(x)
    _check("torch.histc", torch.histc(tensor, BINS), expected)
    low, high = torch.aminmax(tensor)
    assert (float(low), float(high)) == (x.min(), x.max())
    observer = HistogramObserver(bins=BINS)
    observer(tensor)
    # Its counts are float32: they round, and stop growing at 2^24.
    assert abs(float(observer.histogram.sum()) / x.size - 1) < 1e-3

    def threads(number: int, run: Callable[[], Any]) -> Callable[[], Any]:
        def work() -> Any:
            torch.set_num_threads(number)
            return run()

        return work

    def observe() -> Any:
        return HistogramObserver(bins=BINS)(tensor)

    return {
        "torch.aminmax, 1 thread": threads(1, lambda: torch.aminmax(tensor)),
        "torch.histc": threads(1, lambda: torch.histc(tensor, BINS)),
        "torch HistogramObserver, 1 thread": threads(1, observe),
        "torch HistogramObserver, 2 threads": threads(2, observe),
    }


def _onnxruntime(x: Floats) -> Work:
    """onnxruntime first keeps the arrays of all samples; only its counting is timed."""
    if found("onnxruntime.quantization.calibrate") is None:
        return {}
    from onnxruntime.quantization.calibrate import HistogramCollector

    def run() -> Any:
        collector = HistogramCollector("entropy", False, BINS, 128, 99.999, "same")
        collector.collect_value({"x": [x]})
        return collector

    counts, _, low, high, _ = run().histogram_dict["x"]
    assert (counts.sum(), low, high) == (x.size, x.min(), x.max())
    return {"onnxruntime HistogramCollector": run}
