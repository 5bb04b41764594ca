"""`quantcal advise`: which nodes lose accuracy, why, and what helps."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from quantcal.cli.flags import Flags, takes_flags
from quantcal.cli.observe import OBSERVE_FLAGS
from quantcal.cli.options import (
    JsonOption,
    MetricOption,
    ModelArgument,
    SamplesOption,
    TimeLimitOption,
    TimesOption,
)
from quantcal.cli.output.console import show_text, stdout
from quantcal.cli.parsing.common import is_quiet
from quantcal.cli.quantities import parse_seconds

_FLAGS = (
    *OBSERVE_FLAGS,
    "strategy",
    "weight_type",
    "weight_strategy",
    "block_size",
    "per_channel",
)


@takes_flags(*_FLAGS)
def advise(
    model: ModelArgument,
    *,
    samples: SamplesOption,
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
    json_: JsonOption = False,
) -> None:
    """Find the nodes whose quantization costs most, say why, and what helps.

    Quantizes nodes alone, all else in float, and leaves the guilty ones in float
    step by step. Half of the samples propose a step, the other half confirm it.

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
    if output is not None:
        FileCheck(model, [samples]).check(output)
    advice = advise_model(
        model,
        samples,
        keep_float=keep_float,
        budget=budget,
        budget_of=budget_of,
        metric=metric,
        times=times,
        time_limit=parse_seconds(time_limit, "--time-limit"),
        progress=not is_quiet(),
        options=options,
    )
    if output is not None:
        from quantcal.onnx.options import save_options

        save_options(output, options, advice.exclude)
    if json_:
        print(json.dumps(advice.to_dict(), indent=1, ensure_ascii=False))
        return
    show_text(stdout(), advice.summary())
    if output is not None:
        show_text(stdout(), f"written: {output}")
