"""Patterns of rules: a name, a glob, a regular expression, or a kind of layer."""

from __future__ import annotations

import difflib
import fnmatch
import re
from collections.abc import Callable

from quantcal._core import CalibrationError
from quantcal.strategies.layers import KINDS, layer_kind

NODE = "node:"
"""Begins a pattern of nodes. Only rules for a model have them, as they need its graph."""

_GLOB = frozenset("*?[")
_REGEX = "re:"
_LAYER = "layer:"


class Pattern:
    """A checked pattern of tensor names.

    Parameters
    ----------
    text
        A name, or a glob with `*`, `?`, `[…]`, which must match the whole name. `re:` and a
        regular expression (Python's `re`) may match any part of it. `layer:` and a kind of
        transformer layer match the layer's name. Case counts, except in `layer:`.

    Raises
    ------
    TypeError
        If `text` is not a str.
    CalibrationError
        If it is empty, the regular expression is invalid, or the kind of layer not known.
    """

    __slots__ = ("_test", "text")

    def __init__(self, text: str) -> None:
        if not isinstance(text, str):
            msg = f"a pattern must be a str, not {type(text).__name__}"
            raise TypeError(msg)
        if not text:
            msg = 'the pattern is empty; "*" matches every tensor'
            raise CalibrationError(msg)
        self.text = text
        self._test = _read(text)

    @property
    def plain(self) -> bool:
        """Whether it is a plain name."""
        return self._test is None

    @property
    def bracketed(self) -> bool:
        """Whether it has brackets but no other sign of a glob; names may have brackets."""
        special = self.text.startswith((_REGEX, _LAYER)) or {"*", "?"} & set(self.text)
        return not special and "[" in self.text

    def matches(self, name: str) -> bool:
        """Whether it is the name itself, or matches it."""
        return name == self.text or (self._test is not None and self._test(name))


def _read(text: str) -> Callable[[str], bool] | None:
    """Return the test for a pattern; None for a plain name."""
    if text.startswith(_REGEX):
        search = _compile(text.removeprefix(_REGEX)).search
        return lambda name: search(name) is not None
    if text.startswith(_LAYER):
        kind = _kind(text.removeprefix(_LAYER))
        return lambda name: layer_kind(name) == kind
    if _GLOB.intersection(text):
        match = _compile(fnmatch.translate(text)).match
        return lambda name: match(name) is not None
    return None


def _compile(expression: str) -> re.Pattern[str]:
    try:
        return re.compile(expression)
    except re.error as error:
        at = "" if error.pos is None else f", at position {error.pos}"
        msg = f"{expression!r} is not a valid regular expression: {error.msg}{at}"
        raise CalibrationError(msg) from error
    except (OverflowError, RecursionError) as error:
        msg = f"{expression[:50]!r}… is not a usable regular expression: {error}"
        raise CalibrationError(msg) from error


def _kind(text: str) -> str:
    if text in KINDS:
        return text
    close = difflib.get_close_matches(text, KINDS, n=1)
    hint = f' Did you mean "{close[0]}"?' if close else ""
    msg = f'layer "{text}" is not known.{hint} Known: {", ".join(KINDS)}.'
    raise CalibrationError(msg)
