"""What `quantcal quantize` measures of the written model, and what it says beforehand."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from quantcal._core import CalibrationError
from quantcal.cli.output.console import say_warning

if TYPE_CHECKING:
    from quantcal.onnx import ModelCost, QuantizeOptions


def warn_of_slow_integers(options: QuantizeOptions) -> None:
    """Say before a run that integers may be no faster on this kind of processor."""
    from quantcal.onnx.options import cpu_kind

    small = {"uint8", "int8", None}
    if options.target != "onnxruntime" or options.activation_type not in small:
        return
    if cpu_kind(options.cpu) == "no-vnni":
        whose = "this CPU" if options.cpu == "auto" else "the CPU"
        say_warning(
            f"{whose} has no VNNI, so int8 may be no faster than float; the file is smaller "
            "all the same (docs/guide/times.md)"
        )


def measured_cost(
    model: Path,
    output: Path,
    samples: Any,
    options: QuantizeOptions,
    *,
    latency: bool,
) -> ModelCost | None:
    """Measure what a written model costs; None, with a warning, when it cannot run here."""
    from quantcal.onnx import measure_cost

    try:
        return measure_cost(
            model,
            output,
            samples,
            latency=latency and options.target == "onnxruntime",
        )
    except CalibrationError as error:
        why = " ".join(str(error).split())
        say_warning(f"Loss and latency could not be measured: {why}")
        return None
