"""Time and memory over the number of elements, tensors, channels and threads.

`python -m benches.system.scaling` draws `IMAGE` in about five minutes. Every point is measured
in a fresh process. Its peak memory is the growth over what the process held before.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import quantcal as qc
from benches.harness import machine
from benches.harness.figures import Sheet
from benches.harness.process import DOCS, ROOT, command
from benches.harness.shapes import gauss
from benches.system.scaling_picture import Points, draw, slope

IMAGE = DOCS / "images" / "scaling.png"
RESULTS = ROOT / "target" / "scaling.json"

CHUNK = 1 << 24  # elements of a stream that are in memory at a time
TENSOR = 1 << 16  # elements of each tensor when there are many
ROWS = 1 << 10  # values of each channel
LIMIT_GB = 1.5  # for 10,000 tensors


def elements(n: int) -> Callable[[], Any]:
    """Observe a stream of `n` values of one tensor."""
    x = gauss(min(n, CHUNK))

    def run() -> qc.Calibrator:
        cal = qc.Calibrator()
        for start in range(0, n, CHUNK):
            cal.observe("x", x[: n - start])
        assert cal["x"].count == n
        return cal

    return run


def tensors(n: int) -> Callable[[], Any]:
    """Observe `n` tensors once each, at scales that are no powers of two."""
    x = gauss(TENSOR + 4096)
    scales = np.float32(1.01) ** np.arange(64, dtype=np.float32)
    arrays = [x[i * 64 : i * 64 + TENSOR] * scale for i, scale in enumerate(scales)]

    def run() -> qc.Calibrator:
        cal = qc.Calibrator()
        for i in range(n):
            cal.observe(f"layer.{i}.output", arrays[i % len(arrays)])
        return cal

    return run


def channels(n: int) -> Callable[[], Any]:
    """Observe one tensor with `n` channels on its last axis."""
    x = gauss(ROWS * n).reshape(ROWS, n)

    def run() -> qc.Calibrator:
        cal = qc.Calibrator()
        cal.observe("x", x, axis=1)
        return cal

    return run


def threads(n: int) -> Callable[[], Any]:
    """Observe 2^26 values with `n` threads."""
    x = gauss(1 << 26)
    qc.set_num_threads(n)
    return lambda: qc.Calibrator().observe("x", x)


AXES: dict[str, Callable[[int], Callable[[], Any]]] = {
    "elements": elements,
    "tensors": tensors,
    "channels": channels,
    "threads": threads,
}


def sizes(axis: str, *, smoke: bool) -> list[int]:
    """Return the sizes along an axis, about three a decade."""
    if axis == "threads":
        return list(range(1, 2 * (os.cpu_count() or 1) + 1))
    low, high = {"elements": (3, 9), "tensors": (0, 4), "channels": (0, 4)}[axis]
    if smoke:
        high = low + 2
    steps = range(low * 3, high * 3 + 1, 3 if smoke else 1)
    return sorted({round(10 ** (step / 3)) for step in steps})


def point(axis: str, size: int) -> dict[str, float]:
    """Measure one point in this process: minimum time, memory held, growth of the peak."""
    if axis != "threads":
        qc.set_num_threads(1)
    run = AXES[axis](size)
    before = settle()
    kept = run()
    held = resident() - before
    peak = peak_resident() - before
    nbytes = kept.nbytes if isinstance(kept, qc.Calibrator) else 0
    del kept
    times = []
    start = time.perf_counter()
    while len(times) < 3 or (len(times) < 1000 and time.perf_counter() - start < 0.2):
        begin = time.perf_counter()
        run()
        times.append(time.perf_counter() - begin)
        if time.perf_counter() - start > 10:
            break
    return {
        "size": size,
        "seconds": min(times),
        "held": held,
        "peak": peak,
        "nbytes": nbytes,
    }


def settle() -> int:
    """Return free memory, reset the peak, and return the resident size (Linux, glibc).

    Otherwise the measured work would reuse what making the data has freed.
    """
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")
    return resident()


def resident() -> int:
    """Return the resident size of this process in bytes (Linux)."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def peak_resident() -> int:
    """Return the maximum resident size since `settle`, in bytes (Linux)."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) * 1024
    raise OSError("/proc/self/status has no VmHWM")


def measure(*, smoke: bool) -> Points:
    """Measure all points, each in a fresh process."""
    found: Points = {}
    for axis in AXES:
        found[axis] = []
        for size in sizes(axis, smoke=smoke):
            child = command("benches.system.scaling", "--point", axis, size)
            done = subprocess.run(
                child, capture_output=True, text=True, check=True, cwd=ROOT
            )
            found[axis].append(json.loads(done.stdout))
    return found


def main(*, smoke: bool) -> Sheet:
    """Measure and fit; draw the figure unless `smoke`."""
    points = measure(smoke=smoke)
    sheet = Sheet("scaling")
    for axis in ("elements", "tensors", "channels"):
        exponent, off = slope(points[axis], "seconds")
        sheet.add(axis, "exponent of the time", [exponent], unit="", at_most=1.05)
        sheet.add(axis, "largest distance from the fit", [off], unit="×", at_most=1.5)
    one, *more = points["threads"]
    for p in more:
        faster = one["seconds"] / p["seconds"]
        sheet.add("threads", f"{p['size']} threads, speed-up", [faster], unit="×")
    stream, many = points["elements"][-1], points["tensors"][-1]
    sheet.add(
        f"one tensor, {stream['size']:,} values",
        "peak of observing it",
        [stream["peak"] / 1e3],
        unit="KB",
    )
    name = f"{many['size']:,} tensors of {TENSOR:,} values"
    for what, key in (("counters", "nbytes"), ("resident", "held")):
        each = many[key] / many["size"] / 1e3
        sheet.add(name, what, [each], unit="KB/tensor")
    limit = None if smoke else LIMIT_GB
    sheet.add(name, "peak, all", [many["peak"] / 1e9], unit="GB", at_most=limit)
    if not smoke:
        head = machine.describe()
        RESULTS.parent.mkdir(exist_ok=True)
        RESULTS.write_text(json.dumps({"machine": head, "points": points}, indent=1))
        draw(points, head, IMAGE)
    return sheet


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--point", nargs=2, metavar=("AXIS", "SIZE"))
    parser.add_argument(
        "--redraw", action="store_true", help="draw the last results again"
    )
    given = parser.parse_args()
    if given.point:
        print(json.dumps(point(given.point[0], int(given.point[1]))))
    elif given.redraw:
        last = json.loads(RESULTS.read_text())
        draw(last["points"], last["machine"], IMAGE)
    else:
        machine.show(machine.describe())
        main(smoke=False).show()
