"""`quantcal quantize`: observe, choose ranges and write the model, in one step."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from quantcal._io.files import write_text
from quantcal.calibrator import Calibrator
from quantcal.cli.checkpoints import keep_all, open_checkpoint, refuse
from quantcal.cli.checks import (
    calibrator_for,
    check_outputs,
    check_sources,
    config_beside,
    naming,
)
from quantcal.cli.flags import Flags, takes_flags
from quantcal.cli.observe import OBSERVE_FLAGS
from quantcal.cli.options import (
    KEEP,
    SAMPLES_HELP,
    ModelArgument,
    ReportOption,
    ResumeOption,
)
from quantcal.cli.output.facts import warn_of_unused_rules
from quantcal.cli.output.summary import print_result, print_written
from quantcal.cli.report_file import require_report, save_report
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
# Only when samples run.
_OF_SAMPLES = (*_SETTINGS, "observer", "max_memory", "check_stability")

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
        "--save-stats. With a fixed strategy they give the same model as the samples, to the "
        "byte; 'auto' needs samples and is 'mse' here. Or a table of "
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
        "output. An option given here replaces that of the file as a whole, with its rules: "
        "--weight-type int8 leaves none of the file's formats of weights.",
    ),
]
SaveConfigOption = Annotated[
    bool,
    typer.Option(
        "--save-config/--no-save-config",
        rich_help_panel=KEEP,
        help="Write the options beside the output (OUT with .quantcal.toml), for "
        "--config: the same file and samples, or table, give the same bytes.",
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
    report: ReportOption = None,
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
    filed: dict[str, Any] = read_config(config) if config else {}
    given = flags.values()
    values = filed | given
    options = QuantizeOptions(**values)
    check_sources(samples, from_, options)
    _refuse_unused(
        flags,
        options,
        {"--save-stats": save_stats, "--resume": resume},
        {"--samples": samples, "--from": from_, "--save-table": save_table},
    )
    beside = config_beside(output, config) if save_config else None
    strategies = flags.raw("strategy")["--strategy"] or ()
    files = FileCheck(model, [samples, from_, config, resume], strategies)
    made_beside = save_stats, save_table, beside, report
    check = partial(check_outputs, files, output, made_beside)
    check()
    require_report(report)
    Policy.of(options.strategy)  # an unknown name is refused before the samples run
    checkpoint: Checkpoint | None = None
    earlier: Calibrator | None = None
    of_file = naming(config, filed.keys() - given.keys())
    if from_ is not None:
        known = load_either(from_)
        if isinstance(known, CalibrationTable):
            _refuse_choosing(flags, options, save_table)
            with of_file:
                _write_table(model, output, from_, known, options, beside, report)
            return
        earlier = known
    else:
        earlier, checkpoint = open_checkpoint(resume, output, flags.raw(*_SETTINGS))
    configured = {name: values.pop(name, None) for name in _SETTINGS}
    calibrator = calibrator_for(
        earlier, from_ or resume, configured, complete=from_ is not None
    )
    try:
        with of_file:
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
    written = beside if result.config is not None else None
    if written is not None:
        result.save_config(written)
    save_report(report, model=model, calibrator=calibrator, result=result)
    kept = [path for path in (written, save_stats, save_table, report) if path]
    warn_of_unused_rules(result.table)
    print_result(result, model, source=from_, kept=kept)


def _write_table(
    model: Path,
    output: Path,
    source: Path,
    table: CalibrationTable,
    options: QuantizeOptions,
    beside: Path | None,
    report: Path | None,
) -> None:
    """Write a model with the ranges of a table, its options and a report."""
    written = write(model, output, table, options=options)
    kept = []
    if beside is not None and written.config is not None:
        write_text(beside, written.config)
        kept.append(beside)
    if report is not None:
        save_report(report, model=model, quantized=output, table=table)
        kept.append(report)
    print_written(written, model, source, kept=kept)


def _refuse_unused(
    flags: Flags,
    options: QuantizeOptions,
    made: Mapping[str, object],
    others: Mapping[str, object],
) -> None:
    """Refuse flags without effect: those of samples where no sample runs.

    `made` are flags of what only a run makes, `others` those of sources and of ranges.
    """
    observing = {**flags.raw(*_OF_SAMPLES), **made}
    if options.activation_type == "none":
        unused = {**others, **observing, **flags.raw("strategy")}
        refuse(unused, "activations stay in float, so that no sample runs")
    if others["--from"] is not None:
        refuse(observing, "the histograms or ranges in --from were made earlier")


def _refuse_choosing(
    flags: Flags, options: QuantizeOptions, save_table: Path | None
) -> None:
    """Refuse what the ranges of a table cannot decide."""
    choosing = flags.raw("strategy", "activation_type")
    choosing["--save-table"] = save_table
    refuse(choosing, "the table in --from has its ranges; give histograms")
    if options.reduce_range == "nodes":
        raise typer.BadParameter(
            "A table does not say which nodes need it. Give --from the histograms "
            "(.qcal), or --config of the run.",
            param_hint="'--reduce-range'",
        )
