"""`quantcal quantize`: observe, choose ranges and write the model, in one step."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from quantcal._io.files import write_text
from quantcal.cli.checks import (
    calibrator_for,
    check_outputs,
    check_sources,
    config_beside,
    naming,
)
from quantcal.cli.costs import measured_cost, warn_of_slow_integers
from quantcal.cli.data_flags import DataFlags, reads_data
from quantcal.cli.flags import Flags, takes_flags
from quantcal.cli.observe import OBSERVE_FLAGS
from quantcal.cli.options import (
    KEEP,
    SAMPLES_HELP,
    JsonOption,
    ModelArgument,
    OutputOption,
    ReportOption,
    ResumeOption,
)
from quantcal.cli.output.facts import warn_of_unused_rules
from quantcal.cli.output.report_file import check_report, save_report
from quantcal.cli.parsing.common import is_quiet
from quantcal.cli.results import load_either
from quantcal.strategies import Policy

if TYPE_CHECKING:
    from quantcal.calibrator import Calibrator
    from quantcal.onnx import (
        Checkpoint,
        FileCheck,
        QuantizeOptions,
        QuantizeResult,
        WriteResult,
    )
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

OptionalSamplesOption = Annotated[
    str | None,
    typer.Option(
        "--samples",
        "-i",
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
        "-c",
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
        show_default="none",
        rich_help_panel=KEEP,
        help="Keep the histograms too (.qcal), to try other strategies later.",
    ),
]
SaveTableOption = Annotated[
    Path | None,
    typer.Option(
        "--save-table",
        metavar="FILE",
        show_default="none",
        rich_help_panel=KEEP,
        help="Keep the ranges and their report too (.json).",
    ),
]

LatencyOption = Annotated[
    bool,
    typer.Option(
        "--latency/--no-latency",
        help="Time the float and the quantized model in turns on this machine, for about two "
        "seconds.",
    ),
]


@reads_data()
@takes_flags(*_FLAGS)
def quantize(
    model: ModelArgument,
    *,
    output: OutputOption,
    samples: OptionalSamplesOption = None,
    data: DataFlags,
    from_: FromOption = None,
    config: ConfigOption = None,
    flags: Flags,
    resume: ResumeOption = None,
    save_config: SaveConfigOption = True,
    save_stats: SaveStatsOption = None,
    save_table: SaveTableOption = None,
    report: ReportOption = None,
    latency: LatencyOption = True,
    json_: JsonOption = False,
) -> None:
    """Quantize an ONNX model with the ranges that its samples show.

    Runs the samples through the model once, one at a time, and chooses a range
    for each activation. Writes a copy with QuantizeLinear and DequantizeLinear
    nodes for onnxruntime or TensorRT.

    Examples:
      $ quantcal quantize model.onnx -o model.int8.onnx --samples calibration/
      $ quantcal quantize model.onnx -o model.int8.onnx --samples photos/ \\
          --image-size 224 --mean 0.485,0.456,0.406 --std 0.229,0.224,0.225
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
    from quantcal.cli.checkpoints import open_checkpoint
    from quantcal.onnx import FileCheck, QuantizeOptions, read_config
    from quantcal.table import CalibrationTable

    filed: dict[str, Any] = read_config(config) if config else {}
    given = flags.values()
    values = filed | given
    options = QuantizeOptions(**values)
    check_sources(samples, from_, options)
    made = {"--save-stats": save_stats, "--resume": resume}
    others = {"--samples": samples, "--from": from_, "--save-table": save_table}
    _refuse_unused(flags, options, made, others)
    beside = config_beside(output, config) if save_config else None
    strategies = flags.raw("strategy")["--strategy"] or ()
    data_source = data.source(samples)
    files = FileCheck(model, [data_source, from_, config, resume], strategies)
    check = _checked(files, output, (save_stats, save_table, beside))
    check_report(report, files, output, save_stats, save_table, beside)
    finish = partial(
        _report,
        model,
        data_source,
        options,
        source=from_,
        latency=latency,
        json_=json_,
        report=report,
    )
    if latency:
        warn_of_slow_integers(options)
    Policy.of(options.strategy)  # an unknown name is refused before the samples run
    checkpoint: Checkpoint | None = None
    earlier: Calibrator | None = None
    of_file = naming(config, filed.keys() - given.keys())
    if from_ is not None:
        known = load_either(from_)
        if isinstance(known, CalibrationTable):
            _refuse_choosing(flags, options, save_table)
            with of_file:
                done, kept = _write_table(model, output, known, options, beside)
            finish(done, kept, {"quantized": output, "table": known})
            return
        earlier = known
    else:
        earlier, checkpoint = open_checkpoint(resume, output, flags.raw(*_SETTINGS))
    configured = {name: values.pop(name, None) for name in _SETTINGS}
    calibrator = calibrator_for(
        earlier, from_ or resume, configured, complete=from_ is not None
    )
    with of_file:
        result, kept = _quantize(
            model,
            output,
            data_source,
            values,
            calibrator,
            checkpoint,
            check,
            made,
            save_table,
        )
    if beside is not None and result.config is not None:
        result.save_config(beside)
        kept.insert(0, beside)
    warn_of_unused_rules(result.table)
    finish(result, kept, {"calibrator": calibrator, "result": result})


def _checked(
    files: FileCheck, output: Path, kept: Sequence[Path | None]
) -> Callable[[], None]:
    """Check what is written, and return the check for another time."""
    check = partial(check_outputs, files, output, kept)
    check()
    return check


def _quantize(
    model: Path,
    output: Path,
    samples: Any,
    values: Mapping[str, Any],
    calibrator: Calibrator,
    checkpoint: Checkpoint | None,
    check: Callable[[], None],
    made: Mapping[str, Path | None],
    save_table: Path | None,
) -> tuple[QuantizeResult, list[Path]]:
    """Quantize a model, and keep its histograms and ranges; return these files too."""
    from quantcal.cli.checkpoints import keep_all
    from quantcal.onnx import QuantizeOptions
    from quantcal.onnx import quantize as quantize_model

    save_stats = made["--save-stats"]
    try:
        result = quantize_model(
            model,
            output,
            samples,
            calibrator=calibrator,
            checkpoint=checkpoint,
            progress=not is_quiet(),
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
    return result, [path for path in (save_stats, save_table) if path]


def _report(
    model: Path,
    samples: Any,
    options: QuantizeOptions,
    done: QuantizeResult | WriteResult,
    kept: Sequence[Path],
    shown: Mapping[str, Any],
    *,
    source: Path | None,
    latency: bool,
    json_: bool,
    report: Path | None,
) -> None:
    """Measure what the written model costs, write a report of what is shown, print all."""
    from quantcal.cli.output.result_json import print_quantized
    from quantcal.cli.output.summary import print_result, print_written
    from quantcal.onnx import QuantizeResult

    if is_quiet() and not json_ and report is None:
        return
    cost = measured_cost(model, done.output, samples, options, latency=latency)
    if report is not None:
        save_report(report, model=model, cost=cost, **shown)
        kept = [*kept, report]
    if is_quiet() and not json_:
        return
    if json_:
        print_quantized(done, cost, kept)
    elif isinstance(done, QuantizeResult):
        print_result(done, model, source=source, kept=kept, cost=cost)
    else:
        assert source is not None
        print_written(done, model, source, kept=kept, cost=cost)


def _write_table(
    model: Path,
    output: Path,
    table: CalibrationTable,
    options: QuantizeOptions,
    beside: Path | None,
) -> tuple[WriteResult, list[Path]]:
    """Write a model with the ranges of a table, and its options; return the files too."""
    from quantcal.onnx import write

    written = write(model, output, table, options=options)
    kept = []
    if beside is not None and written.config is not None:
        write_text(beside, written.config)
        kept.append(beside)
    return written, kept


def _refuse_unused(
    flags: Flags,
    options: QuantizeOptions,
    made: Mapping[str, object],
    others: Mapping[str, object],
) -> None:
    """Refuse flags without effect: those of samples where no sample runs.

    `made` are flags of what only a run makes, `others` those of sources and of ranges.
    """
    from quantcal.cli.checkpoints import refuse

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
    from quantcal.cli.checkpoints import refuse

    choosing = flags.raw("strategy", "activation_type")
    choosing["--save-table"] = save_table
    refuse(choosing, "the table in --from has its ranges; give histograms")
    if options.reduce_range == "nodes":
        raise typer.BadParameter(
            "A table does not say which nodes need it. Give --from the histograms "
            "(.qcal), or --config of the run.",
            param_hint="'--reduce-range'",
        )
