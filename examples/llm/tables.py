"""The tables of the perplexity experiment, in Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from .configurations import ALL, KINDS
from .measure import Perplexity


@dataclass(frozen=True)
class Row:
    """What was measured of one configuration, by text."""

    name: str
    column: str
    texts: Mapping[str, Perplexity]

    def __str__(self) -> str:
        told = ", ".join(f"{name} {cell(p)}" for name, p in self.texts.items())
        return f"{self.name}, {KINDS.get(self.column, self.column)}: {told}"


def cell(found: Perplexity) -> str:
    """Return how many times the float model's a perplexity is; the float model's itself.

    Configurations are measured on different numbers of windows, and perplexities of
    different windows cannot be compared; what they are multiples of is on the same tokens.
    """
    if found.low == found.high == 1:
        return f"{found.value:.2f}"
    if found.ratio > 2:
        return f"×{float(f'{found.ratio:.2g}'):,g}"
    return f"×{found.ratio:.3f} ({found.low:.2f} … {found.high:.2f})"


def as_markdown(rows: Iterable[Row], facts: Mapping[str, Any]) -> str:
    """Return a table of methods and kinds of layers for each text, then all other rows."""
    rows = list(rows)
    names = list(rows[0].texts)
    methods = {row.name for row in rows if row.column != ALL}
    matrix = [row for row in rows if row.name in methods]
    others = [row for row in rows if row.name not in methods]
    parts = [_matrix(matrix, name) for name in names if matrix]
    parts.append(_others(others, names))
    parts.append("\n".join(f"* {name}: {value}" for name, value in facts.items()))
    return "\n\n".join(parts) + "\n"


def _matrix(rows: list[Row], text: str) -> str:
    found = {(row.name, row.column): cell(row.texts[text]) for row in rows}
    body = [
        [name, *(found.get((name, column), "") for column in (ALL, *KINDS))]
        for name in dict.fromkeys(row.name for row in rows)
    ]
    return _table([text, "all inputs", *KINDS.values()], body)


def _others(rows: list[Row], names: list[str]) -> str:
    body = [[row.name, *(cell(row.texts[name]) for name in names)] for row in rows]
    return _table(["", *names], body)


def _table(head: list[str], body: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *body]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
