"""Choosing the ranges of many tensors, and onnxruntime's entropy search for comparison."""

from __future__ import annotations

from typing import Any

import numpy as np

import quantcal as qc
from benches.harness.figures import Sheet
from benches.harness.peers import found
from benches.harness.shapes import gauss
from benches.harness.timing import Seconds, interleave
from benches.harness.yardsticks import (
    ARITHMETIC,
    ONE_THREAD,
    TWO_THREADS,
    add_speedup_limit,
    logs,
    two_threads,
)
from quantcal import compat

LIMIT = 1.5  # seconds for a thousand tensors


def main(*, smoke: bool) -> Sheet:
    """Time the searches on histograms of N(0, 1)."""
    n = 1 << (16 if smoke else 20)
    sheet = Sheet("searches")
    _onnxruntime(sheet, gauss(n), rounds=2 if smoke else 5)
    _many(sheet, smoke=smoke)
    return sheet


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
        ARITHMETIC: logs(),
        peer: theirs,
        "same threshold": lambda: compat.onnxruntime_entropy(counts, edges),
        "KL": lambda: qc.calibrate(histogram, "kl", format="int8"),
    }
    seconds = interleave(work, rounds=rounds)
    yardstick = (ARITHMETIC, seconds[ARITHMETIC])
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
    sheet.ratio(name, "compat, speed-up", seconds[peer], same, at_least=300)
    sheet.ratio(name, "KL, speed-up", seconds[peer], seconds["KL"], at_least=300)


def _many(sheet: Sheet, *, smoke: bool) -> None:
    """compute() of many tensors, on one and on two threads."""
    few, many = (16, 32) if smoke else (200, 1000)
    cal = tensors(many)
    part = qc.Calibrator()
    for name in cal.names[:few]:
        part.observe(name, gauss(1 << 16))
    assert len(part.compute("mse")) == few
    limits: Seconds = {ONE_THREAD: [], TWO_THREADS: []}
    for strategy, format in (("kl", "int8"), ("mse", "uint8"), ("entropy", "uint8")):
        work = {
            str(threads): lambda s=strategy, f=format: part.compute(s, format=f)
            for threads in (1, 2)
        } | two_threads()
        seconds = interleave(work, rounds=2 if smoke else 5, threads={"2": 2})
        for name in limits:
            limits[name] += seconds[name]
        sheet.ratio(
            f"compute, {few} tensors, {strategy}, {format}",
            "2 cores, speed-up",
            seconds["1"],
            seconds["2"],
            at_least=1.8,
        )
    add_speedup_limit(sheet, limits)
    work = {ARITHMETIC: logs()} | {
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
            at_most=LIMIT,
            yardstick=(ARITHMETIC, seconds[ARITHMETIC]),
        )


def tensors(number: int, size: int = 1 << 16) -> qc.Calibrator:
    """Return a calibrator of `number` tensors of N(0, 1), each with another scale."""
    x = gauss(size + number)
    cal = qc.Calibrator()
    for i in range(number):
        scale = np.float32(1 + i / number)
        cal.observe(f"layer.{i}.output", x[i : i + size] * scale)
    return cal
