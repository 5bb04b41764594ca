"""Comments of files in which they start with `#`: Makefile, TOML, YAML."""

from __future__ import annotations

import re
from collections.abc import Iterator

from reading.markdown import read_markdown
from reading.sentences import Passage

_OWN_LINE = re.compile(r"\s*#+ (.*)")
_BEHIND = re.compile(r"\s#+ (.*)")


def read_settings(text: str, path: str) -> Iterator[Passage]:
    """Yield the comments. Those that fill consecutive lines are one text."""
    lines = text.split("\n")
    own = [_OWN_LINE.match(line) for line in lines]
    comments = "\n".join(match[1] if match else "" for match in own)
    yield from read_markdown(comments, path, 1, "comment")
    for number, line in enumerate(lines, 1):
        if not own[number - 1] and (behind := _BEHIND.search(line)):
            yield Passage(path, number, behind[1], "comment")
