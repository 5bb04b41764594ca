"""What to do next, in sentences: the most useful first."""

from __future__ import annotations

import math
from collections.abc import Sequence
from shlex import quote

from quantcal._settings import STABLE
from quantcal._text import decibels, plural, share
from quantcal.report.page.sections import change_text
from quantcal.report.page.sentences import (
    NAMED,
    Row,
    Sentence,
    code,
    listed,
    say,
    tensor,
)
from quantcal.report.page.sources import Sources

_TYPED = 6  # nodes that a command lists
_WORTH = -0.05  # a smaller change of the loss may be chance


def suggest_steps(sources: Sources, rows: Sequence[Row]) -> list[Sentence]:
    """Return what to do next."""
    lines = [
        *_by_advice(sources),
        *_by_trials(sources),
        *_doubtful(rows),
        *_without_values(rows),
        *_more_samples(sources, rows),
        *_other_commands(sources, rows),
    ]
    nothing = say(
        "nothing stands out. Measure your task on held-out samples before you deploy"
    )
    return lines or [nothing]


def _by_advice(sources: Sources) -> list[Sentence]:
    advice = sources.advice
    if advice is None:
        return []
    lines: list[Sentence] = []
    if advice.exclude:
        what = plural(len(advice.exclude), advice.noun)
        gain = change_text(advice.change)
        names = listed(advice.exclude)
        lines.append(say(f"leave {what} in float ({gain} of the loss): {names}"))
        if len(advice.exclude) <= _TYPED and advice.noun == "node":
            given = " ".join(f"--exclude {quote(name)}" for name in advice.exclude)
            lines.append(say("add to the command: ", code(given)))
    for guilty in advice.tensors[:NAMED]:
        useful = [r for r in guilty.remedies if r.change < _WORTH and r.name != "float"]
        if useful:
            best = min(useful, key=lambda remedy: remedy.loss)
            gain = f"{change_text(best.change)} of the loss"
            more = f", {best.text}" if best.text else ""
            what = f": {best.name} ({gain}){more}"
            lines.append(say("change ", tensor(guilty.name), what))
    return lines


def _by_trials(sources: Sources) -> list[Sentence]:
    """Return what auto and tune found but did not do."""
    lines: list[Sentence] = []
    choice = None if sources.result is None else sources.result.choice
    if choice is not None and sources.advice is None:
        lines += [say(text) for key, text in choice.rows() if key == "to do better"]
    tuning = sources.tuning
    if tuning is not None and not tuning.kept:
        if tuning.drop_deciding <= tuning.max_drop:
            lines.append(say("give more samples, or allow a larger drop"))
        else:
            lines.append(
                say("no model that was tried keeps the promise; allow a larger drop")
            )
    return lines


def _doubtful(rows: Sequence[Row]) -> list[Sentence]:
    """Return the tensors with a reason to doubt them, the worst first."""
    bad = [
        row
        for row in rows
        if row.get("verdict") == "poor"
        or (row.get("verdict") == "check" and "reasons" in row)
    ]
    bad.sort(key=lambda row: (row["verdict"] != "poor", _number(row.get("sqnr"))))
    lines = []
    for row in bad[:NAMED]:
        why = "; ".join(row.get("reasons", ()))
        why = why or f"its SQNR is {decibels(_number(row.get('sqnr')))}"
        lines.append(say("look at ", tensor(row["name"]), f": {why}"))
    if len(bad) > NAMED:
        more = plural(len(bad) - NAMED, "more tensor")
        lines.append(say(f"look at {more}: filter the table by verdict"))
    return lines


def _without_values(rows: Sequence[Row]) -> list[Sentence]:
    lines = []
    odd = [row["name"] for row in rows if row.get("nonfinite")]
    if odd:
        what = f"find out why {plural(len(odd), 'tensor')} held NaN or infinite values, first "
        lines.append(say(what, tensor(odd[0]), ". The ranges leave them out"))
    empty = [row["name"] for row in rows if row.get("verdict") == "no data"]
    if empty:
        without = f"{plural(len(empty), 'tensor')} without a finite value"
        what = f"give samples that reach {without}, first "
        lines.append(say(what, tensor(empty[0])))
    return lines


def _more_samples(sources: Sources, rows: Sequence[Row]) -> list[Sentence]:
    names = [] if sources.stability is None else sources.stability.beyond()
    if not names:
        few = [row for row in rows if "too few samples" in row.get("kinds", ())]
        if not few:
            return []
        what = (
            f"give more samples: {plural(len(few), 'range')} would still change, first "
        )
        return [say(what, tensor(few[0]["name"]))]
    what = (
        f"give more samples: the ranges of {plural(len(names), 'tensor')} differ by more than "
        f"{share(STABLE)} between two halves, most in "
    )
    return [say(what, tensor(names[0]))]


def _other_commands(sources: Sources, rows: Sequence[Row]) -> list[Sentence]:
    """Return the commands that would tell more."""
    lines: list[Sentence] = []
    result, evaluation = sources.result, sources.evaluation
    file = quote(sources.file)
    if evaluation is None and result is not None:
        models = f"{file} {quote(result.output.name)}"
        command = f"quantcal evaluate {models} --samples PATH --layers"
        lines.append(say("see what the outputs lose: ", code(command)))
    elif evaluation is not None and not evaluation.metrics and not sources.tuning:
        lines.append(
            say("measure your own task: ", code("quantcal evaluate --metric …"))
        )
    doubtful = any(row.get("verdict") in ("poor", "check") for row in rows)
    searched = sources.advice is not None or sources.tuning is not None
    if doubtful and not searched and sources.places:
        command = f"quantcal advise {file} --samples PATH"
        lines.append(say("find the nodes that cost most: ", code(command)))
    if sources.proposed and result is None:
        command = "quantcal quantize MODEL -o OUT --from STATS"
        lines.append(say("write the model: ", code(command)))
    return lines


def _number(value: object) -> float:
    return float(value) if isinstance(value, (int, float)) else math.inf
