"""Accuracy of real networks quantized with every strategy: writes `page.PAGE`.

    python -m benches.accuracy.networks --lines 1000

Each network is observed once, and every strategy chooses its ranges from the same histograms.
Models are judged twice: in exact arithmetic, which shows the ranges alone, and natively, with
this machine's kernels. Figures are stored in --results as they come. Run again to continue, or
with --render to write the page without measuring.
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

import numpy as np

import quantcal as qc
from benches.accuracy import cases, ort_static, page, speech
from benches.accuracy.cases import Case, session

BITS = ("7 bits where needed", "7 bits", "8 bits")
METHODS = ("mse", "minmax", "percentile_99.99", "percentile_99.999")
OTHERS = ("kl", "hybrid", "entropy", "aciq", "percentile_adaptive")
"""quantcal's strategies: with all kinds of weights, and with the default weights only."""

Make = Callable[[Path], None]
FIRST = 5  # the first fifth of the samples is judged first
HOPELESS = 0.05  # if fewer are right, the rest is not judged
Job = tuple[
    str, str, bool, Make
]  # method, weights, exact arithmetic, what writes the model


def jobs(case: Case) -> Iterator[Job]:
    """Yield all models to judge, the most informative ones first."""
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
    for method in ort_static.METHODS:
        for bits in BITS[1:]:
            for exact in (False, True):
                make = theirs(case, method, bits == "7 bits")
                yield f"ONNX Runtime, {method}", bits, exact, make


def theirs(case: Case, method: str, reduce: bool) -> Make:
    """Return a function that quantizes with onnxruntime alone."""
    return lambda path: ort_static.quantize(
        case.model, path, case.feeds, method, reduce_range=reduce
    )


def score(right: list[Any], reference: list[Any]) -> dict[str, Any]:
    """Return the share of right answers and its difference from the float model's.

    The interval of the share is Wilson's for units of one answer. For units of many answers,
    which depend on each other, it is the normal interval over units. The interval of the
    difference is normal over paired units, so it is narrower than those of the two shares.
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
    """Judge all units, or only the first fifth if hardly any of it is right."""
    cut = case.units // FIRST
    right = case.judge(opened, slice(0, cut))
    if cut and np.concatenate(right).mean() < HOPELESS:
        return right
    return right + case.judge(opened, slice(cut, None))


def measure(case: Case, results: dict[str, Any], keep: Callable[[], None]) -> None:
    """Judge the float model and all others, except those in `results`."""
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
            except Exception as error:  # onnxruntime's failures are results
                if not method.startswith("ONNX"):
                    raise
                rows[key] = {"error": f"{type(error).__name__}: {error}"[:200]}
            seconds = time.perf_counter() - start
            shown = rows[key].get("share", rows[key].get("error"))
            print(f"{case.name}: {key}: {shown} ({seconds:.0f} s)", flush=True)
            keep()


def main() -> None:
    """Measure what the arguments name and write the page."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--lines", type=int, default=1000, help="text lines to read")
    parser.add_argument("--scenes", type=int, default=40, help="scenes of speech")
    parser.add_argument("--files", type=int, default=40, help="files a type, at most")
    parser.add_argument("--calibration", type=int, default=64, help="lines and files")
    parser.add_argument(
        "--cases", nargs="+", default=["ocr", "silero", "magika"], help="networks"
    )
    parser.add_argument("--results", type=Path, default=Path("accuracy.json"))
    parser.add_argument("--output", type=Path, default=page.PAGE)
    parser.add_argument(
        "--render", action="store_true", help="write the page without measuring"
    )
    given = parser.parse_args()
    results = json.loads(given.results.read_text()) if given.results.exists() else {}
    make = {
        "ocr": lambda: cases.ocr(given.lines, given.calibration),
        "magika": lambda: cases.magika(given.files, given.calibration),
        "silero": lambda: cases.silero(given.scenes, 8),
    }

    def keep() -> None:
        given.results.write_text(json.dumps(results, indent=1))
        page.write(results, given.output)

    for name in () if given.render else given.cases:
        if name == "silero" and not speech.available():
            print("silero is skipped: install espeak-ng, which makes its speech")
            continue
        measure(make[name](), results, keep)
    page.write(results, given.output)


if __name__ == "__main__":
    main()
