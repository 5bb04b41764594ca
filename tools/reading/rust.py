"""Texts and names of a Rust file, found by a scanner of comments and strings."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from reading.markdown import read_markdown
from reading.messages import read_message
from reading.sentences import Passage

# Comments, strings and characters, so that braces in them are not counted as code.
# `'a'` is a character, `'a` a lifetime.
_TOKEN = re.compile(
    r"""
      (?P<line>//[^\n]*)
    | (?P<block>/\*)
    | (?P<raw>\bb?r(?P<hashes>\#*)"(?P<raw_text>.*?)"(?P=hashes))
    | (?P<string>\bb?"(?P<text>(?:\\.|[^"\\])*)"|"(?P<text2>(?:\\.|[^"\\])*)")
    | (?P<char>b?'(?:\\(?:u\{[^}]*\}|x..|.)|[^'\\\n])')
    """,
    re.VERBOSE | re.DOTALL,
)
_CONTINUED = re.compile(r"\\\n\s*")
_MARKER = re.compile(r"//[/!]?")
_NAME = re.compile(r"[A-Za-z_]\w*")


@dataclass(frozen=True)
class Comment:
    """A comment in one line, or a block."""

    line: int
    column: int
    marker: str
    text: str
    own_line: bool


@dataclass(frozen=True)
class RustFile:
    """A Rust file, scanned once."""

    path: str
    source: str

    @cached_property
    def _scanned(self) -> tuple[str, list[Comment], list[tuple[int, str, bool]]]:
        comments: list[Comment] = []
        strings: list[tuple[int, str, bool]] = []
        code: list[str] = []
        position = 0
        while match := _TOKEN.search(self.source, position):
            end = match.end()
            if match["block"]:
                end = _block_end(self.source, match.start())
            token = self.source[match.start() : end]
            code += [self.source[position : match.start()], _blank(token)]
            line = self.source.count("\n", 0, match.start()) + 1
            if match["line"] or match["block"]:
                comments.append(self._comment(match.start(), line, token))
            elif not match["char"]:
                text = match["raw_text"] or match["text"] or match["text2"] or ""
                joined = _CONTINUED.sub("", text)
                strings.append((line, joined.replace(r"\n", "\n"), text == joined))
            position = end
        code.append(self.source[position:])
        return "".join(code), comments, strings

    def _comment(self, start: int, line: int, token: str) -> Comment:
        before = self.source[self.source.rfind("\n", 0, start) + 1 : start]
        marker = match[0] if (match := _MARKER.match(token)) else "/*"
        text = token[len(marker) :].removesuffix("*/").removeprefix(" ")
        return Comment(line, len(before), marker, text, not before.strip())

    @property
    def code(self) -> str:
        """The source with comments, strings and characters blanked."""
        return self._scanned[0]

    @property
    def comments(self) -> list[Comment]:
        """All comments, those that document included."""
        return self._scanned[1]

    @property
    def strings(self) -> list[tuple[int, str, bool]]:
        """Line and text of each string, and whether its lines are the file's."""
        return self._scanned[2]

    @cached_property
    def names(self) -> dict[str, int]:
        """The identifiers, each with the line where it stands first."""
        found: dict[str, int] = {}
        for number, line in enumerate(self.code.split("\n"), 1):
            for name in _NAME.findall(line):
                found.setdefault(name, number)
        return found

    def passages(self) -> Iterator[Passage]:
        """Yield all text for people."""
        yield from self.documentation()
        for line, text, spans_lines in self.strings:
            yield from read_message(text, self.path, line, spans_lines=spans_lines)

    def documentation(self) -> Iterator[Passage]:
        """Yield all comments."""
        for first, text, marker in self._joined_comments():
            origin = "docstring" if marker in {"///", "//!"} else "comment"
            yield from read_markdown(text, self.path, first, origin)

    def _joined_comments(self) -> Iterator[tuple[int, str, str]]:
        """Yield comments; those in consecutive lines of one column are one."""
        block: list[Comment] = []
        for comment in self.comments:
            if block and not _continues(block[-1], comment):
                yield _join(block)
                block = []
            block.append(comment)
        if block:
            yield _join(block)


def _continues(before: Comment, after: Comment) -> bool:
    same = (before.line + 1, before.column, before.marker)
    own_lines = before.own_line and after.own_line
    return own_lines and same == (after.line, after.column, after.marker)


def _join(block: list[Comment]) -> tuple[int, str, str]:
    return block[0].line, "\n".join(c.text for c in block), block[0].marker


def _block_end(source: str, start: int) -> int:
    """Return where a comment ends that may hold others."""
    depth = 0
    for match in re.compile(r"/\*|\*/").finditer(source, start):
        depth += 1 if match[0] == "/*" else -1
        if depth == 0:
            return match.end()
    return len(source)


def _blank(token: str) -> str:
    return "".join("\n" if letter == "\n" else " " for letter in token)
