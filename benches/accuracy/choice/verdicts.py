"""The first table of the page: `auto` beside the best fixed strategy and beside onnxsim."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from benches.accuracy.choice.loss import resampled
from benches.accuracy.choice.methods import FIXED

Row = Mapping[str, Any]

_RIVALS = ("onnxsim auto", "onnxsim pick_calibration, 4 folds")

_HEAD = """## Auto beside the best

Exact losses on held-out samples. *Best fixed* is the strategy that turned out best for all
tensors, which nobody knows beforehand. Ratios below 1 are good for auto. Their 95 % intervals
are by paired bootstrap: both models are judged on the same resampled samples. An interval that
holds 1 shows no difference. The seconds of onnxsim are of its slower method.

"""
_COLUMNS = (
    "network",
    "auto",
    "best fixed",
    "auto / best",
    "onnxsim's better",
    "auto / onnxsim",
    "s, auto",
    "s, onnxsim",
)


def verdicts(cases: Mapping[str, Any]) -> str:
    """Return the table of the cases that have a row of auto."""
    lines = [
        f"| {name} | {_cells(entry)} |"
        for name, entry in cases.items()
        if "exact" in entry["rows"].get("auto", {})
    ]
    head = [f"| {' | '.join(_COLUMNS)} |", "|---" * len(_COLUMNS) + "|"]
    return _HEAD + "\n".join([*head, *lines, ""])


def _cells(entry: Mapping[str, Any]) -> str:
    rows: Mapping[str, Row] = entry["rows"]
    auto = rows["auto"]
    cells = [_shown(auto)]
    for names, named in ((FIXED, True), (_RIVALS, False)):
        found = {n: rows[n] for n in names if "exact" in rows.get(n, {})}
        if not found:
            cells += ["–"] * 2
            continue
        name = min(found, key=lambda n: _loss(found[n]))
        best = found[name]
        cells += [f"{name} {_shown(best)}" if named else _shown(best)]
        cells += [_ratio(auto, best, entry.get("moments"))]
    slowest = _slowest(rows[n] for n in _RIVALS if "exact" in rows.get(n, {}))
    cells += [f"{auto['seconds']:.1f}", slowest]
    return " | ".join(cells)


def _loss(row: Row) -> float:
    return float(row["exact"]["loss"])


def _shown(row: Row) -> str:
    exact = row["exact"]
    return f"{exact['loss']:.3g} ({exact['low']:.2g} – {exact['high']:.2g})"


def _ratio(auto: Row, other: Row, moments: Any) -> str:
    """Return auto's loss by another, with its interval where errors of samples are kept."""
    text = f"{_loss(auto) / _loss(other):.2f}"
    errors = [row["exact"].get("errors") for row in (auto, other)]
    if moments is None or None in errors:
        return text
    one, two = (resampled(np.array(each), np.array(moments)) for each in errors)
    low, high = np.quantile(one / two, (0.025, 0.975))
    return f"{text} ({low:.2f} – {high:.2f})"


def _slowest(rows: Iterable[Row]) -> str:
    seconds = [row["seconds"] for row in rows]
    return f"{max(seconds):.1f}" if seconds else "–"
