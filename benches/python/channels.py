"""Histograms by channel: recording along either axis, computing, memory."""

from __future__ import annotations

import os
import statistics

import numpy as np
from timing import interleave, show

import quantcal as qc

CHANNELS = 4096
ROWS = 8192


def _numpy(x: np.ndarray):
    """What there is without quantcal: a loop, and a range that must be known beforehand."""

    def run() -> None:
        for column in x.T:
            np.histogram(column, bins=2048, range=(-8, 8))

    return run


def main(*, smoke: bool) -> None:
    """Time float32 N(0, 1) of 4096 channels; `smoke` is small and shows only that it runs."""
    channels, rows = (64, 256) if smoke else (CHANNELS, ROWS)
    rounds = 1 if smoke else 5
    last = np.random.default_rng(0).standard_normal((rows, channels), dtype=np.float32)
    first = last.reshape(channels, rows)
    cal = qc.Calibrator()
    cal.observe("x", last, axis=1)
    histograms = cal.channels("x")
    assert histograms[channels - 1] == qc.Histogram(5).observe(last[:, -1].copy())
    cores = os.cpu_count() or 1

    def ours(x: np.ndarray, axis: int, threads: int):
        def run() -> None:
            qc.set_num_threads(threads)
            qc.Calibrator().observe("x", x, axis=axis)

        return run

    work = {}
    for threads in sorted({1, cores}):
        work[f"channels last, {threads} thread(s)"] = ours(last, 1, threads)
        work[f"channels first, {threads} thread(s)"] = ours(first, 0, threads)
    work["numpy.histogram by channel, channels last"] = _numpy(last)
    seconds = interleave(work, rounds=rounds)
    title = f"By channel: float32 N(0, 1), {rows:,} rows × {channels:,} channels"
    show(title, seconds, per=last.size * 1e-9, unit="ns/element", ours=next(iter(work)))

    searches = {}
    for strategy, format in (
        ("minmax", "int8"),
        ("percentile_99.99", "int8"),
        ("mse", "int8"),
        ("mse", "uint8"),
        ("kl", "int8"),
    ):
        searches[f"{strategy}, {format}"] = lambda s=strategy, f=format: cal.compute(
            s, format=f
        )
    qc.set_num_threads(cores)
    seconds = interleave(searches, rounds=1 if smoke else 3)
    print(f"\nRanges of {channels:,} channels, with report, {cores} threads")
    for name, times in seconds.items():
        print(f"  {name:<24} {statistics.median(times):8.3f} s")
    saved = len(cal.to_bytes())
    print(
        f"\nMemory of {channels:,} channels: {cal.nbytes / 1e6:.1f} MB "
        f"({cal.nbytes / channels / 1e3:.1f} KB each); file {saved / 1e6:.1f} MB"
    )
