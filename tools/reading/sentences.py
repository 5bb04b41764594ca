"""Passages of text, and the sentences in them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

MOST_WORDS = 35  # of a sentence
_CODE_SPAN = re.compile(r"(?<!`)(`+)(?!`)(.+?)(?<!`)\1(?!`)", re.DOTALL)
_LINK_TARGET = re.compile(r"(?<=\])\([^()\s]*(?:\([^()\s]*\)[^()\s]*)*\)")
_URL = re.compile(r"\b[a-z]+://[^\s)>\]]*[^\s)>\].,;:]")
_TAG = re.compile(r"<!--.*?-->|</?[a-zA-Z][^<>]*>", re.DOTALL)
_END = re.compile(r"(?:[.!?]+|…)[)\]\"'*_”’]*(?=\s)")
_ABBREVIATIONS = {
    "al.",
    "approx.",
    "cf.",
    "e.g.",
    "fig.",
    "i.e.",
    "no.",
    "resp.",
    "vs.",
}
# They end a sentence only if the next word starts one.
_AMBIGUOUS = ("etc.", "...", "…")
_INITIAL = re.compile(r"[A-Z]\.")


@dataclass(frozen=True)
class Passage:
    """A paragraph, heading, table cell, comment or message of a file.

    Parameters
    ----------
    line
        Line of the file on which the text starts.
    text
        The text. Each newline in it is one in the file.
    origin
        ``"document"``, ``"docstring"``, ``"comment"`` or ``"string"``.
    running
        Whether it is made of sentences, unlike a heading or a table cell.
    """

    path: str
    line: int
    text: str
    origin: str
    running: bool = True


@dataclass(frozen=True)
class Sentence:
    """One sentence, with quoted code masked in `masked`, where lines are the file's."""

    line: int
    text: str
    masked: str

    @property
    def words(self) -> int:
        """Number of words. Quoted code and an address count as one each."""
        return sum(any(map(str.isalnum, word)) for word in self.masked.split())

    def line_of(self, offset: int) -> int:
        """Return the line of the file in which a place of `masked` lies."""
        return self.line + self.masked.count("\n", 0, offset)


def mask_code(text: str) -> str:
    """Replace quoted code, addresses and tags by text of the same length."""

    def word(match: re.Match[str]) -> str:
        return "x" * len(match[0])

    def blank(match: re.Match[str]) -> str:
        return " " * len(match[0])

    text = _CODE_SPAN.sub(word, text)
    text = _LINK_TARGET.sub(blank, text)
    return _TAG.sub(blank, _URL.sub(word, text))


def split_sentences(passage: Passage) -> Iterator[Sentence]:
    """Yield the sentences of a passage."""
    masked = mask_code(passage.text)
    start = 0
    for end in [*_ends(masked), len(masked)]:
        sentence = masked[start:end]
        if sentence.strip():
            first = start + len(sentence) - len(sentence.lstrip())
            line = passage.line + passage.text.count("\n", 0, first)
            text = " ".join(passage.text[start:end].split())
            yield Sentence(line, text, sentence.strip())
        start = end


def _ends(masked: str) -> Iterator[int]:
    """Yield the positions behind full stops, question and exclamation marks."""
    for match in _END.finditer(masked):
        last = masked[: match.end()].rsplit(None, 1)[-1].lstrip("(\"'")
        following = masked[match.end() :].lstrip().lstrip("(\"'*_[`")
        if last.lower() in _ABBREVIATIONS or _INITIAL.fullmatch(last):
            continue
        if last.endswith(_AMBIGUOUS) and not following[:1].isupper():
            continue
        yield match.end()
