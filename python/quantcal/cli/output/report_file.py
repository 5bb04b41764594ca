"""The HTML report that commands write beside their result."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from quantcal.cli.errors import check_outputs, refuse_same
from quantcal.cli.output.console import show_text, stdout

if TYPE_CHECKING:
    from quantcal.onnx import FileCheck


def check_report(
    report: Path | None, files: FileCheck | None = None, *others: Path | None
) -> None:
    """Refuse a report that cannot be written, before minutes are spent.

    Parameters
    ----------
    report
        The file; None if none is wanted.
    files
        What the run reads; None for nothing.
    others
        Other files that the run writes.

    Raises
    ------
    ImportError
        If jinja2, which makes it, is missing.
    CalibrationError
        If it is no regular file, its folder is missing, or the run reads it.
    typer.BadParameter
        If it is one of the others.
    """
    if report is None:
        return
    check_outputs([report])
    if files is not None:
        files.check(report)
    refuse_same([report, *(other for other in others if other is not None)])
    from quantcal.report.page.render import require

    require()


def save_report(report: Path | None, **sources: Any) -> None:
    """Write a report if one is wanted; `sources` are those of `quantcal.write_report`."""
    if report is not None:
        from quantcal.report.page.api import write_report

        write_report(report, **sources)


def print_report(report: Path | None) -> None:
    """Print where the report is, if one was written."""
    if report is not None:
        show_text(stdout(), f"report: {report}")
