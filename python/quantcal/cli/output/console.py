"""Where output goes and how wide it is: results to stdout, all else to stderr.

A terminal gets tables that fit it. A file or a pipe gets whole lines without colors, so
that another program can read all of them.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console, RenderableType
from rich.text import Text

_UNLIMITED = 10_000
"""Columns. All lines are shorter, and rich pads nothing to this width."""


def stdout() -> Console:
    """Return the console for results."""
    return _console(stderr=False)


def stderr() -> Console:
    """Return the console for errors, warnings and progress."""
    return _console(stderr=True)


def _console(*, stderr: bool) -> Console:
    console = Console(stderr=stderr, highlight=False, markup=False, emoji=False)
    if not console.file.isatty():  # whatever FORCE_COLOR says
        console.width = _UNLIMITED
    return console


def show(out: Console, renderable: RenderableType) -> None:
    """Print a table; a pipe gets no spaces that fill the last column."""
    if out.file.isatty():
        out.print(renderable)
        return
    with out.capture() as captured:
        out.print(renderable)
    lines = captured.get().splitlines()
    out.file.write("".join(f"{line.rstrip()}\n" for line in lines))


def show_text(out: Console, lines: str) -> None:
    """Print plain text; a pipe gets whole lines."""
    out.print(Text(lines), soft_wrap=not out.file.isatty())


def say_error(message: str) -> None:
    """Print an error in red, as one line where its width is not limited."""
    _say(f"error: {message}", "red")


def say_line(line: str, remark: str) -> None:
    """Print a command that can be copied, and a remark about it."""
    out = stderr()
    out.print(Text(f"  {line}", style="bold"), soft_wrap=True)
    if remark:
        _say(remark, "red")


def say_failure(message: str) -> None:
    """Print in red which promise does not hold."""
    _say(f"failed: {message}", "red")


def say_warning(message: str) -> None:
    """Print a warning in yellow."""
    _say(f"warning: {message}", "yellow")


@contextmanager
def saying_warnings() -> Iterator[None]:
    """Print the library's warnings as the command's, without the place in the source."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        yield
    for each in caught:
        say_warning(str(each.message))


@contextmanager
def saying_warnings_at_once() -> Iterator[None]:
    """Print each warning of the library when it comes, as the command's; each text once."""
    plain = warnings.showwarning

    def show_warning(message: Any, category: Any, *place: Any, **more: Any) -> None:
        if issubclass(category, UserWarning):
            say_warning(str(message))
        else:
            plain(message, category, *place, **more)

    with warnings.catch_warnings():
        warnings.simplefilter("default", UserWarning)
        warnings.showwarning = show_warning
        yield


def _say(message: str, style: str) -> None:
    out = stderr()
    out.print(Text(message, style=style), soft_wrap=not out.file.isatty())
