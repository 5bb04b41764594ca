"""`quantcal quantize`: observe, choose ranges and write the model, in one step."""

from __future__ import annotations

import time
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from quantcal.cli.observe import megabytes, nodes, samples_of
from quantcal.cli.options import (
    KEEP,
    RANGES,
    WEIGHTS,
    DataOption,
    ExcludeOption,
    Format,
    MantissaOption,
    MemoryOption,
    ModelArgument,
    NonfiniteOption,
    OnNonfinite,
    OpTypeOption,
    StrategyOption,
    parse_strategy,
)
from quantcal.cli.summary import print_result
from quantcal.strategies import Policy

if TYPE_CHECKING:
    from quantcal.onnx import QuantizeResult


class ReduceRange(str, Enum):
    """Whether weights take 7 bits."""

    AUTO = "auto"
    YES = "yes"
    NO = "no"


OutputOption = Annotated[
    Path,
    typer.Option(
        "--output",
        "-o",
        metavar="OUT",
        help="Where to write the quantised model; replaced when it is complete and "
        "checked.",
    ),
]
ActivationOption = Annotated[
    Format,
    typer.Option(
        "--activation",
        rich_help_panel=RANGES,
        help="Format of activations: 'uint8' is affine and spends no code on what "
        "ReLU cuts off, 'int8' is symmetric.",
    ),
]
WeightOption = Annotated[
    Format,
    typer.Option(
        "--weight",
        rich_help_panel=WEIGHTS,
        help="Format of weights: 'int8' has the fast kernels.",
    ),
]
PerChannelOption = Annotated[
    bool,
    typer.Option(
        "--per-channel/--per-tensor",
        rich_help_panel=WEIGHTS,
        help="One scale for each output channel of a weight, which is more exact, "
        "or one for all.",
    ),
]
ReduceRangeOption = Annotated[
    ReduceRange,
    typer.Option(
        "--reduce-range",
        rich_help_panel=WEIGHTS,
        help="7-bit weights: 'auto' takes them when this CPU has no VNNI, where "
        "8-bit sums overflow. Say it yourself when the model will run elsewhere.",
    ),
]
SaveStatsOption = Annotated[
    Path | None,
    typer.Option(
        "--save-stats",
        metavar="FILE",
        show_default="not kept",
        rich_help_panel=KEEP,
        help="Keep the histograms too (.qcal), to try other strategies later.",
    ),
]
SaveTableOption = Annotated[
    Path | None,
    typer.Option(
        "--save-table",
        metavar="FILE",
        show_default="not kept",
        rich_help_panel=KEEP,
        help="Keep the ranges and their report too (.json).",
    ),
]


def quantize(
    model: ModelArgument,
    *,
    output: OutputOption,
    data: DataOption,
    strategy: StrategyOption = None,
    activation: ActivationOption = Format.UINT8,
    weight: WeightOption = Format.INT8,
    per_channel: PerChannelOption = True,
    reduce_range: ReduceRangeOption = ReduceRange.AUTO,
    op_type: OpTypeOption = None,
    exclude: ExcludeOption = None,
    mantissa_bits: MantissaOption = None,
    on_nonfinite: NonfiniteOption = OnNonfinite.IGNORE,
    max_memory: MemoryOption = None,
    save_stats: SaveStatsOption = None,
    save_table: SaveTableOption = None,
) -> None:
    """Quantise an ONNX model with the ranges that its data show.

    Runs the samples through the model once, one at a time, chooses a range for
    each activation, and writes a copy with QuantizeLinear and DequantizeLinear
    nodes for onnxruntime.

    Examples:
      $ quantcal quantize model.onnx -o model.int8.onnx --data calibration/
      $ quantcal quantize model.onnx -o model.int8.onnx --data calibration/ \\
          -s mse -s '*attn*=minmax' --exclude '*head*'
    """
    from quantcal.onnx import quantize as quantize_model

    _check_outputs(model, output, save_stats, save_table)
    rules = parse_strategy(strategy)
    Policy.of(rules)  # an unknown name is told before the samples run
    observing: dict[str, Any] = {
        "mantissa_bits": mantissa_bits,
        "on_nonfinite": on_nonfinite.value,
        "max_memory": megabytes(max_memory),
    }
    writing: dict[str, Any] = {
        "weight": weight.value,
        "per_channel": per_channel,
        "reduce_range": {"auto": "auto", "yes": True, "no": False}[reduce_range.value],
        **nodes(op_type, exclude),
    }
    choosing: dict[str, Any] = {"strategy": rules, "activation": activation.value}
    if save_stats is None:
        options = choosing | observing | writing
        result = quantize_model(model, output, data, **options)
    else:
        result = _keep_stats(
            model,
            output,
            data,
            save_stats,
            **choosing,
            observe=observing,
            write=writing,
        )
    if save_table is not None:
        result.table.save(save_table)
    print_result(result, model, kept=[p for p in (save_stats, save_table) if p])


def _check_outputs(model: Path, *targets: Path | None) -> None:
    """Refuse files that cannot be written, before the samples run."""
    from quantcal.onnx.writer import check_output

    seen: set[Path] = set()
    for target in targets:
        if target is None:
            continue
        check_output(model, target)
        if target.resolve() in seen:
            raise typer.BadParameter(f"{target} is to be written twice.")
        seen.add(target.resolve())


def _keep_stats(
    model: Path,
    output: Path,
    data: str,
    stats: Path,
    *,
    strategy: str | dict[str, str],
    activation: str,
    observe: dict[str, Any],
    write: dict[str, Any],
) -> QuantizeResult:
    """Do the same in steps, with the histograms saved as soon as they are complete."""
    from quantcal import onnx
    from quantcal.onnx.result import peak_memory, widest_clipped

    started = time.perf_counter()
    which = {key: write[key] for key in ("op_types", "exclude") if key in write}
    calibrator = onnx.observe(model, data, progress=True, **observe, **which)
    calibrator.save(stats)
    observed = time.perf_counter()
    table = calibrator.compute(strategy, format=activation)
    computed = time.perf_counter()
    written = onnx.write(model, output, table, **write)
    return onnx.QuantizeResult(
        output=written.output,
        table=table,
        samples=samples_of(calibrator),
        tensors_observed=len(calibrator),
        quantized_nodes=written.quantized_nodes,
        quantize_nodes=written.quantize_nodes,
        dequantize_nodes=written.dequantize_nodes,
        left_in_float=written.left_in_float,
        reduce_range=written.weight_bits == 7,
        reduce_range_reason=written.weight_bits_reason,
        seconds_observe=observed - started,
        seconds_compute=computed - observed,
        seconds_write=time.perf_counter() - computed,
        peak_memory=peak_memory(),
        widest_clipped=widest_clipped(table),
    )
