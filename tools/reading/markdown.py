"""Passages of Markdown: paragraphs, items, headings and cells, without code."""

from __future__ import annotations

import re
from collections.abc import Iterator

from reading.sentences import Passage

ITEM = re.compile(r"(\s*)(?:[-*+]|\d{1,3}[.)])\s+")
_FENCE = re.compile(r"\s*(`{3,}|~{3,})")
_CELL_BORDER = re.compile(r"(?<!\\)\|")
_REFERENCE = re.compile(r"\s*\[[^\]]+\]:\s")
_CODE_INDENT = 4


def read_markdown(
    text: str, path: str, line: int = 1, origin: str = "document"
) -> Iterator[Passage]:
    """Yield the passages of a Markdown text that starts on `line` of a file."""
    reader = _Reader(path, origin)
    for number, content in enumerate(text.split("\n"), line):
        yield from reader.read(number, content)
    yield from reader.flush()


class _Reader:
    """The state between lines: the open paragraph, fence, comment and list."""

    def __init__(self, path: str, origin: str) -> None:
        self.path = path
        self.origin = origin
        self.paragraph: list[str] = []
        self.first = 0
        self.fence = ""
        self.in_comment = False
        self.indent = 0  # of the text of the list item that is open

    def read(self, number: int, line: str) -> Iterator[Passage]:
        """Take one line; yield the passages that it ends."""
        stripped = line.strip()
        if self._skip(stripped):
            return
        if fence := _FENCE.match(line):
            self.fence = fence[1]
            yield from self.flush()
        elif not stripped or not stripped.strip("-=*_ "):
            yield from self.flush()
        elif stripped.startswith("<!--") and "-->" not in stripped:
            self.in_comment = True
        elif not self.paragraph and self._is_code(line):
            pass
        elif stripped.startswith("#") and stripped.lstrip("#").startswith(" "):
            yield from self._alone(number, [stripped.lstrip("# ")])
        elif stripped.startswith("|"):
            yield from self._alone(number, _CELL_BORDER.split(stripped))
        elif _REFERENCE.match(line):
            yield from self.flush()
        elif item := ITEM.match(line):
            yield from self.flush()
            self.indent = item.end()
            self._add(number, line[item.end() :])
        else:
            self._add(number, stripped.lstrip("> "))

    def flush(self) -> Iterator[Passage]:
        """End the open paragraph."""
        if self.paragraph:
            text = "\n".join(self.paragraph)
            yield Passage(self.path, self.first, text, self.origin)
            self.paragraph = []

    def _skip(self, stripped: str) -> bool:
        """Whether the line lies in a fence or a comment, which it may end."""
        if self.fence:
            if stripped.startswith(self.fence):
                self.fence = ""
            return True
        if self.in_comment:
            self.in_comment = "-->" not in stripped
            return True
        return False

    def _is_code(self, line: str) -> bool:
        """Whether a line that starts a paragraph is indented as code is."""
        indent = len(line) - len(line.lstrip())
        if self.indent and indent == 0 and not ITEM.match(line):
            self.indent = 0
        if self.indent and ITEM.match(line):
            return False
        return indent >= self.indent + _CODE_INDENT

    def _add(self, number: int, text: str) -> None:
        if not self.paragraph:
            self.first = number
        self.paragraph.append(text)

    def _alone(self, number: int, texts: list[str]) -> Iterator[Passage]:
        """Yield texts of one line that are not part of a paragraph."""
        yield from self.flush()
        for text in texts:
            if any(map(str.isalnum, text)):
                yield Passage(self.path, number, text.strip(), self.origin, False)
