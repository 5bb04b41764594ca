"""`quantcal.compat` and the packages whose thresholds it reproduces, if they are installed."""

from __future__ import annotations

import importlib.util
import statistics
from collections.abc import Callable
from typing import Any

import numpy as np

from benches.harness.timing import interleave
from quantcal import compat

Pair = tuple[Callable[[], Any], Callable[[], Any] | None]


def main(*, smoke: bool) -> None:
    """Compare the thresholds of a million values, then time every search."""
    x = np.random.default_rng(0).standard_normal(1 << (16 if smoke else 20))
    end = float(np.abs(x).max())
    counts, edges = np.histogram(np.abs(x), 2048, range=(0, end))
    signed = np.histogram(x, 2048, range=(-end, end))
    pairs: dict[str, Pair] = {
        "onnxruntime_entropy, 2048 bins": (
            lambda: compat.onnxruntime_entropy(*signed),
            onnxruntime(*signed, end),
        ),
        "modelopt_entropy, 2048 bins": (
            lambda: compat.modelopt_entropy(counts, edges),
            modelopt("_compute_amax_entropy", counts, edges),
        ),
        "modelopt_mse, 2048 bins": (
            lambda: compat.modelopt_mse(counts, edges),
            modelopt("_compute_amax_mse", counts, edges),
        ),
        "modelopt_mse by its text, 2048 bins": (
            lambda: compat.modelopt_mse(counts, edges, as_released=False),
            None,
        ),
        "ncnn_kl, 2048 bins": (lambda: compat.ncnn_kl(counts, end), None),
    }
    print("\nthresholds of other calibrators, ms")
    for name, (ours, theirs) in pairs.items():
        work = {"ours": ours} if theirs is None else {"ours": ours, "theirs": theirs}
        if theirs is not None and ours() != theirs():
            msg = f"{name}: {ours()} here, but {theirs()} there"
            raise AssertionError(msg)
        seconds = interleave(work, rounds=1 if smoke else 5)
        median = {key: 1e3 * statistics.median(s) for key, s in seconds.items()}
        line = f"  {name:<42} {median['ours']:9.2f}"
        if "theirs" in median:
            times = median["theirs"] / median["ours"]
            line += f"   the original {median['theirs']:9.2f} = {times:.1f} ×"
        print(line)


def onnxruntime(counts: Any, edges: Any, end: float) -> Callable[[], Any]:
    from onnxruntime.quantization.calibrate import HistogramCollector

    collector = HistogramCollector("entropy", False, 2048, 128, 99.999, "same")
    seen = (counts, edges, np.array(-end), np.array(end), end)
    return lambda: tuple(map(float, collector.get_entropy_threshold(seen, 128)))


def modelopt(name: str, counts: Any, edges: Any) -> Callable[[], Any] | None:
    if importlib.util.find_spec("modelopt") is None:
        return None
    from modelopt.torch.quantization.calib import histogram

    search = getattr(histogram, name)
    return lambda: search(counts.copy(), edges, 8, False).item()
