"""Which method loses how much on which network: writes `page.PAGE`.

    python -m benches.accuracy.choosing

Every network of `collection` is quantized with every method of `choice.methods`, at 8 bits,
and judged on samples that no method saw. Each case runs in a child process. Figures are kept in
--json as they come; run again to continue, with --again to measure anew, with --render to
write the page alone. With --smoke or --case, no page is written. --exact takes half the time.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benches.accuracy.choice import page
from benches.accuracy.choice.measure import ARITHMETICS, measure
from benches.accuracy.choice.methods import METHODS, SMOKE
from benches.accuracy.collection import BUILDERS, lacks
from benches.harness import machine
from benches.harness.process import ROOT, command

SAMPLES = (32, 64)
"""Samples to calibrate and to judge, but for the networks of `OTHER`."""

OTHER = {
    "pp-ocr-rec": (32, 100),
    "pp-ocr-det": (16, 16),
    "ddddocr-rec": (32, 48),
    "ddddocr-det": (16, 16),
    "silero-16k-sequence": (8, 24),
    "dnsmos": (8, 16),
    "swift-f0": (24, 24),
    "basic-pitch": (24, 16),
}
SMOKE_SAMPLES = (4, 6)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure what the arguments name and write the page."""
    given = _parser().parse_args(arguments)
    if given.child:
        _measure_here(given.child, given)
        return
    results = _read(given.json)
    if not given.render:
        results["machine"] = machine.describe()
        for name in given.case or BUILDERS:
            missing = lacks(name)
            if missing:
                print(f"{name} is skipped; it needs {missing}")
                continue
            _measure_in_child(name, given)
        results = _read(given.json) | {"machine": results["machine"]}
        given.json.write_text(json.dumps(results, indent=1))
    if not (given.smoke or given.case):
        page.write(results, page.PAGE)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--smoke", action="store_true", help="few samples and methods")
    parser.add_argument("--case", action="append", choices=list(BUILDERS))
    parser.add_argument("--method", action="append", choices=list(METHODS))
    parser.add_argument("--json", type=Path, default=Path("choosing.json"))
    parser.add_argument(
        "--exact",
        action="store_true",
        help="only as written, not on this machine's kernels",
    )
    parser.add_argument("--again", action="store_true", help="measure kept rows anew")
    parser.add_argument("--render", action="store_true", help="write the page alone")
    parser.add_argument("--child", choices=list(BUILDERS), help=argparse.SUPPRESS)
    return parser


def _read(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    found.setdefault("cases", {})
    return found


def _measure_in_child(name: str, given: argparse.Namespace) -> None:
    more: list[object] = ["--child", name, "--json", given.json.resolve()]
    more += [
        flag for flag in ("--smoke", "--again", "--exact") if getattr(given, flag[2:])
    ]
    for method in given.method or ():
        more += ["--method", method]
    subprocess.run(command("benches.accuracy.choosing", *more), check=True, cwd=ROOT)


def _measure_here(name: str, given: argparse.Namespace) -> None:
    """Measure one case in this process and keep each row."""
    results = _read(given.json)
    entry = results["cases"].setdefault(name, {})
    counts = SMOKE_SAMPLES if given.smoke else OTHER.get(name, SAMPLES)
    if (entry.get("calibration"), entry.get("held_out")) != counts:
        entry.clear()  # rows of other samples do not compare
    rows = entry.get("rows", {})
    wanted = given.method or (SMOKE if given.smoke else METHODS)
    arithmetics = ARITHMETICS[:1] if given.exact else ARITHMETICS
    left = [m for m in wanted if given.again or set(arithmetics) - {*rows.get(m, {})}]
    if not left:
        return
    with tempfile.TemporaryDirectory() as folder:
        case = BUILDERS[name](Path(folder), *counts)
        measure(
            case,
            left,
            arithmetics,
            entry,
            lambda: given.json.write_text(json.dumps(results, indent=1)),
        )


if __name__ == "__main__":
    main()
