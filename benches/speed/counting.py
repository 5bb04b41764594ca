"""Counting values into a histogram: quantcal and other libraries, on one core and on two."""

from __future__ import annotations

import numpy as np

import quantcal as qc
from benches.harness.figures import Sheet
from benches.harness.peers import counting
from benches.harness.shapes import code_counts, gauss
from benches.harness.timing import interleave, show
from benches.harness.yardsticks import READING, add_speedup_limit, two_threads

ABS_MAX = "torch.aminmax, 1 thread"
"""A vectorized max|x|: one pass finds minimum and maximum."""

TARGETS = {
    "numpy.histogram": 15,
    "torch HistogramObserver, 1 thread": 15,
    "torch HistogramObserver, 2 threads": 15,
    "onnxruntime HistogramCollector": 20,
    "fast-histogram": 5,
}
"""By which factor quantcal on two cores should be faster."""


def main(*, smoke: bool) -> Sheet:
    """Time float32 N(0, 1); `smoke` takes few values."""
    n = 1 << (20 if smoke else 26)
    rounds = 2 if smoke else 7
    x = gauss(n)
    counts = qc.Histogram().observe(x)
    assert (counts.count, counts.min, counts.max) == (n, x.min(), x.max())
    assert np.array_equal(counts.bins()[2], code_counts(x, 8))
    one, two = "quantcal, 1 thread", "quantcal, 2 threads"
    peers = counting(x)
    work = {
        READING: x.max,
        one: lambda: qc.Histogram().observe(x),
        two: lambda: qc.Histogram().observe(x),
        **two_threads(),
        **peers,
    }
    seconds = interleave(work, rounds=rounds, threads={two: 2})
    title = f"float32 N(0, 1), {n:,} elements, {rounds} rounds in turns"
    ours = {name: seconds[name] for name in (one, two, *peers)}
    show(title, ours, per=n * 1e-9, unit="ns/element", ours=two)

    sheet = Sheet("counting")
    name, floor = f"float32 N(0, 1), {n:,} elements", seconds[READING]
    yardstick = (READING, floor)
    unit, per = "ns/element", n * 1e-9
    sheet.add(name, READING, floor, unit=unit, per=per)
    if ABS_MAX in seconds:
        sheet.add(name, f"max|x| ({ABS_MAX})", seconds[ABS_MAX], unit=unit, per=per)
    sheet.add(
        name,
        "1 core",
        seconds[one],
        unit=unit,
        per=per,
        at_most=0.60,
        yardstick=yardstick,
    )
    floors = seconds.get(ABS_MAX, floor)
    sheet.ratio(name, "1 core, of max|x|", seconds[one], floors, at_most=2.5)
    sheet.add(name, "2 cores", seconds[two], unit=unit, per=per, yardstick=yardstick)
    sheet.ratio(name, "2 cores, speed-up", seconds[one], seconds[two], at_least=1.8)
    add_speedup_limit(sheet, seconds)
    for peer, times in seconds.items():
        if peer in peers and peer != ABS_MAX:
            sheet.add(peer, "its time", times, unit=unit, per=per)
            sheet.ratio(
                peer,
                "speed-up by quantcal on 2 cores",
                times,
                seconds[two],
                at_least=TARGETS.get(peer),
            )
    return sheet
