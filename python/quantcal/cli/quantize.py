"""`quantcal quantize`: observe, choose ranges and write the model, in one step."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from quantcal import Calibrator
from quantcal.cli.errors import refuse_overwriting
from quantcal.cli.facts import warn_of_unused_rules
from quantcal.cli.observe import megabytes, nodes
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


class Cpu(str, Enum):
    """Where the model will run."""

    AUTO = "auto"
    VNNI = "vnni"
    NO_VNNI = "no-vnni"
    ARM = "arm"


class ReduceRange(str, Enum):
    """Whether weights take 7 bits."""

    AUTO = "auto"
    YES = "yes"
    NO = "no"


_REDUCE_RANGE: dict[ReduceRange, bool | str] = {
    ReduceRange.AUTO: "auto",
    ReduceRange.YES: True,
    ReduceRange.NO: False,
}

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
        help="7-bit weights in all nodes or none; 'auto' takes them where the CPU has "
        "no VNNI and 8-bit sums of a node would overflow.",
    ),
]
CpuOption = Annotated[
    Cpu,
    typer.Option(
        "--cpu",
        rich_help_panel=WEIGHTS,
        help="Where the model will run: this machine, x86 with or without VNNI "
        "instructions, or Arm.",
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
    cpu: CpuOption = Cpu.AUTO,
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

    _check_outputs(model, data, output, save_stats, save_table)
    rules = parse_strategy(strategy)
    Policy.of(rules)  # an unknown name is told before the samples run
    calibrator = Calibrator(
        mantissa_bits=mantissa_bits, on_nonfinite=on_nonfinite.value
    )
    try:
        result = quantize_model(
            model,
            output,
            data,
            strategy=rules,
            activation=activation.value,
            weight=weight.value,
            per_channel=per_channel,
            reduce_range=_REDUCE_RANGE[reduce_range],
            cpu=cpu.value,
            calibrator=calibrator,
            max_memory=megabytes(max_memory),
            **nodes(op_type, exclude),
        )
    finally:
        if save_stats is not None and len(calibrator):
            calibrator.save(save_stats)  # also when writing the model failed
    if save_table is not None:
        result.table.save(save_table)
    warn_of_unused_rules(result.table)
    print_result(result, model, kept=[p for p in (save_stats, save_table) if p])


def _check_outputs(model: Path, data: str, *targets: Path | None) -> None:
    """Refuse files that cannot be written, before the samples run."""
    from quantcal.onnx.writer import check_output

    seen: set[Path] = set()
    for target in targets:
        if target is None:
            continue
        check_output(model, target)
        refuse_overwriting(target, data)
        if target.resolve() in seen:
            raise typer.BadParameter(f"{target} is to be written twice.")
        seen.add(target.resolve())
