"""What `quantcal quantize` prints when it is done."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from quantcal.cli import text
from quantcal.cli.compute import print_most_affected
from quantcal.cli.console import stdout
from quantcal.cli.facts import print_facts, timing
from quantcal.onnx import QuantizeResult, WriteResult
from quantcal.onnx.result import left_rows


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
    if source is None:
        facts["samples"] = str(result.samples)
        facts["tensors observed"] = str(result.tensors_observed)
    else:
        facts["histograms"] = str(source)
    facts |= _written(result)
    if result.stability is not None:
        facts["two halves"] = result.stability.summary()
    facts["time"] = f"{result.seconds:.1f} s: {steps}"
    if kept:
        facts["also written"] = ", ".join(map(str, kept))
    if result.peak_memory is not None:
        facts["peak memory"] = text.size(result.peak_memory)
    print_facts(stdout(), facts)
    print_most_affected(result.table)


def print_written(written: WriteResult, model: Path, source: Path) -> None:
    """Print what was written with the ranges of a table.

    Parameters
    ----------
    written
        Of `quantcal.onnx.write`.
    model
        The model that was quantized.
    source
        The file of the table.
    """
    facts = {"written": _sizes(written.output, model), "ranges": str(source)}
    print_facts(stdout(), facts | _written(written))


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
