"""A comparison as plain text, with aligned columns."""

from __future__ import annotations

from collections.abc import Sequence

from quantcal.comparison.comparison import Comparison
from quantcal.report import columns
from quantcal.report.columns import Column


def comparison(shown: Comparison) -> str:
    """Return the strategies of one tensor, or a summary of them over several."""
    lines = [shown.title]
    if not len(shown):
        return lines[0]
    if len(shown.tensors) == 1:
        lines += ["", *table(columns.of_scores(shown))]
        lines += [f"{row.strategy}: {row.error}" for row in shown if row.error]
    else:
        lines += ["", *table(columns.of_summary(shown.summary()))]
        lines += ["", f'comparison["{shown.tensors[0]}"] is one tensor of these.']
    return "\n".join(lines)


def table(parts: Sequence[Column]) -> list[str]:
    """Return the lines of a table: headings, then a line per row."""
    padded = [_padded(part) for part in parts]
    return ["  ".join(cells).rstrip() for cells in zip(*padded, strict=True)]


def _padded(column: Column) -> list[str]:
    cells = [column.heading, *column.cells]
    width = max(map(len, cells))
    return [cell.ljust(width) if column.left else cell.rjust(width) for cell in cells]
