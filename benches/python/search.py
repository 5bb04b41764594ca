"""Choosing a range: quantcal beside onnxruntime's entropy search on 2048 bins."""

from __future__ import annotations

import numpy as np
from timing import interleave, show

import quantcal as qc


def main(*, smoke: bool) -> None:
    """Time the searches on the histogram of a million values."""
    from onnxruntime.quantization.calibrate import HistogramCollector

    n = 1 << (16 if smoke else 20)
    x = np.random.default_rng(0).standard_normal(n, dtype=np.float32)
    histogram = qc.Histogram().observe(x)
    collector = HistogramCollector("entropy", False, 2048, 128, 99.999, "same")
    collector.collect_value({"x": [x]})
    counts = collector.histogram_dict["x"]
    work = {
        f"quantcal {name}, {format}": (
            lambda name=name, format=format: qc.calibrate(
                histogram, name, format=format
            )
        )
        for name in ("minmax", "percentile_99.99", "kl", "mse")
        for format in ("int8", "uint8")
    }
    work["onnxruntime entropy"] = lambda: collector.get_entropy_threshold(counts, 128)
    seconds = interleave(work, rounds=1 if smoke else 7)
    show(
        "choosing one range, 2048 bins",
        seconds,
        per=1e-3,
        unit="ms",
        ours="quantcal kl, int8",
    )
