"""The page of accuracies, from the figures that `networks.py` stores."""

from __future__ import annotations

import datetime as dt
import textwrap
from pathlib import Path
from typing import Any

import onnxruntime as ort

from benches.harness.process import DOCS
from quantcal.onnx._options.cpu import weight_bits

PAGE = DOCS / "measurements" / "accuracy.md"
"""The page that is written."""

HEAD = """# Accuracy on real networks

Written by `python -m benches.accuracy.networks`; do not edit.
{machine}

Activations uint8, weights int8 by channel, operators Conv, MatMul and Gemm. *Exact* computes
the written Q/DQ nodes in float (`session.disable_quant_qdq`): it shows the loss by the ranges.
*Native* is what onnxruntime runs on the measuring machine. Weights have 8 or 7 bits, or 7 only
in the nodes that `quantcal.onnx.find_saturation` names.

A choice without a row was not measured.

If fewer than one in twenty of the first fifth of the samples was right, the rest was not
judged. Each share has half its 95 % interval. In brackets: the difference from the float model
on the same samples, in percentage points, with half its 95 % interval; bold if it is not
distinguishable from zero.
"""

NOTES = {
    "PP-OCRv4 recognizer": "Drawn lines: random words, faces, sizes, contrast, blur, noise.",
    "magika": "Files of the measuring machine, labeled by extension. Some extensions are "
    "wrong, so the float model is not perfect.",
    "silero, 16k_sequence": "Synthetic speech by espeak-ng in noise: it compares models, "
    "but does not rate the detector. The interval is over scenes.",
}


def write(results: dict[str, Any], output: Path) -> None:
    """Write the page; called after each figure, in case the run is interrupted."""
    parts = [HEAD.format(machine=_machine())]
    parts += [_section(name, entry) for name, entry in results.items()]
    output.write_text("\n".join(parts))


def _machine() -> str:
    names = [
        line.partition(":")[2].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if line.startswith("model name")
    ]
    today = dt.datetime.now(dt.timezone.utc).date()
    reason = textwrap.fill(
        f"{weight_bits().reason[:1].upper()}{weight_bits().reason[1:]}.", 96
    )
    return f"{names[0]}, {len(names)} cores, onnxruntime {ort.__version__}, {today}.\n{reason}"


def _section(name: str, entry: dict[str, Any]) -> str:
    rows = entry["rows"]
    reference = rows["float"]
    lines = [
        f"## {name}: {entry['measure']}",
        "",
        f"n counts {entry['unit']}s; {entry['feeds']} others are for calibration. "
        f"{NOTES.get(name, '')}",
        "",
        "| ranges | weights | n | exact | native |",
        "|---|---|---|---|---|",
        f"| float model | float | {reference['units']} | {_share(reference)} | |",
    ]
    models = dict.fromkeys(key.rpartition(" | ")[0] for key in rows if "|" in key)
    for model in models:
        method, bits = model.split(" | ")
        found = [rows.get(f"{model} | {kind}") for kind in ("exact", "native")]
        sizes = {row["units"] for row in found if row and "units" in row}
        n = "/".join(str(size) for size in sorted(sizes)) or "–"
        cells = " | ".join(_cell(row) if row else "" for row in found)
        lines.append(f"| {method} | {bits} | {n} | {cells} |")
    return "\n".join([*lines, ""])


def _cell(row: dict[str, Any]) -> str:
    if "error" in row:
        return f"fails: {row['error'].split(':')[0]}"
    difference = (
        f"{100 * row['difference']:+.1f} ± {100 * row['difference_margin']:.1f}"
    )
    if abs(row["difference"]) <= row["difference_margin"]:
        difference = f"**{difference}**"
    return f"{_share(row)} ({difference})"


def _share(row: dict[str, Any]) -> str:
    return f"{row['share']:.3f} ± {row['margin']:.3f}"
