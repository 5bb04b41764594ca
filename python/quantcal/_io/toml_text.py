"""TOML from files, which may hold anything.

For some texts, parsers take much more memory than the text has. A dotted key of n parts takes
n² of it, each of its tables a thousand bytes, and each bracket a step of recursion. Our files
need none of these.
"""

from __future__ import annotations

import re
import sys
from typing import Any

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

MAX_DEPTH = 16
"""Parts of a dotted key, and nested brackets; our files have three."""

MAX_DOTS = 50_000
"""Dots outside of text: those of numbers, and of dotted keys, each of which makes a table."""

# Comments and texts may hold brackets and dots without meaning, so they are tokens too.
# A text without an end reaches to the end of the file, so that each is scanned once.
_TOKEN = re.compile(
    r'''
      (?P<comment> \#[^\n]* )
    | (?P<text> """ (?:\\.|[^\\])*? (?:"""|\Z) | \'\'\' .*? (?:\'\'\'|\Z)
              | "(?:\\.|[^"\\\n])*"? | '[^'\n]*'? )
    | (?P<open> [\[{] )
    | (?P<close> [\]}] )
    | (?P<dot> \. )
    | (?P<end> [\n=,] )
    ''',
    re.VERBOSE | re.DOTALL,
)


def parse_toml(text: str) -> dict[str, Any]:
    """Return the content of a TOML text.

    Raises
    ------
    ValueError
        If it is not TOML, is nested too deeply, or has a key of too many parts.
    """
    _check_depth(text)
    try:
        content: dict[str, Any] = tomllib.loads(text)
    except RecursionError:  # if much of the stack is in use
        raise ValueError("it is nested too deeply") from None
    return content


def _check_depth(text: str) -> None:
    depth = dots = total = 0
    for found in _TOKEN.finditer(text):
        kind = found.lastgroup
        if kind == "open":
            depth += 1
        elif kind == "close":
            depth = max(0, depth - 1)
        elif kind == "dot":
            dots += 1
            total += 1
        elif kind == "end":
            dots = 0
        if depth > MAX_DEPTH or dots >= MAX_DEPTH:
            line = text.count("\n", 0, found.start()) + 1
            what = "is nested" if depth > MAX_DEPTH else "has a key of parts"
            raise ValueError(f"line {line} {what} more than {MAX_DEPTH} deep")
    if total > MAX_DOTS:
        raise ValueError(
            f"it has {total:,} dots in keys and numbers; the maximum is {MAX_DOTS:,}"
        )
