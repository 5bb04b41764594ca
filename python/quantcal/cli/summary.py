"""What `quantcal quantize` tells when it is done."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from quantcal.cli import text
from quantcal.cli.compute import print_most_affected
from quantcal.cli.console import stdout
from quantcal.cli.facts import print_facts, timing

if TYPE_CHECKING:
    from quantcal.onnx import QuantizeResult


def print_result(
    result: QuantizeResult, model: Path, *, kept: Sequence[Path] = ()
) -> None:
    """Print what was done, and the tensors that lose most.

    Parameters
    ----------
    result
        Of `quantcal.onnx.quantize`.
    model
        The model that was quantised; its size is shown beside the new one's.
    kept
        Other files that were written.
    """
    steps = (
        f"observe {timing(result.seconds_observe, result.samples)}, "
        f"compute {result.seconds_compute:.1f} s, write {result.seconds_write:.1f} s"
    )
    facts = {
        "written": f"{result.output} ({_size(result.output)}, from {_size(model)})",
        "samples": str(result.samples),
        "tensors observed": str(result.tensors_observed),
        "quantised": _counts(result.quantized_nodes),
        "left in float": _counts(result.left_in_float) or "none",
        "Q / DQ nodes": f"{result.quantize_nodes} / {result.dequantize_nodes}",
        "weights": result.weights,
        "time": f"{result.seconds:.1f} s: {steps}",
    }
    if kept:
        facts["also written"] = ", ".join(map(str, kept))
    if result.peak_memory is not None:
        facts["peak memory"] = text.size(result.peak_memory)
    print_facts(stdout(), facts)
    print_most_affected(result.table)


def _size(path: Path) -> str:
    """Return the size of a model, with its weights where they lie beside it."""
    beside = path.with_name(f"{path.name}.data")
    weights = beside.stat().st_size if beside.is_file() else 0
    return text.size(path.stat().st_size + weights)


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in counts.items())
