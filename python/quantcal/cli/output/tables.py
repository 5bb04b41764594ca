"""Tables of tensors that fit where they are shown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from quantcal.cli.output.text import shorten

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text


_GAP = 2
"""Spaces between columns."""

_NAME = 28
"""Characters of a longer name that stay: enough of both ends."""

_LEAST = 8
"""Characters of a name on the narrowest terminal."""


@dataclass(frozen=True)
class Column:
    """A column beside the names.

    Parameters
    ----------
    heading
        Its title.
    cells
        One per tensor.
    left
        Whether it is text, which starts on the left; numbers end on the right.
    rank
        Columns with the highest rank are left out first when the table is too wide. Those
        with 0 always stay.
    """

    heading: str
    cells: Sequence[str | Text]
    left: bool = False
    rank: int = 0

    @property
    def width(self) -> int:
        """Characters that the widest cell takes."""
        from rich.cells import cell_len

        cells = (cell_len(str(cell)) for cell in self.cells)
        return max([cell_len(self.heading), *cells])


def tensor_table(
    names: Sequence[str],
    columns: Sequence[Column],
    out: Console,
    *,
    heading: str = "tensor",
) -> Table:
    """Return a table of tensors, or of what `heading` says, that fits a console.

    A narrow terminal gets fewer columns, by rank, and then shorter names. A pipe gets
    everything.
    """
    from rich import box
    from rich.table import Table
    from rich.text import Text

    kept, room = _fitting(names, columns, out.width)
    table = Table(
        box=box.SIMPLE_HEAD,
        show_edge=False,
        pad_edge=False,
        padding=(0, _GAP - 1, 0, 0),
        header_style="bold",
    )
    table.add_column(heading, no_wrap=True)
    for column in kept:
        justify: Literal["left", "right"] = "left" if column.left else "right"
        table.add_column(column.heading, justify=justify, no_wrap=True)
    for row, name in enumerate(shorten(names, room)):
        # Text, as brackets in a name are no markup.
        table.add_row(Text(name), *(column.cells[row] for column in kept))
    return table


def _fitting(
    names: Sequence[str], columns: Sequence[Column], width: int
) -> tuple[list[Column], int]:
    """Return the columns to show, and the characters that they leave to names."""
    longest = max(map(len, names), default=0)
    wanted = min(max(longest, len("tensor")), _NAME)
    kept = list(columns)
    while (room := width - sum(column.width + _GAP for column in kept)) < wanted:
        out = max(kept, key=lambda column: column.rank)
        if out.rank == 0:
            break
        kept.remove(out)
    return kept, max(room, _LEAST)
