"""The command that a user meant: what was typed, with the flags that read the data."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from quantcal.data.faults import Suggestion


_SAMPLES = ("--samples", "--data", "-i")


def correct_line(arguments: Sequence[str], suggestion: Suggestion) -> str:
    """Return a line for a shell.

    Parameters
    ----------
    arguments
        What was typed behind `quantcal`.
    suggestion
        The path and the flags of the data.
    """
    found: list[str] = []
    for argument in arguments:
        name, equals, given = argument.partition("=")
        if found and found[-1] in _SAMPLES:
            found.append(_path(argument, suggestion))
        elif name in _SAMPLES and equals:
            found.append(f"{name}={_path(given, suggestion)}")
        else:
            found.append(argument)
    return shlex.join(["quantcal", *found, *suggestion.flags()])


def _path(given: str, suggestion: Suggestion) -> str:
    """Return the suggested path, in the user's own spelling where it is the same."""
    return given if Path(given) == Path(suggestion.path) else suggestion.path
