"""The page of `choosing`: what every method loses on every network."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from benches.accuracy.choice.methods import FIXED, METHODS
from benches.accuracy.choice.verdicts import verdicts
from benches.accuracy.collection import BUILDERS
from benches.harness.process import DOCS

PAGE = DOCS / "measurements" / "choosing.md"
"""The page that is written."""

FLOOR = 1e-4
"""A smaller loss counts as this much in ratios: nobody notices the difference."""

HEAD = """# Methods on many networks

Written by `python -m benches.accuracy.choosing`; do not edit.

{facts}

onnxsim rounds the inputs of products alone, and not what they write. It leaves more in float
than quantcal and onnxruntime, so its losses are not those of ranges alone. A loss far below
1e-4 is that of a saturated softmax, which separates no methods.
"""


FACTS = {
    "formats": "8 bits: activations uint8, weights int8 by channel; all other options by "
    "default",
    "loss": "squared error of an output over its variance, over all held-out samples; the "
    "worst output counts",
    "interval": "in brackets, 95 % by bootstrap over held-out samples. Rows share their "
    "samples, so two rows can differ though their intervals overlap",
    "exact, native": "*exact* computes the written Q/DQ nodes in float; *native* is what "
    "onnxruntime runs on this machine",
    "cosine": "the smallest of all samples and their mean, of the output where it is worst",
    "task": "what a user counts; in brackets the difference from the float model in "
    "points, ± half of its 95 % interval",
    "products": "Conv, MatMul and Gemm whose two inputs are quantized, of all in the file",
    "s, MiB": "seconds to quantize, with observation, and peak memory above the start, of "
    "one run on a busy machine",
}


def write(results: dict[str, Any], output: Path) -> None:
    """Write the page of all cases that have rows."""
    cases = {n: e for n in BUILDERS if "rows" in (e := results["cases"].get(n, {}))}
    facts = {"machine": _machine(results["machine"]), **FACTS}
    table = ["| | |", "|---|---|", *(f"| {k} | {v} |" for k, v in facts.items())]
    parts = [HEAD.format(facts="\n".join(table)), verdicts(cases), _summary(cases)]
    parts += [_section(name, entry) for name, entry in cases.items()]
    output.write_text("\n".join(parts))


def _machine(facts: dict[str, Any]) -> str:
    version = facts["versions"]["onnxruntime"]
    memory = f"{facts['memory_gib']} GiB"
    machine = f"{facts['processor']}, {facts['cores']} cores, {memory}"
    # A run keeps the rows of earlier ones.
    when = f"{facts['date']}, commit {facts['commit']} of the last row"
    return f"{machine}, onnxruntime {version}, {when}; kept rows may be of earlier ones"


def _summary(cases: dict[str, Any]) -> str:
    """Return losses of all methods on all cases, as multiples of quantcal's best."""
    lines = [
        "## Loss as a multiple of the smallest",
        "",
        "The smallest exact loss of one strategy for all tensors is 1, and bold. A loss below "
        f"{FLOOR:g} counts as {FLOOR:g}. *Mean* is the geometric mean over the cases that a "
        "method has, *worst* the largest. Means over different cases do not compare. A dash "
        "was not measured.",
        "",
        f"| method | {' | '.join(cases)} | mean | worst |",
        f"|---|{'---|' * (len(cases) + 2)}",
    ]
    best = {name: _least(entry, FIXED) for name, entry in cases.items()}
    for method in METHODS:
        found = {n: _loss(e, method) for n, e in cases.items()}
        ratios = {n: v / best[n] for n, v in found.items() if v is not None}
        if not ratios:
            continue
        cells = [_ratio(ratios.get(name)) for name in cases]
        values = list(ratios.values())
        mean, worst = float(np.exp(np.mean(np.log(values)))), max(values)
        partial = "" if len(values) == len(cases) else f" ({len(values)} cases)"
        row = " | ".join([method, *cells, f"{mean:.2f}{partial}", f"{worst:.1f}"])
        lines.append(f"| {row} |")
    return "\n".join([*lines, ""])


def _loss(entry: dict[str, Any], method: str) -> float | None:
    row = entry["rows"].get(method, {})
    return max(row["exact"]["loss"], FLOOR) if "exact" in row else None


def _least(entry: dict[str, Any], methods: Iterable[str]) -> float:
    return min(v for m in methods if (v := _loss(entry, m)) is not None)


def _ratio(value: float | None) -> str:
    if value is None:
        return "–"
    text = f"{value:.2f}" if value < 10 else f"{value:.0f}"
    return f"**{text}**" if value == 1 else text


def _section(name: str, entry: dict[str, Any]) -> str:
    lines = [
        f"## {name}",
        "",
        f"{entry['kind'][:1].upper()}{entry['kind'][1:]}. Samples: {entry['data']}; "
        f"{entry['calibration']} calibrate, {entry['held_out']} are judged. "
        f"Task: {entry['metric']}; the float model has {entry['float']:.3f}.",
        "",
        "| method | loss, exact | loss, native | output | cosine | task, exact | "
        "task, native | products | s | MiB |",
        f"|---|{'---|' * 9}",
    ]
    rows = entry["rows"]
    lines += [f"| {m} | {_cells(rows[m])} |" for m in METHODS if m in rows]
    return "\n".join([*lines, ""])


def _cells(row: dict[str, Any]) -> str:
    if "exact" not in row:
        failure = row.get("error", "skipped").replace("|", "/")
        return f"{failure[:90]} |{' |' * 7}"
    exact, native = row["exact"], row.get("native")
    memory = "" if row["mebibytes"] is None else f"{row['mebibytes']:.0f}"
    cells = [
        _interval(exact),
        _interval(native) if native else "–",
        f"`{exact['output']}`",
        f"{exact['min_cosine']:.4f}, {exact['mean_cosine']:.4f}",
        _task(exact),
        _task(native) if native else "–",
        row["products"],
        f"{row['seconds']:.1f}",
        memory,
    ]
    return " | ".join(cells)


def _interval(judged: dict[str, Any]) -> str:
    return f"{judged['loss']:.3g} ({judged['low']:.2g} – {judged['high']:.2g})"


def _task(judged: dict[str, Any]) -> str:
    difference = f"{100 * judged['task_difference']:+.1f}"
    return f"{judged['task']:.3f} ({difference} ± {100 * judged['task_margin']:.1f})"
