"""`quantcal quantize`: observe, choose ranges and write the model, in one step."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from quantcal.calibrator import Calibrator
from quantcal.cli.checkpoints import keep_all, open_checkpoint, refuse
from quantcal.cli.checks import (
    calibrator_for,
    check_outputs,
    check_sources,
    config_beside,
)
from quantcal.cli.flags import Flags, takes_flags
from quantcal.cli.observe import OBSERVE_FLAGS
from quantcal.cli.options import KEEP, SAMPLES_HELP, ModelArgument, ResumeOption
from quantcal.cli.output.facts import warn_of_unused_rules
from quantcal.cli.output.summary import print_result, print_written
from quantcal.cli.results import load_either
from quantcal.onnx import Checkpoint, FileCheck, QuantizeOptions, read_config, write
from quantcal.onnx import quantize as quantize_model
from quantcal.strategies import Policy
from quantcal.table import CalibrationTable

_FLAGS = (
    *OBSERVE_FLAGS,
    "strategy",
    "weight_type",
    "weight_strategy",
    "block_size",
    "per_channel",
    "reduce_range",
    "cpu",
    "corrections",
    "check_stability",
)
_SETTINGS = ("mantissa_bits", "on_nonfinite")  # those of histograms

OutputOption = Annotated[
    Path,
    typer.Option(
        "--output",
        "-o",
        metavar="OUT",
        help="Where to write the quantized model; replaced when it is complete and "
        "checked.",
    ),
]
OptionalSamplesOption = Annotated[
    str | None,
    typer.Option(
        "--samples",
        metavar="PATH",
        show_default="needed without --from, unless activations stay in float",
        help=SAMPLES_HELP,
    ),
]
FromOption = Annotated[
    Path | None,
    typer.Option(
        "--from",
        metavar="FILE",
        show_default="none",
        help="Instead of samples: histograms (.qcal) of `quantcal observe`, `merge` or "
        "--save-stats, which give the same model as the samples, to the byte. Or a table of "
        "ranges (.json) of `quantcal compute` or --save-table. A table does not say which "
        "nodes need 7-bit weights: to repeat a run exactly, give its --config too.",
    ),
]
ConfigOption = Annotated[
    Path | None,
    typer.Option(
        "--config",
        metavar="FILE",
        show_default="none",
        help="Take the options from this TOML file, such as a run writes beside its "
        "output. Options given here replace those of the file, and so do rules: they are "
        "not mixed.",
    ),
]
SaveConfigOption = Annotated[
    bool,
    typer.Option(
        "--save-config/--no-save-config",
        rich_help_panel=KEEP,
        help="Write the options beside the output (OUT with .quantcal.toml), for "
        "--config: the same file and samples give the same bytes.",
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


@takes_flags(*_FLAGS)
def quantize(
    model: ModelArgument,
    *,
    output: OutputOption,
    samples: OptionalSamplesOption = None,
    from_: FromOption = None,
    config: ConfigOption = None,
    flags: Flags,
    resume: ResumeOption = None,
    save_config: SaveConfigOption = True,
    save_stats: SaveStatsOption = None,
    save_table: SaveTableOption = None,
) -> None:
    """Quantize an ONNX model with the ranges that its samples show.

    Runs the samples through the model once, one at a time, and chooses a range
    for each activation. Writes a copy with QuantizeLinear and DequantizeLinear
    nodes for onnxruntime or TensorRT.

    Examples:
      $ quantcal quantize model.onnx -o model.int8.onnx --samples calibration/
      $ quantcal quantize model.onnx -o model.int8.onnx --samples calibration/ \\
          -s mse -s '*attn*=minmax' --exclude '*head*'
      $ quantcal quantize model.onnx -o model.trt.onnx --samples calibration/ \\
          --target tensorrt
      $ quantcal quantize model.onnx -o model.int4.onnx \\
          --activation-type none --weight-type int4
      $ quantcal quantize model.onnx -o again.onnx --samples calibration/ \\
          --config model.int8.quantcal.toml
      $ quantcal quantize model.onnx -o model.p99.onnx --from stats.qcal \\
          -s percentile_99.99
    """
    values: dict[str, Any] = read_config(config) if config else {}
    values |= flags.values()
    options = QuantizeOptions(**values)
    check_sources(samples, from_, options)
    beside = config_beside(output, config) if save_config else None
    strategies = flags.raw("strategy")["--strategy"] or ()
    files = FileCheck(model, [samples, from_, config, resume], strategies)
    check = partial(check_outputs, files, output, (save_stats, save_table, beside))
    check()
    Policy.of(options.strategy)  # an unknown name is refused before the samples run
    settings = flags.raw(*_SETTINGS)
    checkpoint: Checkpoint | None = None
    if from_ is not None:
        observing = {"--save-stats": save_stats, "--resume": resume}
        refuse(settings | observing, "the histograms in --from were made earlier")
        known = load_either(from_)
        if isinstance(known, CalibrationTable):
            choosing = flags.raw("strategy", "activation_type")
            choosing["--save-table"] = save_table
            refuse(choosing, "the table in --from has its ranges; give histograms")
            _check_table_options(options)
            written = write(model, output, known, options=options)
            print_written(written, model, from_)
            return
        earlier: Calibrator | None = known
    else:
        earlier, checkpoint = open_checkpoint(resume, output, settings)
    configured = {name: values.pop(name, None) for name in _SETTINGS}
    calibrator = calibrator_for(
        earlier, from_ or resume, configured, complete=from_ is not None
    )
    try:
        result = quantize_model(
            model,
            output,
            samples,
            calibrator=calibrator,
            checkpoint=checkpoint,
            options=QuantizeOptions(**values),
        )
        check()  # files may have changed while the samples ran
        if save_stats is not None and len(calibrator):
            calibrator.save(save_stats)
    except BaseException:
        keep_all(calibrator, checkpoint, save_stats, "--from")
        raise
    if checkpoint is not None:
        checkpoint.remove()
    if save_table is not None:
        result.table.save(save_table)
    kept = [path for path in (save_stats, save_table) if path]
    if beside is not None and result.config is not None:
        result.save_config(beside)
        kept.insert(0, beside)
    warn_of_unused_rules(result.table)
    print_result(result, model, source=from_, kept=kept)


def _check_table_options(options: QuantizeOptions) -> None:
    """Refuse what the ranges of a table cannot decide."""
    if options.reduce_range == "nodes":
        raise typer.BadParameter(
            "A table does not say which nodes need it. Give --from the histograms "
            "(.qcal), or --config of the run.",
            param_hint="'--reduce-range'",
        )
