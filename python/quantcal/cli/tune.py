"""`quantcal tune`: the fastest model that keeps a promise about accuracy."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from quantcal.cli.advise import MetricOption, TimeOption
from quantcal.cli.durations import parse_seconds
from quantcal.cli.errors import refuse_same
from quantcal.cli.flags import Flags, takes_flags
from quantcal.cli.observe import OBSERVE_FLAGS
from quantcal.cli.options import (
    KEEP,
    JsonOption,
    ModelArgument,
    ReportOption,
    SamplesOption,
)
from quantcal.cli.output.console import show_text, stdout
from quantcal.cli.quantize import OutputOption
from quantcal.cli.report_file import print_report, require_report, save_report
from quantcal.onnx import FileCheck, QuantizeOptions
from quantcal.onnx import tune as tune_model
from quantcal.report.pareto import check_picture, save_pareto

_FLAGS = (
    *OBSERVE_FLAGS,
    "strategy",
    "weight_type",
    "weight_strategy",
    "block_size",
    "per_channel",
    "reduce_range",
    "cpu",
)
BROKEN = 3
"""The exit code when the model does not keep the promise."""


@takes_flags(*_FLAGS)
def tune(
    model: ModelArgument,
    *,
    output: OutputOption,
    samples: SamplesOption,
    max_drop: Annotated[
        str,
        typer.Option(
            "--max-drop",
            metavar="SHARE",
            help="The promise: the largest loss of the outputs, or with --metric the share "
            "of the float model's mean that may be lost.",
        ),
    ] = "1%",
    metric: MetricOption = None,
    time: TimeOption = None,
    times: Annotated[
        Path | None,
        typer.Option(
            "--times",
            metavar="FILE",
            show_default="measured here",
            help="Times of nodes that `quantcal times` measured on the machine that deploys.",
        ),
    ] = None,
    picture: Annotated[
        Path | None,
        typer.Option(
            "--picture",
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
          --time 10m --picture tried.png
    """
    options = QuantizeOptions(**flags.values())
    files = FileCheck(model, [samples, times])
    weights = files.check_model(output)
    made = [path for path in (picture, report) if path is not None]
    for path in made:
        files.check(path)
    refuse_same([output, weights, *made])
    if picture is not None:
        check_picture(picture)
    require_report(report)
    result = tune_model(
        model,
        output,
        samples,
        max_drop=max_drop,
        metric=metric,
        times=times,
        time_limit=parse_seconds(time, "--time"),
        options=options,
    )
    if picture is not None:
        save_pareto(result.plot(), picture)
    save_report(report, model=model, tune=result)
    if json_:
        print(json.dumps(result.to_dict(), indent=1, ensure_ascii=False))
    else:
        show_text(stdout(), result.summary())
        print_report(report)
    if not result.kept:
        raise typer.Exit(BROKEN)
