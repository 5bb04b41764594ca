"""Many small arrays, one tensor each: the cost of a call, and of counters outside the cache."""

from __future__ import annotations

import subprocess
import sys
import time

import quantcal as qc
from benches.harness.figures import Sheet
from benches.harness.process import ROOT, command
from benches.harness.shapes import gauss
from benches.harness.timing import interleave
from benches.harness.yardsticks import READING

PASSES = 8
"""Passes of a round, as in a small calibration."""


def main(*, smoke: bool) -> Sheet:
    """Time 1000 arrays of 1024 elements and 700 of 16,384, in first and later passes."""
    sheet = Sheet("calls")
    rounds = 2 if smoke else 9
    _small(sheet, 100 if smoke else 1000, 1024, rounds)
    _cold(sheet, 70 if smoke else 700, 1 << 14, rounds)
    return sheet


def _names(arrays: list) -> list[str]:
    return [f"layer.{i}.output" for i in range(len(arrays))]


def _observer(cal: qc.Calibrator, arrays: list, passes: int):
    pairs = list(zip(_names(arrays), arrays, strict=True))

    def run() -> None:
        for _ in range(passes):
            for name, array in pairs:
                cal.observe(name, array)

    return run


def _first(arrays: list, passes: int = 1):
    """Return work that observes the arrays with a new calibrator."""
    pairs = list(zip(_names(arrays), arrays, strict=True))

    def run() -> None:
        cal = qc.Calibrator()
        for _ in range(passes):
            for name, array in pairs:
                cal.observe(name, array)

    return run


def _small(sheet: Sheet, tensors: int, size: int, rounds: int) -> None:
    """The cost of a call is what exceeds counting the same values as one array."""
    x = gauss(tensors * size)
    arrays = list(x.reshape(tensors, size))
    single = list(x[:tensors].reshape(tensors, 1))
    kept, tiny = qc.Calibrator(), qc.Calibrator()
    observe = _observer(kept, arrays, PASSES)
    observe()
    assert kept["layer.7.output"].count == PASSES * size
    together = qc.Histogram()
    for array in arrays:
        together.observe(array)
    assert together == qc.Histogram().observe(x)
    work = {
        READING: x.max,
        "counting": lambda: qc.Histogram().observe(x),
        "first": _first(arrays),
        "first eight": _first(arrays, PASSES),
        "long run": observe,
        "one value": _observer(tiny, single, PASSES),
    }
    seconds = interleave(work, rounds=rounds)
    each = [t / tensors * 1e6 for t in seconds["counting"]]
    many = PASSES * tensors
    calls = {"first": tensors, "first eight": many, "long run": many}
    name = f"{tensors:,} arrays of {size:,} elements, float32, 1 core"
    floor = (READING, [t / tensors * 1e6 for t in seconds[READING]])
    sheet.add(name, "counting itself", each, unit="µs", yardstick=floor)
    for how, number in calls.items():
        micro = [t / number * 1e6 for t in seconds[how]]
        over = [a - b for a, b in zip(micro, each, strict=True)]
        sheet.add(name, f"a call, {how}", micro, unit="µs", yardstick=floor)
        target = None if how == "first eight" else 2.0
        sheet.add(name, f"over counting, {how}", over, unit="µs", at_most=target)
    micro = [t / many * 1e6 for t in seconds["one value"]]
    sheet.add(name, "a call with 1 value", micro, unit="µs", yardstick=floor)


def _cold(sheet: Sheet, tensors: int, size: int, rounds: int) -> None:
    x = gauss(tensors * size)
    arrays = list(x.reshape(tensors, size))
    work = {
        READING: x.max,
        "first": _first(arrays),
        "long run": _observer(qc.Calibrator(), arrays, 1),
    }
    seconds = interleave(work, rounds=rounds)
    alone = "first, fresh process"
    seconds[alone] = [_alone(tensors, size) for _ in range(rounds)]
    for how in ("first", alone, "long run"):
        sheet.add(
            f"{tensors:,} tensors of {size:,} elements, float32",
            f"1 core, {how}",
            seconds[how],
            unit="ns/element",
            per=x.size * 1e-9,
            at_most=1.2,
            yardstick=(READING, seconds[READING]),
        )


def _alone(tensors: int, size: int) -> float:
    """Return the seconds of a first pass in a fresh process."""
    child = command("benches.speed.calls", tensors, size)
    done = subprocess.run(child, check=True, capture_output=True, text=True, cwd=ROOT)
    return float(done.stdout)


def _print_first(tensors: int, size: int) -> None:
    qc.set_num_threads(1)
    x = gauss(tensors * size)
    qc.Calibrator().observe("x", x[:size])  # loads what the first call needs
    run = _first(list(x.reshape(tensors, size)))
    start = time.perf_counter()
    run()
    print(time.perf_counter() - start)


if __name__ == "__main__":
    _print_first(*map(int, sys.argv[1:]))
