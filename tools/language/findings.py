"""What is wrong with the words of one file."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath

from language.phrases import banned_phrases
from language.spelling import british_words
from reading.markdown import read_markdown
from reading.messages import FEWEST_WORDS
from reading.python import PythonFile
from reading.rust import RustFile
from reading.sentences import MOST_WORDS, Passage, Sentence, split_sentences
from reading.settings import read_settings

_SHOWN = 60  # letters of a long sentence that help to find it


@dataclass(frozen=True, order=True)
class Finding:
    """A place in a file, what is wrong there, and what to write."""

    path: str
    line: int
    kind: str  # "long", "phrase" or "spelling"
    text: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.kind}: {self.text}; {self.remedy}"


def check_file(path: str, source: str) -> list[Finding]:
    """Return what is wrong with the words of a file, in the order of its lines."""
    found = set(_check_names(path, {PurePosixPath(path).name: 1}))
    if path.endswith((".py", ".pyi")):
        python = PythonFile(path, source)
        found.update(_check_passages(python.passages()))
        found.update(_check_names(path, python.names))
        found.update(
            _check_names(path, {text: node.lineno for node, text in python.strings})
        )
    elif path.endswith(".rs"):
        rust = RustFile(path, source)
        found.update(_check_passages(rust.passages()))
        found.update(_check_names(path, rust.names))
        found.update(_check_names(path, {text: line for line, text, _ in rust.strings}))
    elif path.endswith(".md"):
        found.update(_check_passages(read_markdown(source, path)))
    else:
        found.update(_check_passages(read_settings(source, path)))
    return sorted(found)


def _check_passages(passages: Iterable[Passage]) -> Iterator[Finding]:
    for passage in passages:
        for sentence in split_sentences(passage):
            yield from _check_sentence(passage.path, sentence)


def _check_sentence(path: str, sentence: Sentence) -> Iterator[Finding]:
    if sentence.words > MOST_WORDS:
        start = sentence.text[:_SHOWN].rsplit(" ", 1)[0]
        yield Finding(
            path,
            sentence.line,
            "long",
            f'{sentence.words} words in "{start} …"',
            f"split it, at most {MOST_WORDS}",
        )
    found = [("phrase", *phrase) for phrase in banned_phrases(sentence.masked)]
    found += [("spelling", *word) for word in british_words(sentence.masked)]
    for kind, offset, text, instead in found:
        quoted = " ".join(text.split())
        line = sentence.line_of(offset)
        yield Finding(path, line, kind, f'"{quoted}"', f"write {instead}")


def _check_names(path: str, names: dict[str, int]) -> Iterator[Finding]:
    """Check the spelling of identifiers and of short strings."""
    for name, line in names.items():
        if len(name.split()) >= FEWEST_WORDS:
            continue  # a message, or no text for people
        for _, word, better in british_words(name):
            yield Finding(path, line, "spelling", f'"{word}"', f"write {better}")
