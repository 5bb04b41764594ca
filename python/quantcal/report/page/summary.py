"""The summary in words: what was quantized, what it costs, what to do next."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

from quantcal._text import decibels, plural, share
from quantcal.report.page.sections import change_text
from quantcal.report.page.sources import Sources
from quantcal.report.page.verdicts import FINE_DB
from quantcal.stability import TOLERANCE

Sentence = list[str | dict[str, str]]
"""Text, names of tensors (``{"tensor": name}``), and commands (``{"code": text}``)."""

_NAMED = 3  # tensors and nodes that a sentence names


Tile = tuple[str, str, str]
"""A heading, a figure, and what it is of."""


def tiles(sources: Sources, rows: Sequence[dict[str, Any]]) -> list[Tile]:
    """Return the main figures, at most five."""
    found: list[Tile] = []
    result, tuning, evaluation = sources.result, sources.tuning, sources.evaluation
    if tuning is not None:
        word = "kept" if tuning.kept else "broken"
        found.append(("Promise", word, f"{tuning.drop:.3g} of {tuning.max_drop:.3g}"))
        speed = tuning.float_ms / tuning.integer_ms if tuning.integer_ms else math.nan
        found.append(("Speed", f"{speed:.2f}×", f"{tuning.integer_ms:.3g} ms a sample"))
    if evaluation is not None:
        known = [
            (error.sqnr_db, name)
            for name, by in evaluation.outputs.items()
            for error in by.values()
            if error.sqnr_db is not None
        ]
        if known:
            worst, name = min(known)
            found.append(("Worst output", decibels(worst), name))
    if result is not None and sources.model_bytes:
        part = share(result.model_bytes / sources.model_bytes)
        found.append(("File size", part, f"{size(result.model_bytes)} of {size(sources.model_bytes)}"))  # fmt: skip
    if result is not None:
        done = sum(result.quantized_nodes.values())
        whole = done + sum(result.left_in_float.values())
        found.append(("Nodes on integers", f"{done}", f"of {whole} of the chosen types"))
    words = Counter(row.get("verdict") for row in rows)
    if words["good"] or words["check"] or words["poor"]:
        doubtful = words["check"] + words["poor"]
        found.append(("Tensors to check", f"{doubtful}", f"of {len(rows)}"))
    return found[:5]


def quantized(sources: Sources, rows: Sequence[dict[str, Any]]) -> list[Sentence]:
    """Return what was quantized, from what, and how."""
    lines: list[Sentence] = []
    result = sources.result
    if result is not None:
        done = sum(result.quantized_nodes.values())
        kinds = ", ".join(f"{n} {name}" for name, n in _most(result.quantized_nodes))
        lines.append(
            [f"{plural(done, 'node')} {_s(done, 'computes', 'compute')} on integers: {kinds}."]
        )  # fmt: skip
        left = sum(result.left_in_float.values())
        if left:
            why = ", ".join(f"{n} {reason}" for reason, n in _most(result.left_in_float))
            lines.append([f"{plural(left, 'node')} of these types {_s(left, 'stays', 'stay')} in float: {why}."])  # fmt: skip
        lines.append([f"Weights: {result.weights.rstrip('.')}."])
    lines += _data(sources, rows)
    if sources.weights and result is None:
        formats = Counter(weight.format for weight in sources.weights)
        text = ", ".join(f"{n} in {name}" for name, n in formats.most_common())
        lines.append([f"{plural(len(sources.weights), 'weight')} are stored as codes: {text}."])  # fmt: skip
    return lines or [[f"Nothing was quantized yet; the report is of {sources.title}."]]


def _data(sources: Sources, rows: Sequence[dict[str, Any]]) -> list[Sentence]:
    lines: list[Sentence] = []
    table, result = sources.table, sources.result
    if sources.calibrator is not None and len(sources.calibrator):
        values = sum(row.get("count", 0) for row in rows)
        seen = f"{plural(len(sources.calibrator), 'tensor')} with {values:,} values"
        samples = ""
        if result is not None and result.samples:
            samples = f" over {plural(result.samples, 'sample')}"
        lines.append([f"{seen} were observed{samples}."])
    elif result is not None and result.samples:
        lines.append(
            [f"{plural(result.tensors_observed, 'tensor')} were observed over {plural(result.samples, 'sample')}."]
        )  # fmt: skip
    if table is not None and len(table):
        formats = Counter(params.format for params in table.values())
        strategies = Counter(params.strategy for params in table.values())
        chosen = ", ".join(f"{name} ({n})" for name, n in strategies.most_common(4))
        of = ", ".join(name for name, _ in formats.most_common())
        if sources.proposed:
            lines.append([f"No table was given, so the ranges are what mse proposes for {of}."])  # fmt: skip
        else:
            lines.append([f"Activations take {of}, with ranges of {chosen}."])
    return lines


def costs(sources: Sources, rows: Sequence[dict[str, Any]]) -> list[Sentence]:
    """Return what the quantization costs: accuracy first, then size and time."""
    lines: list[Sentence] = []
    lines += _promise(sources)
    evaluation = sources.evaluation
    if evaluation is not None:
        lines += [[_sentence(text)] for text in evaluation.verdicts]
        lines += [[_sentence(text)] for text in evaluation.warnings]
    choice = None if sources.result is None else sources.result.choice
    if choice is not None:
        lines += [
            [_sentence(f"{key}: {text}")]
            for key, text in choice.rows()
            if key != "others lose"
        ]
    advice = sources.advice
    if advice is not None and math.isfinite(advice.loss):
        measured = f" ({advice.method})" if advice.method else ""
        lines.append([f"Loss by advise: {advice.loss:.3g}{measured}, on {plural(advice.samples, 'sample')}."])  # fmt: skip
    lines += _tensors(rows)
    lines += _size(sources)
    return lines or [["Nothing was measured yet."]]


def _promise(sources: Sources) -> list[Sentence]:
    tuning = sources.tuning
    if tuning is None:
        return []
    word = "keeps" if tuning.kept else "breaks"
    times = tuning.float_ms / tuning.integer_ms if tuning.integer_ms else math.nan
    return [
        [
            f"The model {word} its promise: it loses {tuning.drop:.3g} ({tuning.measure}) on "
            f"{plural(tuning.samples, 'held-out sample')}, and {tuning.max_drop:.3g} are allowed."
        ],
        [
            f"A sample takes {tuning.integer_ms:.3g} ms instead of {tuning.float_ms:.3g} ms: "
            f"{times:.2f} times as fast."
        ],
    ]


def _tensors(rows: Sequence[dict[str, Any]]) -> list[Sentence]:
    words = Counter(row.get("verdict") for row in rows)
    judged = [
        row
        for row in rows
        if row.get("verdict") in ("good", "check", "poor")
        and isinstance(row.get("sqnr"), (int, float))
    ]
    if not judged:
        return []
    found = [float(row["sqnr"]) for row in judged]
    parts = [
        f"{words[word]} {text}"
        for word, text in (
            ("good", f"good ({FINE_DB:.0f} dB or more)"),
            ("check", "to check"),
            ("poor", "poor"),
            ("no data", "without values"),
        )
        if words[word]
    ]
    worst = min(judged, key=lambda row: float(row["sqnr"]))
    lines: list[Sentence] = [
        [f"Of {plural(len(rows), 'tensor')}: {', '.join(parts)}. The median SQNR is {decibels(median(found))}."]  # fmt: skip
    ]
    if len(judged) > 1:
        lines.append(
            ["The lowest has ", decibels(float(worst["sqnr"])), ": ", {"tensor": worst["name"]}, "."]  # fmt: skip
        )
    return lines


def _size(sources: Sources) -> list[Sentence]:
    result, before = sources.result, sources.model_bytes
    if result is None or not before:
        return []
    part = share(result.model_bytes / before)
    return [
        [f"The model has {size(result.model_bytes)} instead of {size(before)} ({part})."]
    ]


def next_steps(sources: Sources, rows: Sequence[dict[str, Any]]) -> list[Sentence]:
    """Return what to do next, the most useful first."""
    lines: list[Sentence] = []
    lines += _leave_in_float(sources)
    lines += _faults(rows)
    lines += _more_samples(sources)
    lines += _measure(sources, rows)
    if not lines:
        lines.append(["Nothing stands out. Measure your task on held-out samples before you deploy."])  # fmt: skip
    return lines


def _leave_in_float(sources: Sources) -> list[Sentence]:
    advice = sources.advice
    lines: list[Sentence] = []
    if advice is not None and advice.exclude:
        names = _listed(advice.exclude)
        gain = change_text(advice.change)
        lines.append([f"Leave {plural(len(advice.exclude), advice.noun)} in float: {names}. That changes the loss by {gain}."])  # fmt: skip
        given = " ".join(f"--exclude {_quote(name)}" for name in advice.exclude[:6])
        if len(advice.exclude) <= 6:
            lines.append(["Add to the command: ", {"code": given}])
    if advice is not None:
        for tensor in advice.tensors[:_NAMED]:
            useful = [r for r in tensor.remedies if r.change < 0 and r.name != "float"]
            if useful:
                best = min(useful, key=lambda remedy: remedy.loss)
                text = f": {best.text}" if best.text else ""
                lines.append(["For ", {"tensor": tensor.name}, f", {best.name} changes the loss by {change_text(best.change)}{text}."])  # fmt: skip
    tuning = sources.tuning
    if tuning is not None and not tuning.kept:
        what = (
            "Give more samples, or allow a larger drop."
            if tuning.drop_deciding <= tuning.max_drop
            else "No model that was tried keeps the promise. Allow a larger drop, or more time."
        )
        lines.append([what])
    return lines


def _faults(rows: Sequence[dict[str, Any]]) -> list[Sentence]:
    lines: list[Sentence] = []
    bad = [r for r in rows if r.get("verdict") == "poor"]
    bad += [r for r in rows if r.get("verdict") == "check" and r.get("reasons")]
    bad.sort(key=lambda r: (r["verdict"] != "poor", _number(r.get("sqnr"))))
    for row in bad[:_NAMED]:
        why = "; ".join(row.get("reasons", ())) or f"SQNR {decibels(_number(row.get('sqnr')))}"  # fmt: skip
        lines.append(["Look at ", {"tensor": row["name"]}, f": {_end(why)}"])
    if len(bad) > _NAMED:
        lines.append([f"{plural(len(bad) - _NAMED, 'more tensor')} may need attention: filter the table by verdict."])  # fmt: skip
    odd = [row for row in rows if row.get("nonfinite")]
    if odd:
        lines.append([f"{plural(len(odd), 'tensor')} held NaN or infinite values, first ", {"tensor": odd[0]["name"]}, ". They are left out of the ranges; find where they come from."])  # fmt: skip
    empty = [row for row in rows if row.get("verdict") == "no data"]
    if empty:
        lines.append([f"{plural(len(empty), 'tensor')} held no finite value, first ", {"tensor": empty[0]["name"]}, ". Give samples that reach it."])  # fmt: skip
    return lines


def _more_samples(sources: Sources) -> list[Sentence]:
    stability = sources.stability
    if stability is None:
        return []
    names = stability.beyond()
    if not names:
        return []
    return [
        [
            f"Give more samples: two halves of them differ by more than {share(TOLERANCE)} in "
            f"the ranges of {plural(len(names), 'tensor')}, most in ",
            {"tensor": names[0]},
            ".",
        ]
    ]


def _measure(sources: Sources, rows: Sequence[dict[str, Any]]) -> list[Sentence]:
    lines: list[Sentence] = []
    result = sources.result
    evaluation = sources.evaluation
    if evaluation is None and (result is not None or sources.weights):
        name = "QUANTIZED" if result is None else Path(result.output).name
        model = sources.title if result is not None else "MODEL"
        lines.append(["See what the outputs lose, on other samples: ", {"code": f"quantcal evaluate {_quote(model)} {_quote(name)} --samples PATH --layers"}])  # fmt: skip
    elif evaluation is not None and not evaluation.metrics:
        lines.append(["Measure your own task: evaluate takes --metric MODULE:CALLABLE."])
    doubtful = any(row.get("verdict") in ("poor", "check") for row in rows)
    if sources.advice is None and sources.tuning is None and doubtful and sources.places:
        lines.append(["Find the nodes that cost most, and what helps: ", {"code": f"quantcal advise {_quote(sources.title)} --samples PATH"}])  # fmt: skip
    if result is None and sources.table is None and sources.calibrator is not None:
        lines.append(["Choose ranges: ", {"code": "quantcal compute STATS -o table.json"}])
    if sources.proposed and result is None:
        lines.append(["Write the model: ", {"code": "quantcal quantize MODEL -o OUT --from STATS"}])  # fmt: skip
    return lines


def size(count: int) -> str:
    """Return bytes as KB, MB or GB (powers of a thousand)."""
    if count < 1_000_000:
        return f"{count / 1e3:.1f} KB"
    return f"{count / 1e6:.1f} MB" if count < 1_000_000_000 else f"{count / 1e9:.2f} GB"


def _number(value: Any) -> float:
    return math.inf if value is None else float(value)


def _most(counts: Any) -> list[tuple[str, int]]:
    return Counter(counts).most_common()


def _s(count: int, one: str, more: str) -> str:
    return one if count == 1 else more


def _listed(names: Sequence[str]) -> str:
    more = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {more} more" if more > 0 else "")


def _sentence(text: str) -> str:
    return _end(text[:1].upper() + text[1:])


def _end(text: str) -> str:
    return text if text.endswith((".", "!", "?")) else f"{text}."


def _quote(name: str) -> str:
    """Return a name as a shell takes it."""
    from shlex import quote

    return quote(name)
