"""The result of a quantization and of its ranges, as the commands print it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from quantcal.cli.output import text, views
from quantcal.cli.output.console import show, stdout
from quantcal.cli.output.facts import (
    print_facts,
    timing,
    warn_of_nonfinite,
    warn_of_nothing,
)
from quantcal.onnx import QuantizeResult, WriteResult
from quantcal.onnx.result import left_rows, widest_clipped
from quantcal.table import CalibrationTable

_MOST = 5  # tensors that are shown


def print_result(
    result: QuantizeResult,
    model: Path,
    *,
    source: Path | None = None,
    kept: Sequence[Path] = (),
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
    facts |= _written(result)
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
    written: WriteResult, model: Path, source: Path, *, kept: Sequence[Path] = ()
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
    """
    facts = {"written": _sizes(written.output, model), "ranges": str(source)}
    facts |= _written(written)
    if kept:
        facts["also written"] = ", ".join(map(str, kept))
    print_facts(stdout(), facts)


def print_most_affected(table: CalibrationTable) -> None:
    """Print the tensors that lose the largest share of values, and name unusual ones."""
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


def _written(written: QuantizeResult | WriteResult) -> dict[str, str]:
    left = left_rows(written.left_in_float, written.float_weights, written.model_bytes)
    return {
        "quantized": _counts(written.quantized_nodes),
        **dict(left),
        "Q / DQ nodes": f"{written.quantize_nodes} / {written.dequantize_nodes}",
        "weights": written.weights,
    }


def _sizes(output: Path, model: Path) -> str:
    return f"{output} ({_size(output)}, from {_size(model)})"


def _size(path: Path) -> str:
    """Return the size of a model, with the file of its weights if there is one."""
    beside = path.with_name(f"{path.name}.data")
    weights = beside.stat().st_size if beside.is_file() else 0
    return text.size(path.stat().st_size + weights)


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in counts.items())
