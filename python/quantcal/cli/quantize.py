"""`quantcal quantize`: observe, choose ranges and write the model, in one step."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import typer

from quantcal import Calibrator
from quantcal.cli.errors import refuse_overwriting
from quantcal.cli.facts import warn_of_unused_rules
from quantcal.cli.observe import chosen, megabytes
from quantcal.cli.options import (
    DATA_HELP,
    KEEP,
    WEIGHTS,
    ActivationOption,
    ExcludeOption,
    IncludeOption,
    MantissaOption,
    MemoryOption,
    ModelArgument,
    Observer,
    ObserverOption,
    OptionalNonfiniteOption,
    OpTypeOption,
    StrategyOption,
    TargetOption,
    parse_formats,
    parse_strategy,
)
from quantcal.cli.summary import print_result
from quantcal.onnx.cpu import CPUS
from quantcal.strategies import Policy


class ReduceRange(str, Enum):
    """Whether weights take 7 bits."""

    AUTO = "auto"
    NODES = "nodes"
    YES = "yes"
    NO = "no"


Cpu = Enum("Cpu", {name: name for name in CPUS}, type=str)  # type: ignore[misc]


class WeightStrategy(str, Enum):
    """How the ranges of weights are chosen."""

    MINMAX = "minmax"
    MSE = "mse"


_REDUCE_RANGE: dict[ReduceRange, bool | str] = {
    ReduceRange.AUTO: "auto",
    ReduceRange.NODES: "nodes",
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
OptionalDataOption = Annotated[
    str | None,
    typer.Option(
        "--data",
        metavar="PATH",
        show_default="needed, unless activations stay in float",
        help=DATA_HELP,
    ),
]
ConfigOption = Annotated[
    Path | None,
    typer.Option(
        "--config",
        metavar="FILE",
        show_default="none",
        help="Take the options from this TOML file, such as a run writes beside its "
        "output; options given here go before it. Rules are not mixed: those given here "
        "replace the file's.",
    ),
]
WeightOption = Annotated[
    list[str] | None,
    typer.Option(
        "--weight",
        metavar="FORMAT",
        show_default="int8, or the small float of the activations",
        rich_help_panel=WEIGHTS,
        help="Format of weights. 'int8' has the fast kernels; 'uint8' is affine; 'int4' "
        "and 'uint4' take an eighth of the float's size, best with --activation none; "
        "'int7', 'uint7', 'int16', 'float8_e4m3fn', 'float8_e5m2'. Or PATTERN=FORMAT for "
        "weights by name, 'node:PATTERN=FORMAT' for those of nodes.",
    ),
]
WeightStrategyOption = Annotated[
    WeightStrategy | None,
    typer.Option(
        "--weight-strategy",
        show_default="mse for 4 bits, else minmax",
        rich_help_panel=WEIGHTS,
        help="Ranges of weights: 'minmax' clips nothing; 'mse' clips where that lowers "
        "the squared error: by 1 to 3 dB with 4 bits, 0.1 to 0.4 with 8.",
    ),
]
BlockSizeOption = Annotated[
    int | None,
    typer.Option(
        "--block-size",
        metavar="N",
        show_default="32, as in most 4-bit files",
        rich_help_panel=WEIGHTS,
        help="So many values of a 4-bit matrix share a scale. Fewer are more exact and "
        "larger; 0 for one scale a channel.",
    ),
]
PerChannelOption = Annotated[
    bool | None,
    typer.Option(
        "--per-channel/--per-tensor",
        show_default="per channel, which is more exact and costs nothing",
        rich_help_panel=WEIGHTS,
        help="One scale for each output channel of a weight, or one for all.",
    ),
]
ReduceRangeOption = Annotated[
    ReduceRange | None,
    typer.Option(
        "--reduce-range",
        show_default="auto",
        rich_help_panel=WEIGHTS,
        help="7-bit weights: 'auto' takes them for onnxruntime when the CPU has no VNNI, "
        "in the nodes whose 8-bit sums would overflow; 'yes' in all nodes.",
    ),
]
CpuOption = Annotated[
    Cpu | None,
    typer.Option(
        "--cpu",
        show_default="auto: this machine",
        rich_help_panel=WEIGHTS,
        help="Where onnxruntime will run the model, which decides --reduce-range auto.",
    ),
]
SaveConfigOption = Annotated[
    bool,
    typer.Option(
        "--save-config/--no-save-config",
        rich_help_panel=KEEP,
        help="Write the options beside the output (OUT with .quantcal.toml), for "
        "--config: the same file and data give the same bytes.",
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
    data: OptionalDataOption = None,
    config: ConfigOption = None,
    target: TargetOption = None,
    op_type: OpTypeOption = None,
    include: IncludeOption = None,
    exclude: ExcludeOption = None,
    strategy: StrategyOption = None,
    activation: ActivationOption = None,
    weight: WeightOption = None,
    weight_strategy: WeightStrategyOption = None,
    block_size: BlockSizeOption = None,
    per_channel: PerChannelOption = None,
    reduce_range: ReduceRangeOption = None,
    cpu: CpuOption = None,
    mantissa_bits: MantissaOption = None,
    on_nonfinite: OptionalNonfiniteOption = None,
    observer: ObserverOption = Observer.AUTO,
    max_memory: MemoryOption = None,
    save_config: SaveConfigOption = True,
    save_stats: SaveStatsOption = None,
    save_table: SaveTableOption = None,
) -> None:
    """Quantise an ONNX model with the ranges that its data show.

    Runs the samples through the model once, one at a time, chooses a range for
    each activation, and writes a copy with QuantizeLinear and DequantizeLinear
    nodes for onnxruntime or TensorRT.

    Examples:
      $ quantcal quantize model.onnx -o model.int8.onnx --data calibration/
      $ quantcal quantize model.onnx -o model.int8.onnx --data calibration/ \\
          -s mse -s '*attn*=minmax' --exclude '*head*'
      $ quantcal quantize model.onnx -o model.trt.onnx --data calibration/ \\
          --target tensorrt
      $ quantcal quantize model.onnx -o model.int4.onnx \\
          --activation none --weight int4
      $ quantcal quantize model.onnx -o again.onnx --data calibration/ \\
          --config model.int8.quantcal.toml
    """
    from quantcal.onnx import quantize as quantize_model
    from quantcal.onnx import read_config
    from quantcal.onnx.config import save_config as save

    options: dict[str, Any] = read_config(config) if config else {}
    options |= chosen(target, activation, op_type, include, exclude)
    options |= _weights(
        weight, weight_strategy, block_size, per_channel, reduce_range, cpu
    )
    if strategy or "strategy" not in options:
        options["strategy"] = parse_strategy(strategy)
    if data is None and options.get("activation") != "none":
        raise typer.BadParameter(
            "Give the calibration samples, or --activation none.", param_hint="'--data'"
        )
    beside = output.with_suffix(".quantcal.toml") if save_config else None
    if (
        beside is not None
        and config is not None
        and beside.resolve() == config.resolve()
    ):
        beside = None  # it says the same already, perhaps with the user's remarks
    bits = options.pop("mantissa_bits", None)
    nonfinite = options.pop("on_nonfinite", "ignore")
    if on_nonfinite is not None:
        nonfinite = on_nonfinite.value
    _check_outputs(model, data, output, save_stats, save_table, beside)
    Policy.of(options["strategy"])  # an unknown name is told before the samples run
    calibrator = Calibrator(mantissa_bits=mantissa_bits or bits, on_nonfinite=nonfinite)
    try:
        result = quantize_model(
            model,
            output,
            data,
            calibrator=calibrator,
            method=observer.value,
            max_memory=megabytes(max_memory),
            **options,
        )
    finally:
        if save_stats is not None and len(calibrator):
            calibrator.save(save_stats)  # also when writing the model failed
    if save_table is not None:
        result.table.save(save_table)
    kept = [path for path in (save_stats, save_table) if path]
    if beside is not None and result.config is not None:
        save(result.config, beside)
        kept.insert(0, beside)
    warn_of_unused_rules(result.table)
    print_result(result, model, kept=kept)


def _weights(
    weight: list[str] | None,
    strategy: WeightStrategy | None,
    block_size: int | None,
    per_channel: bool | None,
    reduce_range: ReduceRange | None,
    cpu: Cpu | None,
) -> dict[str, Any]:
    """Return the options of weights; only those that were given."""
    plain, rules = parse_formats(weight, "--weight")
    options = {
        "weight": plain,
        "weight_formats": rules or None,
        "weight_strategy": strategy.value if strategy else None,
        "block_size": block_size,
        "per_channel": per_channel,
        "reduce_range": _REDUCE_RANGE[reduce_range] if reduce_range else None,
        "cpu": cpu.value if cpu else None,
    }
    return {name: value for name, value in options.items() if value is not None}


def _check_outputs(model: Path, data: str | None, *targets: Path | None) -> None:
    """Refuse files that cannot be written, before the samples run."""
    from quantcal.onnx.writer import check_output

    seen: set[Path] = set()
    for target in targets:
        if target is None:
            continue
        check_output(model, target)
        if data is not None:
            refuse_overwriting(target, data)
        if target.resolve() in seen:
            raise typer.BadParameter(f"{target} is to be written twice.")
        seen.add(target.resolve())
