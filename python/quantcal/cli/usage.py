"""Errors of wrong usage, in words that help: typer makes them, this changes their text."""

from __future__ import annotations

from typing import Any

import typer

# typer>=0.12 takes it from click, newer versions have their own.
UsageError: Any = typer.BadParameter.__mro__[1]
"""The class of all errors of wrong usage."""

_SAME = {
    "--activation-type": "--format",
    "--format": "--activation-type",
}
_PREFIX = "Value error, "  # of pydantic, which newer versions of typer use


def reword(error: Any) -> None:
    """Change the message of an error of wrong usage where another one helps more."""
    error.message = error.message.replace(_PREFIX, "")
    asked = getattr(error, "option_name", None)
    other = _SAME.get(asked or "")
    if other is not None and other in _options(error):
        error.message = (
            f"{error.message.rstrip('.')}. This command takes the format by {other}."
        )
        error.possibilities = []


def _options(error: Any) -> set[str]:
    """Return the options of the command that the error is about."""
    context = getattr(error, "ctx", None)
    parameters = context.command.params if context is not None else ()
    return {text for parameter in parameters for text in parameter.opts}
