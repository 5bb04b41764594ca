"""`quantcal tune`: the fastest model that keeps a promise about accuracy."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from quantcal.cli.data_flags import DataFlags, metric_for, reads_data
from quantcal.cli.flags import Flags, takes_flags
from quantcal.cli.observe import OBSERVE_FLAGS
from quantcal.cli.options import (
    KEEP,
    JsonOption,
    MaxDropOption,
    MetricOption,
    ModelArgument,
    OutputOption,
    ReportOption,
    SamplesOption,
    TimeLimitOption,
    TimesOption,
)
from quantcal.cli.output.console import show_text, stdout
from quantcal.cli.output.report_file import check_report, print_report, save_report
from quantcal.cli.parsing.common import is_quiet
from quantcal.cli.parsing.exit_codes import LIMIT_BROKEN
from quantcal.cli.parsing.quantities import parse_seconds, read_share

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
)


@reads_data()
@takes_flags(*_FLAGS)
def tune(
    model: ModelArgument,
    *,
    output: OutputOption,
    samples: SamplesOption,
    data: DataFlags,
    max_drop: MaxDropOption = "1%",
    metric: MetricOption = None,
    time_limit: TimeLimitOption = None,
    times: TimesOption = None,
    plot: Annotated[
        Path | None,
        typer.Option(
            "--plot",
            metavar="FILE",
            show_default="none",
            rich_help_panel=KEEP,
            help="Draw the models that were tried: drop against latency, and against nodes "
            "in float (.png, .svg, .pdf).",
        ),
    ] = None,
    report: ReportOption = None,
    flags: Flags,
    json_: JsonOption = False,
) -> None:
    """Write the fastest model that keeps a promise about accuracy.

    Chooses strategies and the nodes that stay in float. Every fifth sample is held
    out, and the promise is checked on these. The exit code is 3 if it is broken.

    Examples:
      $ quantcal tune model.onnx -o model.int8.onnx --samples calibration/
      $ quantcal tune model.onnx -o model.int8.onnx --samples calibration/ \\
          --max-drop 0.5% --metric python:mytask:is_right \\
          --time-limit 10m --plot tried.png
    """
    from quantcal.onnx import FileCheck, QuantizeOptions
    from quantcal.onnx import tune as tune_model
    from quantcal.report.pareto import check_picture, save_pareto

    options = QuantizeOptions(**flags.values())
    read_share(max_drop, "--max-drop")  # refuses what is none
    source = data.source(samples)
    files = FileCheck(model, [source, times])
    files.check(output)
    if plot is not None:
        files.check(plot)
        check_picture(plot)
    check_report(report, files, output, plot)
    result = tune_model(
        model,
        output,
        source,
        max_drop=max_drop,
        metric=metric_for(metric, source),
        times=times,
        time_limit=parse_seconds(time_limit, "--time-limit"),
        progress=not is_quiet(),
        options=options,
    )
    if json_:
        print(json.dumps(result.to_dict(), indent=1, ensure_ascii=False))
    else:
        show_text(stdout(), result.summary())
    # Last: when one of these cannot be written, the result of a long run is seen already.
    if plot is not None:
        save_pareto(result.plot(), plot)
    save_report(report, model=model, tune=result)
    if not json_:
        print_report(report)
    if not result.kept:
        raise typer.Exit(LIMIT_BROKEN)
