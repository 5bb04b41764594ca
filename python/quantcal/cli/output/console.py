"""Where output goes and how wide it is: results to stdout, all else to stderr.

A terminal gets tables that fit it. A file or a pipe gets whole lines without colors, so
that another program can read all of them.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from quantcal.cli.parsing.common import is_quiet

if TYPE_CHECKING:
    from rich.console import Console, RenderableType


_UNLIMITED = 10_000
"""Columns. All lines are shorter, and rich pads nothing to this width."""


def stdout() -> Console:
    """Return the console for results."""
    return _console(stderr=False, quiet=is_quiet())


def _console(*, stderr: bool, quiet: bool) -> Console:
    from rich.console import Console

    console = Console(
        stderr=stderr, highlight=False, markup=False, emoji=False, quiet=quiet
    )
    if not console.file.isatty():  # whatever FORCE_COLOR says
        console.width = _UNLIMITED
    return console


def show(out: Console, renderable: RenderableType) -> None:
    """Print a table; a pipe gets no spaces that fill the last column."""
    if is_quiet():
        return
    if out.file.isatty():
        out.print(renderable)
        return
    with out.capture() as captured:
        out.print(renderable)
    lines = captured.get().splitlines()
    out.file.write("".join(f"{line.rstrip()}\n" for line in lines))


def show_text(out: Console, lines: str) -> None:
    """Print plain text; a pipe gets whole lines."""
    from rich.text import Text

    out.print(Text(lines), soft_wrap=not out.file.isatty())


def say_failure(message: str) -> None:
    """Print in red which promise does not hold."""
    say(f"failed: {message}", "red")


def say_warning(message: str) -> None:
    """Print a warning in yellow."""
    if not is_quiet():
        say(f"warning: {message}", "yellow")


@contextmanager
def saying_warnings() -> Iterator[None]:
    """Print the library's warnings as the command's, without the place in the source."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        yield
    for each in caught:
        say_warning(str(each.message))


def say(message: str, style: str) -> None:
    """Print a message to stderr, as one line where its width is not limited."""
    from rich.text import Text

    out = _console(stderr=True, quiet=False)
    out.print(Text(message, style=style), soft_wrap=not out.file.isatty())
