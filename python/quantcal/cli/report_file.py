"""The HTML report that commands write beside their result."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from quantcal.cli.output.console import show_text, stdout


def require_report(report: Path | None) -> None:
    """Refuse a report without the package that makes it, before minutes are spent.

    Raises
    ------
    ImportError
        If jinja2 is missing.
    """
    if report is not None:
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
