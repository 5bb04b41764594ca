"""The result of a quantization and of its ranges, as the commands print it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from quantcal.cli.output import text, views
from quantcal.cli.output.console import show, stdout
from quantcal.cli.output.cost import cost_facts
from quantcal.cli.output.facts import (
    print_facts,
    timing,
    warn_of_nonfinite,
    warn_of_nothing,
)

if TYPE_CHECKING:
    from quantcal.onnx import ModelCost, QuantizeResult, WriteResult
    from quantcal.table import CalibrationTable


_MOST = 5  # tensors that are shown


def print_result(
    result: QuantizeResult,
    model: Path,
    *,
    source: Path | None = None,
    kept: Sequence[Path] = (),
    cost: ModelCost | None = None,
) -> None:
    """Print what was done, and the tensors with the most clipped values.

    Parameters
    ----------
    result
        Of `quantcal.onnx.quantize`.
    model
        The model that was quantized; its size is shown beside the new one's.
    source
        The file of histograms, when no samples ran.
    kept
        Other files that were written.
    cost
        What the whole model costs; None when not measured.
    """
    steps = (
        f"observe {timing(result.seconds_observe, result.samples)}, "
        f"compute {result.seconds_compute:.1f} s, write {result.seconds_write:.1f} s"
    )
    facts = {"written": _sizes(result.output, model)}
    if source is None and not result.tensors_observed:
        facts["samples"] = "none needed"
    elif source is None:
        facts["samples"] = str(result.samples)
        facts["tensors observed"] = str(result.tensors_observed)
    else:
        facts["histograms"] = str(source)
    if result.choice is not None:
        for name, line in result.choice.rows():
            facts[name] = f"{facts[name]}; {line}" if name in facts else line
    facts |= _written(result, cost)
    if result.stability is not None:
        facts["two halves"] = result.stability.summary()
    facts["time"] = f"{result.seconds:.1f} s: {steps}"
    if kept:
        facts["also written"] = ", ".join(map(str, kept))
    if result.peak_memory is not None:
        facts["peak memory"] = text.size(result.peak_memory)
    print_facts(stdout(), facts)
    if len(result.table):
        print_most_affected(result.table)


def print_written(
    written: WriteResult,
    model: Path,
    source: Path,
    *,
    kept: Sequence[Path] = (),
    cost: ModelCost | None = None,
) -> None:
    """Print what was written with the ranges of a table.

    Parameters
    ----------
    written
        Of `quantcal.onnx.write`.
    model
        The model that was quantized.
    source
        The file of the table.
    kept
        Other files that were written.
    cost
        What the whole model costs; None when not measured.
    """
    facts = {"written": _sizes(written.output, model), "ranges": str(source)}
    facts |= _written(written, cost)
    if kept:
        facts["also written"] = ", ".join(map(str, kept))
    print_facts(stdout(), facts)


def print_most_affected(table: CalibrationTable) -> None:
    """Print the tensors that lose the largest share of values, and name unusual ones."""
    from quantcal.onnx.result import widest_clipped

    out = stdout()
    names = [clipped.name for clipped in widest_clipped(table, _MOST)]
    out.print()
    if names:
        more = sum(report.clipped > 0 for report in table.report.values()) - len(names)
        tail = f", of {more + len(names)}" if more else ""
        out.print(f"Most clipped{tail}:", style="bold")
        show(out, views.ranges(table, names, out))
    else:
        out.print("No tensor is clipped.", style="bold")
    report = table.report
    warn_of_nonfinite(
        [name for name, r in report.items() if r.nan or r.posinf or r.neginf]
    )
    warn_of_nothing(names_without_values(table))


def names_without_values(table: CalibrationTable) -> list[str]:
    """Return the names of the tensors that held no finite value."""
    return [name for name, r in table.report.items() if r.min is None]


def _written(
    written: QuantizeResult | WriteResult, cost: ModelCost | None
) -> dict[str, str]:
    from quantcal.onnx.result import left_rows

    left = left_rows(written.left_in_float, written.float_weights, written.model_bytes)
    return {
        "quantized": _counts(written.quantized_nodes),
        **({} if cost is None else cost_facts(cost, _held_out(written))),
        **dict(left),
        "Q / DQ nodes": f"{written.quantize_nodes} / {written.dequantize_nodes}",
        "weights": _first_clause(written.weights),
    }


def _held_out(written: QuantizeResult | WriteResult) -> float | None:
    """Return the loss that "auto" found; None where it measured another thing, or did not."""
    choice = getattr(written, "choice", None)
    if choice is None or choice.folds < 2 or "metric" in choice.measures.values():
        return None
    return choice.loss if math.isfinite(choice.loss) else None


def _first_clause(reason: str) -> str:
    """Return how weights are stored, and a link for the rest of a long reason."""
    first, colon, rest = reason.partition(": ")
    cause, more, _ = rest.partition(": ")
    return f"{first}{colon}{cause}" + (" (docs/guide/weights.md)" if more else "")


def _sizes(output: Path, model: Path) -> str:
    from quantcal.onnx.model_cost import model_bytes

    before, after = model_bytes(model), model_bytes(output)
    share = f", {text.share(after / before)}" if before else ""
    return f"{output} ({text.size(after)}, from {text.size(before)}{share})"


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in counts.items())
