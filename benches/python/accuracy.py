"""Accuracy of real networks after every method; writes docs/measurements/accuracy.md.

    python benches/python/accuracy.py --lines 1000

Each network is observed once; each method then chooses its ranges from the same histograms.
Models are judged in exact arithmetic, which shows the ranges alone, and natively, which
adds what this machine's kernels do. Figures are kept as they come, in --results: run again
to go on, or with --render to write the document from them.
"""

from __future__ import annotations

import argparse
import json
import math
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import accuracy_cases
import accuracy_table
import numpy as np
import speech
import stock
from accuracy_cases import Case, session

import quantcal as qc

BITS = ("7 bits where needed", "7 bits", "8 bits")
METHODS = ("mse", "minmax", "percentile_99.99", "percentile_99.999")
OTHERS = ("kl", "hybrid", "entropy", "aciq", "percentile_adaptive")
"""Our methods: with all weights, and with those that are written by default."""

Make = Callable[[Path], None]
FIRST = 5  # a fifth of the samples is judged first
HOPELESS = 0.05  # below this share, the others would say the same
Job = tuple[
    str, str, bool, Make
]  # method, weights, exact arithmetic, what writes the model


def jobs(case: Case) -> Iterator[Job]:
    """Yield all models to judge, the most telling ones first."""
    calibrator = qc.onnx.observe(case.model, case.feeds)

    def ours(method: str, bits: str) -> Make:
        def make(path: Path) -> None:
            table = calibrator.compute(method, format="uint8")
            found = qc.onnx.find_saturation(case.model, calibrator, table)
            nodes = [name for name, s in found.items() if s.needs_bit]
            choice = dict(zip(BITS, (nodes, True, False), strict=True))[bits]
            qc.onnx.write(case.model, path, table, reduce_range=choice)

        return make

    for method in METHODS:
        for bits in BITS:
            for exact in (False, True):
                yield f"quantcal, {method}", bits, exact, ours(method, bits)
    for method in OTHERS:
        for exact in (False, True):
            yield f"quantcal, {method}", BITS[0], exact, ours(method, BITS[0])
    for method in stock.METHODS:
        for bits in BITS[1:]:
            for exact in (False, True):
                make = theirs(case, method, bits == "7 bits")
                yield f"ONNX Runtime, {method}", bits, exact, make


def theirs(case: Case, method: str, reduce: bool) -> Make:
    """Return what quantises with onnxruntime alone."""
    return lambda path: stock.quantize(
        case.model, path, case.feeds, method, reduce_range=reduce
    )


def score(right: list[Any], reference: list[Any]) -> dict[str, Any]:
    """Return the share of right answers, and how it differs from the float model's.

    The interval of the share is Wilson's for single answers and the normal one over units
    of many answers, which depend on each other. That of the difference is normal over
    paired units, so it is narrower than the two shares' own intervals suggest.
    """
    means = np.array([unit.mean() for unit in right])
    n = len(means)
    differences = means - np.array([unit.mean() for unit in reference[:n]])
    if all(len(unit) == 1 for unit in right):
        z, p = 1.96, float(means.mean())
        spread = math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
        margin = z / (1 + z * z / n) * spread
    else:
        margin = 1.96 * float(means.std(ddof=1)) / math.sqrt(n)
    return {
        "share": float(np.concatenate(right).mean()),
        "margin": margin,
        "difference": float(differences.mean()),
        "difference_margin": 1.96 * float(differences.std(ddof=1)) / math.sqrt(n),
        "units": n,
    }


def judge(case: Case, opened: Any) -> list[Any]:
    """Judge all units, or the first fifth where hardly any of it is right."""
    cut = case.units // FIRST
    right = case.judge(opened, slice(0, cut))
    if cut and np.concatenate(right).mean() < HOPELESS:
        return right
    return right + case.judge(opened, slice(cut, None))


def measure(case: Case, results: dict[str, Any], keep: Callable[[], None]) -> None:
    """Judge the float model and all others; what `results` has already is not done again."""
    entry = results.setdefault(case.name, {})
    entry |= {"measure": case.measure, "unit": case.unit, "feeds": len(case.feeds)}
    reference = judge(case, session(case.model, exact=False))
    rows = entry.setdefault("rows", {})
    if len(reference) >= rows.get("float", {"units": 0})["units"]:
        rows["float"] = score(reference, reference)
    keep()
    with tempfile.TemporaryDirectory() as folder:
        for method, bits, exact, make in jobs(case):
            key = f"{method} | {bits} | {'exact' if exact else 'native'}"
            if key in rows:
                continue
            path, start = Path(folder) / "model.onnx", time.perf_counter()
            try:
                make(path)
                rows[key] = score(judge(case, session(path, exact=exact)), reference)
            except Exception as error:  # the other side's failures are results, too
                if not method.startswith("ONNX"):
                    raise
                rows[key] = {"error": f"{type(error).__name__}: {error}"[:200]}
            seconds = time.perf_counter() - start
            shown = rows[key].get("share", rows[key].get("error"))
            print(f"{case.name}: {key}: {shown} ({seconds:.0f} s)", flush=True)
            keep()


def main() -> None:
    """Measure what the arguments say and write the document."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--lines", type=int, default=1000, help="text lines to read")
    parser.add_argument("--scenes", type=int, default=40, help="scenes to listen to")
    parser.add_argument("--files", type=int, default=40, help="files a type, at most")
    parser.add_argument("--calibration", type=int, default=64, help="lines and files")
    parser.add_argument(
        "--cases", nargs="+", default=["ocr", "silero", "magika"], help="networks"
    )
    parser.add_argument("--results", type=Path, default=Path("accuracy.json"))
    parser.add_argument(
        "--output", type=Path, default=Path("docs/measurements/accuracy.md")
    )
    parser.add_argument("--render", action="store_true", help="measure nothing")
    given = parser.parse_args()
    results = json.loads(given.results.read_text()) if given.results.exists() else {}
    make = {
        "ocr": lambda: accuracy_cases.ocr(given.lines, given.calibration),
        "magika": lambda: accuracy_cases.magika(given.files, given.calibration),
        "silero": lambda: accuracy_cases.silero(given.scenes, 8),
    }

    def keep() -> None:
        given.results.write_text(json.dumps(results, indent=1))
        accuracy_table.write(results, given.output)

    for name in () if given.render else given.cases:
        if name == "silero" and not speech.available():
            print("silero is left out: espeak-ng, which makes its speech, is missing")
            continue
        measure(make[name](), results, keep)
    accuracy_table.write(results, given.output)


if __name__ == "__main__":
    main()
