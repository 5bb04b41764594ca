"""Names of strategies with options in brackets, "mse(p=3)": what tables show is read again."""

from __future__ import annotations

import dataclasses
import re
import typing
from collections.abc import Callable
from typing import Any, NamedTuple

_CALL = re.compile(r"\s*([\w.]+)\s*\((.*)\)\s*", re.DOTALL)
_OPTION = re.compile(r"\s*(\w+)\s*=(.*)", re.DOTALL)
_WHOLE = re.compile(r"[+-]?\d{1,40}")
_REAL = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", re.IGNORECASE)
_WORDS: dict[str, Any] = {"true": True, "false": False, "none": None}

_MAX_DEPTH = 16
"""Brackets inside one another; no strategy that tables show needs more than a few."""


class Call(NamedTuple):
    """A name, and the texts of its options with their keys (None without one)."""

    name: str
    options: list[tuple[str | None, str]]


def split(text: str) -> Call | None:
    """Return the parts of "name(option, key=value)"; None if the text has another form."""
    found = _CALL.fullmatch(text)
    if found is None:
        return None
    pieces = _pieces(found[2])
    if pieces is None:
        return None
    options: list[tuple[str | None, str]] = []
    for piece in pieces:
        keyed = _OPTION.fullmatch(piece)
        # An "=" inside brackets belongs to a strategy in there.
        options.append((keyed[1], keyed[2].strip()) if keyed else (None, piece.strip()))
    return Call(found[1], options)


def bind(
    factory: Callable[..., Any], options: list[tuple[str | None, str]]
) -> dict[str, Any] | None:
    """Return the options of a strategy by key; None if there are too many, or one is twice.

    An option without a key is a switch ("newton"), one of the words that an option allows
    ("gauss"), or else the next option in order.
    """
    fields = dataclasses.fields(factory) if dataclasses.is_dataclass(factory) else ()
    words = _words(factory) if fields else {}
    bound: dict[str, Any] = {}
    for given, text in options:
        key, value = given, read_value(text)
        if key is None and text in words:
            key, value = words[text]
        if key is None:
            key = next((f.name for f in fields if f.name not in bound), None)
        if key is None or key in bound:
            return None
        bound[key] = value
    return bound


def read_value(text: str) -> Any:
    """Return a number, True, False or None; everything else stays text."""
    if _WHOLE.fullmatch(text):
        return int(text)
    if _REAL.fullmatch(text):
        return float(text)
    return _WORDS.get(text.lower(), text)


def _words(factory: Any) -> dict[str, tuple[str, Any]]:
    """Return the words that stand for an option and its value."""
    found: dict[str, tuple[str, Any]] = {}
    for name, hint in typing.get_type_hints(factory).items():
        if hint is bool:
            found.setdefault(name, (name, True))
        for part in (hint, *typing.get_args(hint)):
            if typing.get_origin(part) is typing.Literal:
                for word in typing.get_args(part):
                    found.setdefault(word, (name, word))
    return found


def _pieces(text: str) -> list[str] | None:
    """Split at the commas outside brackets; None if the brackets do not match."""
    pieces, depth, start = [], 0, 0
    for place, letter in enumerate(text):
        depth += (letter == "(") - (letter == ")")
        if not 0 <= depth < _MAX_DEPTH:
            return None
        if letter == "," and depth == 0:
            pieces.append(text[start:place])
            start = place + 1
    if depth:
        return None
    pieces.append(text[start:])
    return [] if pieces == [""] else pieces
