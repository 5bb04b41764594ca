"""Counting values: quantcal beside what people use today, on one core and on all."""

from __future__ import annotations

import os

import numpy as np
from timing import interleave, show

import quantcal as qc


def _ort(x: np.ndarray):
    """onnxruntime keeps the arrays of all samples first; only its counting is timed."""
    from onnxruntime.quantization.calibrate import HistogramCollector

    def run() -> None:
        HistogramCollector("entropy", False, 2048, 128, 99.999, "same").collect_value(
            {"x": [x]}
        )

    return run


def _torch(x: np.ndarray) -> dict:
    try:
        import torch
        from torch.ao.quantization import HistogramObserver
    except ImportError:
        print("  (torch is not installed: `make torch` adds its observers)")
        return {}
    torch.set_num_threads(1)
    tensor = torch.from_numpy(x)
    return {
        "torch HistogramObserver": lambda: HistogramObserver()(tensor),
        "torch.histc, 2048 bins": lambda: torch.histc(tensor, 2048),
        "torch.aminmax (the floor)": lambda: torch.aminmax(tensor),
    }


def main(*, smoke: bool) -> None:
    """Time float32 N(0, 1); `smoke` is small and shows only that it runs."""
    n = 1 << (20 if smoke else 26)
    rounds = 1 if smoke else 5
    x = np.random.default_rng(0).standard_normal(n, dtype=np.float32)
    counts = qc.Histogram().observe(x)
    assert (counts.count, counts.min, counts.max) == (n, x.min(), x.max())
    cores = os.cpu_count() or 1

    def ours(threads: int):
        def run() -> None:
            qc.set_num_threads(threads)
            qc.Histogram().observe(x)

        return run

    work = {"quantcal, 1 thread": ours(1)}
    if cores > 1:
        work[f"quantcal, {cores} threads"] = ours(cores)
    work |= {
        "numpy.histogram, 2048 bins": lambda: np.histogram(x, bins=2048),
        "onnxruntime HistogramCollector": _ort(x),
        **_torch(x),
    }
    seconds = interleave(work, rounds=rounds)
    title = f"float32 N(0, 1), {n:,} elements, {rounds} rounds in turns"
    show(title, seconds, per=n * 1e-9, unit="ns/element", ours="quantcal, 1 thread")
    qc.set_num_threads(cores)
