"""The Markdown tables of the perplexity experiment, and their insertion into a page."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from .configurations import ALL, KINDS
from .measure import Perplexity


@dataclass(frozen=True)
class Row:
    """The results of one configuration, by text."""

    name: str
    column: str
    texts: Mapping[str, Perplexity]
    main: bool = True
    """Whether it is a strategy or mixed precision."""

    def __str__(self) -> str:
        cells = ", ".join(f"{name} {cell(p)}" for name, p in self.texts.items())
        return f"{self.name}, {KINDS.get(self.column, self.column)}: {cells}"


def cell(found: Perplexity) -> str:
    """Return a perplexity as a multiple of the float model's, or the float model's itself.

    Configurations are measured on different numbers of windows, whose perplexities are not
    comparable. The multiple compares the same tokens.
    """
    if found.low == found.high == 1:
        return f"{found.value:.2f}"
    if found.ratio > 2:
        return f"×{_short(found.ratio)} ({_short(found.low)} … {_short(found.high)})"
    return f"×{found.ratio:.3f} ({found.low:.2f} … {found.high:.2f})"


def _short(x: float) -> str:
    """Return a number in two significant digits."""
    return f"{float(f'{x:.2g}'):,g}" if x < 1e6 else f"{x:.0e}"


def as_tables(rows: Iterable[Row]) -> dict[str, str]:
    """Return all tables by name.

    Tables of strategies by kind of layer are named after the text. "perplexity" has strategies
    and mixed precision on all inputs, "others" all other configurations.
    """
    rows = list(rows)
    names = list(rows[0].texts)
    strategies = {row.name for row in rows if row.column != ALL}
    matrix = [row for row in rows if row.name in strategies]
    others = [row for row in rows if row.name not in strategies]
    tables = {name: _matrix(matrix, name) for name in names if matrix}
    return tables | {
        "perplexity": _perplexities(
            [r for r in rows if r.main and r.column == ALL], names
        ),
        "others": _others(others, names),
    }


def as_markdown(rows: Iterable[Row], facts: Mapping[str, Any]) -> str:
    """Return all tables and the facts about the run."""
    listed = "\n".join(f"* {name}: {value}" for name, value in facts.items())
    return "\n\n".join([*as_tables(rows).values(), listed]) + "\n"


def replaced(page: str, tables: Mapping[str, str]) -> str:
    """Return a page with new tables between `<!-- table NAME -->` and `<!-- end -->`.

    Raises
    ------
    KeyError
        If the page names an unknown table.
    """
    return re.sub(
        r"(<!-- table (\S+) -->\n).*?(?=<!-- end -->)",
        lambda found: f"{found[1]}\n{tables[found[2]]}\n\n",
        page,
        flags=re.DOTALL,
    )


def _matrix(rows: list[Row], text: str) -> str:
    found = {(row.name, row.column): cell(row.texts[text]) for row in rows}
    body = [
        [name, *(found.get((name, column), "") for column in (ALL, *KINDS))]
        for name in dict.fromkeys(row.name for row in rows)
    ]
    return _table([text, "all inputs", *KINDS.values()], body)


def _perplexities(rows: list[Row], names: list[str]) -> str:
    """Return perplexities: multiples of the float model's on all windows."""
    reference = {name: rows[0].texts[name].value for name in names}  # float comes first

    def shown(name: str, p: Perplexity) -> str:
        value, low, high = (x * reference[name] for x in (p.ratio, p.low, p.high))
        if p.low == p.high == 1:
            return f"{value:.2f}"
        number = _short if value > 1000 else "{:.2f}".format
        return f"{number(value)} ({number(low)} … {number(high)})"

    body = [
        [row.name, *(shown(name, row.texts[name]) for name in names)] for row in rows
    ]
    return _table(["all inputs", *names], body)


def _others(rows: list[Row], names: list[str]) -> str:
    body = [[row.name, *(cell(row.texts[name]) for name in names)] for row in rows]
    return _table(["", *names], body)


def _table(head: list[str], body: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *body]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
