"""The result of a quantization as plain data, for `--json`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from quantcal.cli.output import records

if TYPE_CHECKING:
    from quantcal.onnx import ModelCost, QuantizeResult, WriteResult

_COUNTS = (
    *("quantized_nodes", "quantize_nodes", "dequantize_nodes", "left_in_float"),
    *("weight_formats", "float_weights", "model_bytes"),
    *("reduce_range", "reduce_range_reason"),
)
_RUN = (
    *("samples", "tensors_observed", "seconds_observe", "seconds_compute"),
    *("seconds_write", "peak_memory"),
)


def print_quantized(
    result: QuantizeResult | WriteResult,
    cost: ModelCost | None,
    kept: Sequence[Path],
) -> None:
    """Print what was done, with the cost of the model."""
    content: dict[str, Any] = {
        "kind": "quantized",
        "file": str(result.output),
        "also_written": [str(path) for path in kept],
    }
    for name in (*_COUNTS, *_RUN):
        if hasattr(result, name):
            content[name] = getattr(result, name)
    clipped = getattr(result, "widest_clipped", ())
    content["widest_clipped"] = [asdict(each) for each in clipped]
    stability = getattr(result, "stability", None)
    if stability is not None:
        content["stability"] = records.finite_numbers(
            {
                "median": stability.median,
                "largest": stability.largest,
                "beyond": stability.beyond(),
                "verdict": stability.verdict,
            }
        )
    choice = getattr(result, "choice", None)
    if choice is not None:
        content["choice"] = records.finite_numbers(
            {
                "strategy": choice.strategy,
                "samples": choice.samples,
                "loss": choice.loss,
            }
        )
    content["cost"] = None if cost is None else _finite(cost.to_dict())
    records.print_json(content)


def _finite(content: Any) -> Any:
    """Return the same with None for infinities and NaN, at any depth."""
    if not isinstance(content, dict):
        return content
    return records.finite_numbers({key: _finite(each) for key, each in content.items()})
