"""A comparison or a stability check as an HTML table for notebooks."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from quantcal.comparison.comparison import Comparison
from quantcal.report import columns
from quantcal.report.columns import Column
from quantcal.stability import Stability


def comparison(shown: Comparison) -> str:
    """Return the strategies of one tensor, or a summary of them over several."""
    parts = [f"<caption>{escape(shown.title)}</caption>"]
    if len(shown.tensors) == 1:
        parts += table(columns.of_scores(shown))
        failed = [row for row in shown if row.error]
    else:
        parts += table(columns.of_summary(shown.summary()))
        failed = []
    notes = [f"<p>{escape(f'{row.strategy}: {row.error}')}</p>" for row in failed]
    return "\n".join(["<table>", *parts, "</table>", *notes])


def stability(shown: Stability) -> str:
    """Return the differences between two halves of the data, by tensor."""
    caption = f"<caption>two halves {escape(shown.summary())}</caption>"
    parts = table(columns.of_stability(shown))
    return "\n".join(["<table>", caption, *parts, "</table>"])


def table(parts: Sequence[Column]) -> list[str]:
    """Return the head and the body of a table."""
    lines = ["<thead>", _row("th", parts, [part.heading for part in parts]), "</thead>"]
    rows = zip(*(part.cells for part in parts), strict=True)
    return [
        *lines,
        "<tbody>",
        *(_row("td", parts, cells) for cells in rows),
        "</tbody>",
    ]


def _row(tag: str, parts: Sequence[Column], cells: Sequence[str]) -> str:
    written = (
        f'<{tag} style="text-align: {"left" if part.left else "right"}">'
        f"{escape(cell)}</{tag}>"
        for part, cell in zip(parts, cells, strict=True)
    )
    return f"<tr>{''.join(written)}</tr>"


def histogram(shown: object) -> str:
    return ""
