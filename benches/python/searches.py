"""Choosing ranges: each method, all of them, many tensors, and onnxruntime's search."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from figures import Sheet
from peers import found
from shapes import gauss
from timing import interleave

import quantcal as qc
from quantcal import compat
from quantcal.comparing import STRATEGIES

YARDSTICK = "log of 2^18 values"
"""Arithmetic that stays in the cache: searching is not bound by memory."""

METHODS = {
    ("minmax", "int8"): None,
    ("percentile_99.99", "int8"): None,
    ("kl", "int8"): 1.0,
    ("kl", "uint8"): None,
    ("mse", "int8"): None,
    ("mse", "uint8"): 3.0,
    ("entropy", "int8"): 3.0,
    ("entropy", "uint8"): 3.0,
    ("aciq", "int8"): None,
    ("hybrid", "int8"): None,
}
"""Strategy and format, and how many milliseconds it may take. uint8 is affine: two ends."""

ALL = 12.0  # milliseconds for all methods together
TOLD = 1.5  # seconds for a thousand tensors


def logs() -> Callable[[], Any]:
    """Return the yardstick."""
    x = np.linspace(1, 2, 1 << 18)
    out = np.empty_like(x)
    return lambda: np.log(x, out=out)


def main(*, smoke: bool) -> Sheet:
    """Time the searches on histograms of N(0, 1)."""
    n = 1 << (16 if smoke else 20)
    histogram = qc.Histogram().observe(gauss(n))
    sheet = Sheet("searching")
    _methods(sheet, histogram, f"histogram of {n:,} values", rounds=2 if smoke else 9)
    _onnxruntime(sheet, gauss(n), rounds=2 if smoke else 5)
    _many(sheet, smoke=smoke)
    return sheet


def _methods(sheet: Sheet, histogram: qc.Histogram, name: str, *, rounds: int) -> None:
    formats = {name: qc.QuantFormat(name) for name in ("int8", "uint8")}
    # Checked before they are timed: MSE has the least error of all.
    for format in formats.values():
        rows = {
            row.strategy: row.mse for row in qc.compare(histogram, format)["values"]
        }
        assert rows["mse"] <= min(rows.values()) * 1.002
    work: dict[str, Callable[[], Any]] = {YARDSTICK: logs()}
    for strategy, format in METHODS:
        work[f"{strategy}, {format}"] = lambda s=strategy, f=formats[format]: (
            qc.calibrate(histogram, s, format=f)
        )
    for format in formats.values():
        work[f"all {len(STRATEGIES)} methods, {format.name}"] = lambda f=format: [
            strategy.range(histogram, f) for strategy in STRATEGIES
        ]
        work[f"all, with all figures (compare), {format.name}"] = lambda f=format: (
            qc.compare(histogram, f)
        )
    seconds = interleave(work, rounds=rounds)
    targets = {f"{s}, {f}": target for (s, f), target in METHODS.items()}
    for method, times in seconds.items():
        together = method.startswith("all") and "compare" not in method
        sheet.add(
            f"{method}, {name}" if method != YARDSTICK else method,
            "1 core",
            times,
            unit="ms",
            per=1e-3,
            at_most=ALL if together else targets.get(method),
            yardstick=(YARDSTICK, seconds[YARDSTICK]),
        )


def _onnxruntime(sheet: Sheet, x: np.ndarray, *, rounds: int) -> None:
    if found("onnxruntime.quantization.calibrate") is None:
        return
    from onnxruntime.quantization.calibrate import HistogramCollector

    end = float(np.abs(x).max())
    counts, edges = np.histogram(x, 2048, range=(-end, end))
    collector = HistogramCollector("entropy", False, 2048, 128, 99.999, "same")
    seen = (counts, edges, np.array(-end), np.array(end), end)
    histogram = qc.Histogram().observe(x)

    def theirs() -> Any:
        return collector.get_entropy_threshold(seen, 128)

    assert tuple(map(float, theirs())) == compat.onnxruntime_entropy(counts, edges)
    own = qc.calibrate(histogram, "kl", format="int8").high
    print(f"\n  entropy threshold: onnxruntime {theirs()[1]:.4f}, KL {own:.4f}")
    peer = "onnxruntime entropy"
    work = {
        YARDSTICK: logs(),
        peer: theirs,
        "same threshold": lambda: compat.onnxruntime_entropy(counts, edges),
        "KL": lambda: qc.calibrate(histogram, "kl", format="int8"),
    }
    seconds = interleave(work, rounds=rounds)
    yardstick = (YARDSTICK, seconds[YARDSTICK])
    name = "entropy search, 2048 bins, 128 levels"
    sheet.add(name, peer, seconds[peer], unit="ms", per=1e-3)
    same = seconds["same threshold"]
    sheet.add(
        name,
        "compat, same threshold",
        same,
        unit="ms",
        per=1e-3,
        yardstick=yardstick,
    )
    sheet.ratio(name, "compat, faster", seconds[peer], same, at_least=300)
    sheet.ratio(name, "KL, faster", seconds[peer], seconds["KL"], at_least=300)


def _many(sheet: Sheet, *, smoke: bool) -> None:
    """compute() of many tensors, on one and on two threads."""
    few, many = (16, 32) if smoke else (200, 1000)
    cal = tensors(many)
    part = qc.Calibrator()
    for name in cal.names[:few]:
        part.observe(name, gauss(1 << 16))
    assert len(part.compute("mse")) == few
    for strategy, format in (("kl", "int8"), ("mse", "uint8"), ("entropy", "uint8")):
        work = {
            str(threads): lambda s=strategy, f=format: part.compute(s, format=f)
            for threads in (1, 2)
        }
        seconds = interleave(work, rounds=2 if smoke else 5, threads={"2": 2})
        sheet.ratio(
            f"compute, {few} tensors, {strategy}, {format}",
            "2 cores, faster",
            seconds["1"],
            seconds["2"],
            at_least=1.8,
        )
    work = {YARDSTICK: logs()} | {
        format: lambda f=format: cal.compute("mse", format=f)
        for format in ("int8", "uint8")
    }
    threads = {"int8": 2, "uint8": 2}
    seconds = interleave(work, rounds=1 if smoke else 3, threads=threads)
    for format in threads:
        sheet.add(
            f"compute, {many:,} tensors, mse, {format}",
            "2 cores",
            seconds[format],
            unit="s",
            at_most=TOLD,
            yardstick=(YARDSTICK, seconds[YARDSTICK]),
        )


def tensors(number: int, size: int = 1 << 16) -> qc.Calibrator:
    """Return a calibrator of `number` tensors of N(0, 1), each at a scale of its own."""
    x = gauss(size + number)
    cal = qc.Calibrator()
    for i in range(number):
        scale = np.float32(1 + i / number)
        cal.observe(f"layer.{i}.output", x[i : i + size] * scale)
    return cal
