"""Passages of a docstring in the numpydoc style."""

from __future__ import annotations

from collections.abc import Iterator

from reading.markdown import ITEM
from reading.sentences import Passage


def read_docstring(text: str, path: str, line: int) -> Iterator[Passage]:
    """Yield the passages of a docstring that starts on `line` of a file.

    A change of indentation ends a passage. Examples, literal blocks and the headings of
    sections are left out. A line above deeper ones, as a parameter's name, is not
    running text.
    """
    lines = _without_margin(text)
    paragraph: list[str] = []
    first, indent = 0, 0
    skipped_below = -1  # lines indented deeper than this are code
    in_example = False
    for index, (own, content) in enumerate(lines):
        following = lines[index + 1] if index + 1 < len(lines) else (0, "")
        if not content:
            in_example = False
        if skipped_below >= 0 and content and own <= skipped_below:
            skipped_below = -1
        starts = bool(ITEM.match(content)) or content.startswith((">>>", "|", ".. "))
        if paragraph and (not content or starts or own != indent):
            label = bool(content) and not starts and own > indent
            yield _passage(path, line + first, paragraph, running=not label)
            paragraph = []
        in_example = in_example or content.startswith(">>>")
        if not content or in_example or skipped_below >= 0:
            continue
        if content.startswith(".. ") or _is_underline(content):
            continue
        if _is_underline(following[1]) and own == following[0]:
            continue
        if not paragraph:
            item = ITEM.match(content)
            first, indent = index, own + (item.end() if item else 0)
            paragraph.append(content[item.end() :] if item else content)
        else:
            paragraph.append(content)
        if content.endswith("::"):
            skipped_below = own
    if paragraph:
        yield _passage(path, line + first, paragraph, running=True)


def _passage(path: str, line: int, lines: list[str], *, running: bool) -> Passage:
    return Passage(path, line, "\n".join(lines), "docstring", running)


def _without_margin(text: str) -> list[tuple[int, str]]:
    """Return the indentation and the content of each line."""
    first, *raw = text.expandtabs().split("\n")
    rest = [(len(line) - len(line.lstrip()), line.strip()) for line in raw]
    margin = min((indent for indent, content in rest if content), default=0)
    return [(0, first.strip()), *((max(n - margin, 0), s) for n, s in rest)]


def _is_underline(text: str) -> bool:
    return len(text) > 2 and not text.strip("-=~")
