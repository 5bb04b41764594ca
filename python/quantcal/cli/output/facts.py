"""A list of facts with their names, and warnings about tensors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from quantcal.cli.output import text
from quantcal.cli.output.console import say_warning, show
from quantcal.strategies.patterns import Pattern

if TYPE_CHECKING:
    from rich.console import Console

    from quantcal.table import CalibrationTable


def print_facts(out: Console, facts: Mapping[str, str]) -> None:
    """Print names and values in two columns; long values continue on the next line."""
    from rich.table import Table
    from rich.text import Text

    rows = Table.grid(padding=(0, 2))
    rows.add_column(no_wrap=True, style="bold")
    rows.add_column(overflow="fold")
    for name, value in facts.items():
        rows.add_row(name, Text(value))
    show(out, rows)


def warn_of_nonfinite(names: Sequence[str]) -> None:
    """Name the tensors that held NaN or infinities."""
    if names:
        verb = "holds" if len(names) == 1 else "hold"
        say_warning(
            f"{text.plural(len(names), 'tensor')} {verb} NaN or infinite values, which "
            f"are counted but left out of the ranges: {text.listed(list(names))}"
        )


def warn_of_unused_rules(table: CalibrationTable) -> None:
    """Name the unused rules of the policy, and say why they are unused."""
    late: list[str] = []
    idle: list[str] = []
    for pattern in table.unused_rules:
        matches = Pattern(pattern).matches
        (late if any(map(matches, table)) else idle).append(pattern)
    if idle:
        verb = "matches" if len(idle) == 1 else "match"
        say_warning(
            f"{text.plural(len(idle), 'rule')} {verb} no tensor: {_quoted(idle)}"
        )
    if late:
        verb = "is" if len(late) == 1 else "are"
        say_warning(
            f"{text.plural(len(late), 'rule')} {verb} unused, because earlier rules "
            f"match all the same tensors: {_quoted(late)}"
        )


def _quoted(patterns: list[str]) -> str:
    return text.listed([f"'{pattern}'" for pattern in patterns], 10)


def timing(seconds: float, samples: int) -> str:
    """Return the time and, when it is long enough, the samples per second."""
    long = samples > 0 and seconds > 0.05
    rate = f" ({samples / seconds:.3g} samples/s)" if long else ""
    return f"{seconds:.1f} s{rate}"


def warn_of_nothing(names: list[str]) -> None:
    """Name the tensors without a finite value, whose ranges have no meaning."""
    if names:
        have = "tensor has" if len(names) == 1 else "tensors have"
        say_warning(
            f"{len(names)} {have} no finite value, so the range has no meaning: "
            f"{text.listed(names)}"
        )
