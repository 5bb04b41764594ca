"""Durations on the command line: 90, 90s, 10m or 1h."""

from __future__ import annotations

import re

import typer

_UNITS = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0}
_TEXT = re.compile(r"(\d+(?:\.\d+)?)([smh]?)")


def parse_seconds(text: str | None, flag: str) -> float | None:
    """Return the seconds of a text such as "10m"; None for None.

    Raises
    ------
    typer.BadParameter
        If it is no duration.
    """
    if text is None:
        return None
    found = _TEXT.fullmatch(text.strip())
    if found is None:
        raise typer.BadParameter(
            f"{text!r} is no duration. Give a number with s, m or h, such as 90s or 10m.",
            param_hint=f"'{flag}'",
        )
    return float(found[1]) * _UNITS[found[2]]
