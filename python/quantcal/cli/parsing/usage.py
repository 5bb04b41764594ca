"""Errors of wrong usage, in words that help: typer makes them, this changes their text."""

from __future__ import annotations

import difflib
import re
from typing import Any

import typer

from quantcal.cli.parsing.names import COMMANDS

# typer>=0.12 takes it from click, newer versions have their own.
UsageError: Any = typer.BadParameter.__mro__[1]
"""The class of all errors of wrong usage."""

_RENAMED = {
    "--format": "--activation-type",
    "--picture": "--plot",
    "--time": "--time-limit",
}
"""Names that other tools use, or that earlier versions had."""

_PREFIX = "Value error, "  # of pydantic, which newer versions of typer use
_CHOICE = re.compile(r"'(?P<given>[^']*)' is not one of (?P<known>'.*')\.?$", re.DOTALL)


def reword(error: Any) -> None:
    """Change the message of an error of wrong usage where another one helps more."""
    error.message = error.message.replace(_PREFIX, "")
    asked = getattr(error, "option_name", None)
    if asked is not None:
        _name_option(error, asked)
    choice = _CHOICE.search(error.message)
    if choice is not None:
        known = re.findall(r"'([^']*)'", choice["known"])
        error.message = (
            f"{error.message.rstrip('.')}.{did_you_mean(choice['given'], known)}"
        )


def suggest_command(error: Any, given: str) -> None:
    """Name the commands that are like an unknown one."""
    if "No such command" in error.message:
        near = did_you_mean(given, COMMANDS) or " `quantcal --help` lists all."
        error.message = f"{error.message.rstrip('.')}.{near}"


def did_you_mean(given: str, known: Any) -> str:
    """Return a question with the near names, which begins with a space; empty without any."""
    lowered = {name.lower(): name for name in known}
    near = difflib.get_close_matches(given.lower(), lowered, n=2, cutoff=0.5)
    names = " or ".join(f"'{lowered[name]}'" for name in near)
    return f" Did you mean {names}?" if near else ""


def _name_option(error: Any, asked: str) -> None:
    """Name the option of this command that an unknown one stands for, or is like."""
    known = _options(error)
    other = _RENAMED.get(asked)
    if other is not None and other in known:
        error.message = f"No such option: {asked}. It is {other} here."
    else:
        error.message = f"No such option: {asked}.{did_you_mean(asked, known)}"
    error.possibilities = []


def _options(error: Any) -> list[str]:
    """Return the options of the command that the error is about."""
    context = getattr(error, "ctx", None)
    parameters = context.command.params if context is not None else ()
    return [text for p in parameters for text in (*p.opts, *p.secondary_opts)]
