"""An extension of griffe: examples in the text of a docstring are shown as code."""

from __future__ import annotations

import re
from typing import Any

import griffe

_BLOCK = re.compile(r"^>>> .*(?:\n(?!\s*$).*)*", re.MULTILINE)


class Doctests(griffe.Extension):
    """Puts a fence around each example that has no section."""

    def on_instance(self, *, obj: griffe.Object, **_: Any) -> None:
        """Change the docstring of an object that was read."""
        if obj.docstring and "Examples\n--------" not in obj.docstring.value:
            obj.docstring.value = _BLOCK.sub(
                r"```pycon\n\g<0>\n```", obj.docstring.value
            )
