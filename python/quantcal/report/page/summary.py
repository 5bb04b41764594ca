"""The summary in words and figures: what was quantized, and what it costs."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from statistics import median
from typing import TYPE_CHECKING

from quantcal._text import decibels, plural, real, share
from quantcal.report.page.sentences import Row, Sentence, counts, say, size, tensor
from quantcal.report.page.sources import Sources
from quantcal.report.page.verdicts import FINE_DB

if TYPE_CHECKING:
    from quantcal.onnx.evaluation import Evaluation
    from quantcal.onnx.output_error import OutputError

Tile = tuple[str, str, str]
"""A heading, a figure, and what it is of."""

_MOST_TILES = 5
_WORDS = {
    "good": f"good ({FINE_DB:.0f} dB or more)",
    "check": "to check",
    "poor": "poor",
    "no data": "without values",
}


def tiles(sources: Sources, rows: Sequence[Row]) -> list[Tile]:
    """Return the main figures, at most five."""
    found: list[Tile] = []
    result, tuning = sources.result, sources.tuning
    if tuning is not None:
        word = "kept" if tuning.kept else "broken"
        found.append(("Promise", word, f"{tuning.drop:.3g} of {tuning.max_drop:.3g}"))
        faster = f"{_ratio(tuning.float_ms, tuning.integer_ms):.2f}×"
        found.append(("Speed", faster, f"{tuning.integer_ms:.3g} ms a sample"))
    found += _cost_tiles(sources)
    known = [
        (error.sqnr_db, name)
        for name, by in _outputs_of(sources).items()
        for error in by.values()
        if error.sqnr_db is not None
    ]
    if known:
        worst, name = min(known)
        found.append(("Worst output", decibels(worst), name))
    if result is not None:
        if sources.model_bytes and sources.cost is None:
            part = share(result.model_bytes / sources.model_bytes)
            sizes = f"{size(result.model_bytes)} of {size(sources.model_bytes)}"
            found.append(("File size", part, sizes))
        done = sum(result.quantized_nodes.values())
        whole = done + sum(result.left_in_float.values())
        found.append(
            ("Nodes on integers", str(done), f"of {whole} of the chosen types")
        )
    words = _verdicts(rows)
    if words:
        doubtful = words["check"] + words["poor"]
        found.append(("Tensors to check", str(doubtful), f"of {words.total()}"))
    return found[:_MOST_TILES]


def _cost_tiles(sources: Sources) -> list[Tile]:
    cost = sources.cost
    if cost is None:
        return []
    found: list[Tile] = []
    if cost.quantized_latency is not None and sources.tuning is None:
        faster = f"{cost.speedup or math.nan:.2f}×"
        times = f"{cost.quantized_latency.median_ms:.3g} ms a sample"
        found.append(("Speed", faster, times))
    part = share(_ratio(cost.quantized_bytes, cost.float_bytes))
    sizes = f"{size(cost.quantized_bytes)} of {size(cost.float_bytes)}"
    found.append(("File size", part, sizes))
    if cost.loss is not None:
        found.append(("Expected loss", share(cost.loss), cost.loss_verdict))
    return found


def quantized(sources: Sources, rows: Sequence[Row]) -> list[Sentence]:
    """Return what was quantized, from what, and how."""
    lines: list[Sentence] = []
    result = sources.result
    if result is not None:
        done = sum(result.quantized_nodes.values())
        left = sum(result.left_in_float.values())
        on_integers = f"{plural(done, 'node')} on integers"
        lines.append(say(f"{on_integers}: {counts(result.quantized_nodes)}"))
        if left:
            why = counts(result.left_in_float)
            lines.append(say(f"{plural(left, 'node')} of these types in float: {why}"))
        lines.append(say(f"weights: {result.weights}"))
    elif sources.weights:
        formats = counts(Counter(weight.format for weight in sources.weights))
        weights = plural(len(sources.weights), "weight")
        lines.append(say(f"{weights} stored as codes: {formats}"))
    lines += _observed(sources, rows)
    lines += _ranges(sources)
    return lines or [
        say(f"nothing was quantized yet; the report is of {sources.title}")
    ]


def _observed(sources: Sources, rows: Sequence[Row]) -> list[Sentence]:
    result, calibrator = sources.result, sources.calibrator
    samples = ""
    if result is not None and result.samples:
        samples = f" over {plural(result.samples, 'sample')}"
    if calibrator is not None and len(calibrator):
        values = sum(row.get("count", 0) for row in rows)
        seen = f"{plural(len(calibrator), 'tensor')} with {values:,} values"
        return [say(f"observed: {seen}{samples}")]
    if result is not None and samples:
        return [say(f"observed: {plural(result.tensors_observed, 'tensor')}{samples}")]
    return []


def _ranges(sources: Sources) -> list[Sentence]:
    if not sources.table:
        return []
    params = sources.table.values()
    formats = ", ".join(Counter(each.format for each in params))
    if sources.proposed:
        return [say(f"no table was given; the ranges are those of mse for {formats}")]
    chosen = Counter(each.strategy for each in params).most_common(4)
    strategies = ", ".join(f"{name} ({n})" for name, n in chosen)
    return [say(f"activations: {formats}, with ranges of {strategies}")]


def costs(sources: Sources, rows: Sequence[Row]) -> list[Sentence]:
    """Return what the quantization costs: accuracy first, then size."""
    lines = [
        *_promise(sources),
        *_outputs(sources.evaluation),
        *_whole_model(sources),
        *_accuracies(sources),
        *_losses(sources),
        *_tensors(rows),
    ]
    result, before = sources.result, sources.model_bytes
    if result is not None and before:
        part = share(result.model_bytes / before)
        sizes = f"{size(result.model_bytes)} instead of {size(before)}"
        lines.append(say(f"the file has {sizes} ({part})"))
    return lines or [say("nothing was measured yet")]


def _promise(sources: Sources) -> list[Sentence]:
    tuning = sources.tuning
    if tuning is None:
        return []
    word = "keeps" if tuning.kept else "breaks"
    faster = _ratio(tuning.float_ms, tuning.integer_ms)
    return [
        say(
            f"the model {word} its promise: it loses {tuning.drop:.3g} ({tuning.measure}) "
            f"on {plural(tuning.samples, 'held-out sample')}; "
            f"{tuning.max_drop:.3g} are allowed"
        ),
        say(
            f"a sample takes {tuning.integer_ms:.3g} ms instead of {tuning.float_ms:.3g} ms: "
            f"{faster:.2f} times as fast"
        ),
    ]


def _outputs(evaluation: Evaluation | None) -> list[Sentence]:
    """Return the verdicts of an evaluation; several good outputs are one sentence."""
    if evaluation is None:
        return []
    fine = [text for text in evaluation.verdicts if text.startswith("good")]
    others = [text for text in evaluation.verdicts if text not in fine]
    if len(fine) > 1:
        whole = len(evaluation.outputs)
        every = f"all {whole}" if len(fine) == whole else f"{len(fine)} of {whole}"
        fine = [f"{every} outputs are good"]
    return [say(text) for text in (*fine, *others, *evaluation.warnings) if text]


def _whole_model(sources: Sources) -> list[Sentence]:
    """Return the loss and the latency that were measured after writing."""
    cost = sources.cost
    if cost is None:
        return []
    lines: list[Sentence] = []
    if cost.loss is not None:
        samples = plural(cost.loss_samples, "calibration sample")
        loss = share(cost.loss) if cost.loss < 10 else real(cost.loss)
        word = cost.loss_verdict
        lines.append(
            say(f"expected loss: {word}, {loss} of the variance, on {samples}")
        )
    before, after = cost.float_latency, cost.quantized_latency
    if before is not None and after is not None:
        times = f"{after.median_ms:.3g} ms instead of {before.median_ms:.3g} ms"
        how = f"{_ratio(before.median_ms, after.median_ms):.2f} times as fast"
        note = "" if cost.is_faster else ", so integers hardly help here"
        lines.append(say(f"a sample takes {times}: {how}{note}"))
    return lines


def _accuracies(sources: Sources) -> list[Sentence]:
    if len(sources.demo) < 2:
        return []
    first, *others = sources.demo
    best = max(others, key=lambda each: each.exact)
    return [
        say(
            f"{best.name} answers {best.exact:.3f} exactly, {first.name} {first.exact:.3f} "
            f"± {first.margin:.3f}"
        )
    ]


def _losses(sources: Sources) -> list[Sentence]:
    """Return the loss of the outputs by the trials of auto, else by those of advise."""
    choice = None if sources.result is None else sources.result.choice
    advice = sources.advice
    if choice is not None:
        shown = ("strategy", "small nodes", "biases")
        return [say(f"{key} {text}") for key, text in choice.rows() if key in shown]
    if advice is None or not math.isfinite(advice.loss):
        return []
    measured = f" ({advice.method})" if advice.method else ""
    samples = plural(advice.samples, "sample")
    return [say(f"the outputs lose {advice.loss:.3g}{measured}, on {samples}")]


def _tensors(rows: Sequence[Row]) -> list[Sentence]:
    words = _verdicts(rows)
    known = [row for row in rows if isinstance(row.get("sqnr"), (int, float))]
    if not words or not known:
        return []
    parts = ", ".join(f"{words[w]} {text}" for w, text in _WORDS.items() if words[w])
    middle = decibels(median(row["sqnr"] for row in known))
    whole = plural(words.total(), "tensor")
    lines = [say(f"of {whole}, {parts}; the median SQNR is {middle}")]
    if len(known) > 1:
        worst = min(known, key=lambda row: row["sqnr"])
        lowest = f"the lowest SQNR, {decibels(worst['sqnr'])}, is that of "
        lines.append(say(lowest, tensor(worst["name"])))
    return lines


def _verdicts(rows: Sequence[Row]) -> Counter[str]:
    return Counter(row["verdict"] for row in rows if "verdict" in row)


def _outputs_of(sources: Sources) -> dict[str, dict[str, OutputError]]:
    return {} if sources.evaluation is None else sources.evaluation.outputs


def _ratio(one: float, other: float) -> float:
    return one / other if other else math.nan
