"""Which string literals are text for people."""

from __future__ import annotations

import ast
import re
import textwrap
from collections.abc import Iterator
from dataclasses import replace

from reading.markdown import read_markdown
from reading.sentences import Passage, mask_code

FEWEST_WORDS = 4
_FEWEST_PLAIN = 0.6  # of all words, so that code and tables are no messages
_PLAIN_WORD = re.compile(r"[(\"'*]*[A-Za-z][A-Za-z'’-]*[.,;:!?)\"'*]*")


def read_message(
    text: str, path: str, line: int, *, spans_lines: bool
) -> Iterator[Passage]:
    """Yield the passages of a string literal, if it is a message.

    Parameters
    ----------
    spans_lines
        Whether each newline of the text is one in the file.
    """
    for passage in read_markdown(textwrap.dedent(text), path, line, "string"):
        if not is_message(passage.text):
            continue
        if spans_lines:
            yield passage
        else:
            yield replace(passage, line=line, text=" ".join(passage.text.split()))


def is_message(text: str) -> bool:
    """Whether a text is a sentence for people and not code or a name."""
    words = mask_code(text).split()
    if len(words) < FEWEST_WORDS:
        return False
    plain = sum(_PLAIN_WORD.fullmatch(word) is not None for word in words)
    return plain >= _FEWEST_PLAIN * len(words) and not _is_python(text)


def _is_python(text: str) -> bool:
    try:
        ast.parse(text)
    except (SyntaxError, ValueError):
        return False
    return True
