"""Saving and loading a thousand tensors, and their size on disk."""

from __future__ import annotations

import tempfile
from pathlib import Path

import quantcal as qc
from benches.harness.figures import Sheet
from benches.harness.shapes import gauss
from benches.harness.timing import interleave
from benches.speed.searches import tensors

FLOOR = "plain write and read"


def main(*, smoke: bool) -> Sheet:
    """Time `save` and `load`, compared with writing and reading as many bytes."""
    number = 20 if smoke else 1000
    cal = tensors(number)
    sheet = Sheet("files")
    with tempfile.TemporaryDirectory() as folder:
        path, copy = Path(folder) / "many.qcal", Path(folder) / "plain"
        cal.save(path)
        assert qc.load(path) == cal
        content = path.read_bytes()

        def plain() -> None:
            copy.write_bytes(content)
            copy.read_bytes()

        work = {
            FLOOR: plain,
            "save": lambda: cal.save(path),
            "load": lambda: qc.load(path),
            "load, 2 threads": lambda: qc.load(path),
        }
        seconds = interleave(
            work, rounds=2 if smoke else 9, threads={"load, 2 threads": 2}
        )
    name = f"{number:,} tensors"
    for how in ("save", "load", "load, 2 threads"):
        sheet.add(
            f"{how.split(',')[0]}, {name}",
            "2 cores" if "2" in how else "1 core",
            seconds[how],
            unit="s",
            at_most=0.5 if "load" in how else None,
            yardstick=(FLOOR, seconds[FLOOR]),
        )
    million = qc.Histogram().observe(gauss(1 << (16 if smoke else 20)))
    sizes = {"65,536": len(content) / number, "a million": len(million.to_bytes())}
    for values, size in sizes.items():
        sheet.add(
            "file, float32 N(0, 1)",
            f"{values} values each",
            [size / 1e3],
            unit="KB/tensor",
            at_most=60,
        )
    return sheet
