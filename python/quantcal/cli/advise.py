"""`quantcal advise`: which nodes lose accuracy, why, and what helps."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from quantcal.cli.data_flags import DataFlags, metric_for, reads_data
from quantcal.cli.flags import Flags, takes_flags
from quantcal.cli.observe import OBSERVE_FLAGS
from quantcal.cli.options import (
    JsonOption,
    MetricOption,
    ModelArgument,
    ReportOption,
    SamplesOption,
    TimeLimitOption,
    TimesOption,
)
from quantcal.cli.output.console import show_text, stdout
from quantcal.cli.output.report_file import check_report, print_report, save_report
from quantcal.cli.parsing.common import is_quiet
from quantcal.cli.parsing.quantities import parse_seconds

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
def advise(
    model: ModelArgument,
    *,
    samples: SamplesOption,
    data: DataFlags,
    keep_float: Annotated[
        int | None,
        typer.Option(
            "--keep-float",
            metavar="N",
            min=0,
            show_default="5 % of the nodes, at least 1",
            help="Leave at most N nodes in float.",
        ),
    ] = None,
    budget: Annotated[
        str | None,
        typer.Option(
            "--budget",
            metavar="SHARE",
            show_default="none",
            help="Leave at most this share in float, such as 5%.",
        ),
    ] = None,
    budget_of: Annotated[
        str,
        typer.Option(
            "--budget-of",
            metavar="WHAT",
            help="What --budget is a share of: 'nodes', 'weights' (their elements) or "
            "'multiply-adds'.",
        ),
    ] = "nodes",
    metric: MetricOption = None,
    time_limit: TimeLimitOption = None,
    times: TimesOption = None,
    no_times: Annotated[
        bool,
        typer.Option(
            "--no-times",
            help="Measure no times. They are not measured either for another target or "
            "--cpu than this machine.",
        ),
    ] = False,
    no_remedies: Annotated[
        bool,
        typer.Option(
            "--no-remedies",
            help="Only find the nodes. Trying corrections of the whole model takes about as "
            "long as quantizing it several times.",
        ),
    ] = False,
    flags: Flags,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="PATH",
            show_default="none",
            help="Write the options with the advised nodes as exclude (.toml), for "
            "`quantcal quantize --config FILE`.",
        ),
    ] = None,
    report: ReportOption = None,
    json_: JsonOption = False,
) -> None:
    """Find the nodes whose quantization costs most, say why, and what helps.

    Quantizes nodes alone, all else in float, and leaves the guilty ones in float
    step by step. Half of the samples propose a step, the other half confirm it.
    Then tries corrections of the whole model.

    Examples:
      $ quantcal advise model.onnx --samples calibration/
      $ quantcal advise model.onnx --samples calibration/ --keep-float 2 \\
          -o keep.toml
      $ quantcal quantize model.onnx -o model.int8.onnx --samples calibration/ \\
          --config keep.toml
    """
    from quantcal.onnx import FileCheck, QuantizeOptions
    from quantcal.onnx import advise as advise_model

    options = QuantizeOptions(**flags.values())
    if times is not None and no_times:
        raise typer.BadParameter("Give --times or --no-times, not both.")
    source = data.source(samples)
    files = FileCheck(model, [source, times])
    if output is not None:
        files.check(output)
    check_report(report, files, output)
    here = options.target == "onnxruntime" and options.cpu == "auto"
    advice = advise_model(
        model,
        source,
        keep_float=keep_float,
        budget=budget,
        budget_of=budget_of,
        metric=metric_for(metric, source),
        times=times or ("measure" if here and not no_times else None),
        remedies=not no_remedies,
        time_limit=parse_seconds(time_limit, "--time-limit"),
        progress=not is_quiet(),
        options=options,
    )
    if output is not None:
        from quantcal.onnx.options import save_options

        save_options(output, options, advice.exclude)
    if json_:
        print(json.dumps(advice.to_dict(), indent=1, ensure_ascii=False))
    else:
        show_text(stdout(), advice.summary())
        if output is not None:
            show_text(stdout(), f"written: {output}")
    # Last: when the report cannot be written, the result of a long run is seen already.
    save_report(report, model=model, advice=advice)
    if not json_:
        print_report(report)
