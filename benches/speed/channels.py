"""Histograms by channel: counting along either axis, choosing ranges, memory."""

from __future__ import annotations

import numpy as np

import quantcal as qc
from benches.harness.figures import Sheet
from benches.harness.timing import interleave
from benches.harness.yardsticks import (
    ARITHMETIC,
    READING,
    add_speedup_limit,
    logs,
    two_threads,
)

CHANNELS = 4096
ROWS = 8192


def _numpy(x: np.ndarray):
    """Without quantcal: a loop over the channels, with a range that is known beforehand."""

    def run() -> None:
        for column in x.T:
            np.histogram(column, bins=2048, range=(-8, 8))

    return run


def main(*, smoke: bool) -> Sheet:
    """Time float32 N(0, 1) of 4096 channels; `smoke` takes few."""
    channels, rows = (64, 256) if smoke else (CHANNELS, ROWS)
    last = np.random.default_rng(0).standard_normal((rows, channels), dtype=np.float32)
    cal = qc.Calibrator()
    cal.observe("x", last, axis=1)
    histograms = cal.channels("x")
    assert histograms[channels - 1] == qc.Histogram(5).observe(last[:, -1].copy())
    sheet = Sheet("channels")
    _counting(sheet, last, rounds=2 if smoke else 5)
    _searching(sheet, cal, channels, rounds=1 if smoke else 3)
    for what, size in (("memory", cal.nbytes), ("file", len(cal.to_bytes()))):
        each = [size / channels / 1e3]
        sheet.add(f"{what}, {channels:,} channels", "float32", each, unit="KB/channel")
    return sheet


def _counting(sheet: Sheet, last: np.ndarray, *, rounds: int) -> None:
    rows, channels = last.shape
    first = last.reshape(channels, rows)

    def ours(x: np.ndarray, axis: int):
        return lambda: qc.Calibrator().observe("x", x, axis=axis)

    loop = "numpy.histogram in a loop over the channels"
    work = {READING: last.max, loop: _numpy(last)}
    axes = {"channels first": (first, 0), "channels last": (last, 1)}
    for name, (x, axis) in axes.items():
        work[name] = ours(x, axis)
        work[f"{name}, 2 threads"] = ours(x, axis)
    threads = {name: 2 for name in work if "2 threads" in name}
    seconds = interleave(work | two_threads(), rounds=rounds, threads=threads)
    per, shape = last.size * 1e-9, f"{channels:,} channels × {rows:,}, float32"
    for name in axes:
        sheet.add(
            f"{name}, {shape}",
            "1 core",
            seconds[name],
            unit="ns/element",
            per=per,
            at_most=1.5,
            yardstick=(READING, seconds[READING]),
        )
        sheet.ratio(
            f"{name}, {shape}",
            "2 cores, speed-up",
            seconds[name],
            seconds[f"{name}, 2 threads"],
            at_least=1.6,
        )
    add_speedup_limit(sheet, seconds)
    sheet.add(loop, "1 core", seconds[loop], unit="ns/element", per=per)


def _searching(sheet: Sheet, cal: qc.Calibrator, channels: int, *, rounds: int) -> None:
    searches = {ARITHMETIC: logs()}
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
    threads = dict.fromkeys(list(searches)[1:], 2)
    seconds = interleave(searches, rounds=rounds, threads=threads)
    for name in threads:
        sheet.add(
            f"ranges of {channels:,} channels, {name}",
            "2 cores",
            seconds[name],
            unit="s",
            yardstick=(ARITHMETIC, seconds[ARITHMETIC]),
        )
