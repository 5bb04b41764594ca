"""Durations and shares on the command line: 90s, 10m or 1h; 1% or 0.01."""

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


def read_share(text: str | None, flag: str) -> float | None:
    """Return the share of a text such as "5%" or "0.05"; None for None.

    Raises
    ------
    typer.BadParameter
        If it is no share. A bare 1 is refused: it would mean all, where 1 % is meant.
    """
    if text is None:
        return None
    try:
        bare = text.strip().removesuffix("%")
        found = float(bare) / (100 if text.strip().endswith("%") else 1)
    except ValueError:
        found = -1.0
    bounded = 0 <= found < 1 or (found == 1 and text.strip().endswith("%"))
    if not bounded:
        raise typer.BadParameter(
            f"{text!r} is no share. Give a percentage such as 1%, or a number below 1 such as "
            "0.01.",
            param_hint=f"'{flag}'",
        )
    return found
