"""`quantcal quantize`: observe, choose ranges and write the model, in one step."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from quantcal.calibrator import Calibrator
from quantcal.cli.checks import (
    calibrator_for,
    check_outputs,
    check_sources,
    config_beside,
)
from quantcal.cli.facts import warn_of_unused_rules
from quantcal.cli.observe import (
    chosen,
    keep_all,
    kept_before,
    megabytes,
    refuse,
    remove_kept,
)
from quantcal.cli.options import (
    DATA_HELP,
    KEEP,
    OBSERVING,
    ActivationOption,
    ExcludeOption,
    IncludeOption,
    MantissaOption,
    MemoryOption,
    ModelArgument,
    NonfiniteOption,
    Observer,
    ObserverOption,
    OpTypeOption,
    PlacementOption,
    ResumeOption,
    StrategyOption,
    TargetOption,
    parse_strategy,
)
from quantcal.cli.results import load_either
from quantcal.cli.summary import print_result, print_written
from quantcal.cli.weights import (
    BlockSizeOption,
    CpuOption,
    PerChannelOption,
    ReduceRangeOption,
    WeightOption,
    WeightStrategyOption,
    weights,
)
from quantcal.strategies import Policy
from quantcal.table import CalibrationTable

if TYPE_CHECKING:
    from quantcal.onnx import Checkpoint, WriteResult


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
        show_default="needed without --from, unless activations stay in float",
        help=DATA_HELP,
    ),
]
FromOption = Annotated[
    Path | None,
    typer.Option(
        "--from",
        metavar="FILE",
        show_default="none",
        help="Instead of samples: histograms (.qcal) of `quantcal observe`, `merge` or "
        "--save-stats, from which ranges are chosen as if the samples ran, to the byte; "
        "or a table of ranges (.json) of `quantcal compute` or --save-table. A table "
        "does not tell which nodes need 7-bit weights: for the very model of a run, give "
        "its --config too.",
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
HalvesOption = Annotated[
    bool,
    typer.Option(
        "--halves/--no-halves",
        rich_help_panel=OBSERVING,
        help="Keep every second sample apart too, and tell how far the ranges of both "
        "halves differ: whether the samples suffice.",
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
    from_: FromOption = None,
    config: ConfigOption = None,
    target: TargetOption = None,
    placement: PlacementOption = None,
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
    on_nonfinite: NonfiniteOption = None,
    observer: ObserverOption = Observer.AUTO,
    halves: HalvesOption = True,
    max_memory: MemoryOption = None,
    resume: ResumeOption = None,
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
      $ quantcal quantize model.onnx -o model.p99.onnx --from stats.qcal \\
          -s percentile_99.99
    """
    from quantcal.onnx import quantize as quantize_model
    from quantcal.onnx import read_config
    from quantcal.onnx._check.files_in_use import RunFiles, policy_files
    from quantcal.onnx._plan.config import save_config as save

    options: dict[str, Any] = read_config(config) if config else {}
    options |= chosen(target, activation, placement, op_type, include, exclude)
    options |= weights(
        weight, weight_strategy, block_size, per_channel, reduce_range, cpu
    )
    if strategy or "strategy" not in options:
        options["strategy"] = parse_strategy(strategy)
    check_sources(data, from_, options)
    beside = config_beside(output, config) if save_config else None
    policies = [file for name in strategy or () for file in policy_files(name)]
    used = RunFiles(model, data, from_, config, resume, *policies)
    check = partial(check_outputs, used, output, (save_stats, save_table, beside))
    check()
    Policy.of(options["strategy"])  # an unknown name is told before the samples run
    keep: Checkpoint | None = None
    if from_ is not None:
        observing = {
            "--mantissa-bits": mantissa_bits,
            "--on-nonfinite": on_nonfinite,
            "--save-stats": save_stats,
            "--resume": resume,
        }
        refuse(observing, "the histograms in --from were made earlier")
        known = load_either(from_)
        if isinstance(known, CalibrationTable):
            deciding = {
                "--strategy": strategy,
                "--activation": activation,
                "--save-table": save_table,
            }
            refuse(deciding, "the table in --from has its ranges; give histograms")
            print_written(_write(model, output, known, options), model, from_)
            return
        earlier: Calibrator | None = known
    else:
        earlier, keep = kept_before(resume, output, mantissa_bits, on_nonfinite)
    asked = {
        "mantissa_bits": mantissa_bits,
        "on_nonfinite": on_nonfinite.value if on_nonfinite else None,
    }
    configured = {name: options.pop(name, None) for name in asked}
    configured |= {name: value for name, value in asked.items() if value is not None}
    calibrator = calibrator_for(
        earlier, from_ or resume, configured, complete=from_ is not None
    )
    try:
        result = quantize_model(
            model,
            output,
            data,
            calibrator=calibrator,
            method=observer.value,
            halves=halves,
            max_memory=megabytes(max_memory),
            keep=keep,
            **options,
        )
        check()  # while the samples ran much may have happened
        if save_stats is not None and len(calibrator):
            calibrator.save(save_stats)
    except BaseException:
        keep_all(calibrator, keep, save_stats, "--from")
        raise
    remove_kept(keep)
    if save_table is not None:
        result.table.save(save_table)
    kept = [path for path in (save_stats, save_table) if path]
    if beside is not None and result.config is not None:
        save(result.config, beside)
        kept.insert(0, beside)
    warn_of_unused_rules(result.table)
    print_result(result, model, source=from_, kept=kept)


def _write(
    model: Path, output: Path, table: CalibrationTable, options: Mapping[str, Any]
) -> WriteResult:
    """Write a model with the ranges of a table; what chose them is not asked again."""
    from quantcal.onnx import write

    if options.get("reduce_range") == "nodes":
        raise typer.BadParameter(
            "A table does not tell which nodes need it. Give --from the histograms "
            "(.qcal), or --config of the run.",
            param_hint="'--reduce-range'",
        )
    decided = ("strategy", "activation", "formats", "mantissa_bits", "on_nonfinite")
    kept = {name: value for name, value in options.items() if name not in decided}
    return write(model, output, table, **kept)
