"""`import quantcal` compared with `import numpy`, each in a fresh interpreter."""

from __future__ import annotations

import subprocess
import sys

from benches.harness.figures import Sheet

_PROGRAM = """
import time
start = time.perf_counter()
import {}
print(time.perf_counter() - start)
"""


def _seconds(package: str) -> float:
    program = [sys.executable, "-c", _PROGRAM.format(package)]
    done = subprocess.run(program, capture_output=True, text=True, check=True)
    return float(done.stdout)


def main(*, smoke: bool) -> Sheet:
    """Time both imports in turns, without the start of the interpreter."""
    rounds = 2 if smoke else 15
    seconds: dict[str, list[float]] = {"numpy": [], "quantcal": []}
    for turn in range(rounds + 1):
        for package, times in seconds.items():
            elapsed = _seconds(package)
            if turn:  # the first fills the file system's caches
                times.append(elapsed)
    sheet = Sheet("importing")
    numpy, ours = seconds["numpy"], seconds["quantcal"]
    sheet.add("import numpy", "fresh process", numpy, unit="ms", per=1e-3)
    sheet.add(
        "import quantcal",
        "fresh process",
        ours,
        unit="ms",
        per=1e-3,
        yardstick=("import numpy", numpy),
    )
    sheet.ratio("import quantcal", "of import numpy", ours, numpy, at_most=1.3)
    return sheet
