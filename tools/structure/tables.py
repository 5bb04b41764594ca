"""Short tables in plain text."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

_WIDEST = 100  # letters of a cell


def format_table(
    title: str, header: Sequence[str], rows: Iterable[Sequence[object]]
) -> str:
    """Return a table. Numbers stand on the right of their columns."""
    cells = [[_show(value) for value in row] for row in rows]
    if not cells:
        return f"{title}: none\n"
    right = [all(map(_is_number, column)) for column in zip(*cells, strict=True)]
    lines = [list(header), *cells]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    shown = [
        "  ".join(
            cell.rjust(width) if to_right else cell.ljust(width)
            for cell, width, to_right in zip(line, widths, right, strict=True)
        ).rstrip()
        for line in lines
    ]
    return "\n".join([title, *(f"  {line}" for line in shown), ""])


def _show(value: object) -> str:
    text = f"{value:.1f}" if isinstance(value, float) else str(value)
    return text if len(text) <= _WIDEST else f"{text[:_WIDEST]} …"


def _is_number(text: str) -> bool:
    return text.replace(".", "", 1).replace("-", "", 1).isdigit()
