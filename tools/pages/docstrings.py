"""An extension of griffe: forms of docstrings that its parser does not know."""

from __future__ import annotations

import re
from typing import Any

import griffe

_EXAMPLE = re.compile(r"^>>> .*(?:\n(?!\s*$).*)*", re.MULTILINE)
# Several names with one description.
_NAMES = re.compile(r"^(\w+(?:, \*{0,2}\w+)+)\n((?:    .*\n?)+)", re.MULTILINE)


class Docstrings(griffe.Extension):
    """Puts a fence around examples outside a section; gives each name its own entry."""

    def on_instance(self, *, obj: griffe.Object, **_: Any) -> None:
        """Change the docstring of an object that was read."""
        if obj.docstring is None:
            return
        text = obj.docstring.value
        if "Examples\n--------" not in text:
            text = _EXAMPLE.sub(r"```pycon\n\g<0>\n```", text)
        obj.docstring.value = _NAMES.sub(_entries, text)


def _entries(found: re.Match[str]) -> str:
    text = found[2].rstrip("\n")
    return "".join(f"{name}\n{text}\n" for name in found[1].split(", "))
