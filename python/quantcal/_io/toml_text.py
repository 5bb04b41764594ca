"""TOML from outside, which may hold anything.

Parsers take much more memory for some texts than the text has: a dotted key of n parts takes
n² of it, each of its tables a thousand bytes, and each bracket a step of recursion. None of
our files has need of them.
"""

from __future__ import annotations

import re
import sys
from typing import Any

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

DEEPEST = 16
"""Parts of a dotted key, and brackets inside each other; our own files have three."""

MOST_DOTS = 50_000
"""Dots outside of text: those of numbers, and of dotted keys, each of which makes a table."""

# What can hold brackets and dots that mean nothing, in the order in which a parser sees it.
# A part that does not end reaches to the end, so that each is looked at once.
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
    """Return what a text holds.

    Raises
    ------
    ValueError
        If it is no TOML, is nested too deeply, or has a key of too many parts.
    """
    _check_depth(text)
    try:
        content: dict[str, Any] = tomllib.loads(text)
    except RecursionError:  # where much of the stack is taken already
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
        if depth > DEEPEST or dots >= DEEPEST:
            line = text.count("\n", 0, found.start()) + 1
            what = "is nested" if depth > DEEPEST else "has a key of parts"
            raise ValueError(f"line {line} {what} more than {DEEPEST} deep")
    if total > MOST_DOTS:
        raise ValueError(
            f"it has {total:,} dots in keys and numbers; at most {MOST_DOTS:,} are read"
        )
