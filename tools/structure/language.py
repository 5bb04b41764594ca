"""Words a sentence, in documents and in the texts of the code."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import PurePosixPath

from reading.files import PACKAGE, find_files, relative
from reading.markdown import read_markdown
from reading.sentences import MOST_WORDS, Passage, split_sentences
from structure.sources import CodeFile, Tree

_DOCUMENTS = ("README.md", "ARCHITECTURE.md", "CHANGELOG.md", "benches/README.md")


@dataclass(frozen=True)
class Prose:
    """The words of each sentence of some texts."""

    name: str
    lines: int | None  # of a document
    words: list[int]

    def row(self) -> list[object]:
        """Return lines, sentences, mean, longest, and the share of long ones in %."""
        number = len(self.words)
        long = sum(words > MOST_WORDS for words in self.words)
        return [
            self.name,
            "" if self.lines is None else self.lines,
            number,
            sum(self.words) / number if number else 0.0,
            max(self.words, default=0),
            100 * long / number if number else 0.0,
        ]


HEADER = ["text", "lines", "sentences", "mean", "longest", "above 35 %"]


def measure_documents(tree: Tree) -> list[Prose]:
    """Return the prose of each document that there is."""
    pages = [relative(p, tree.root) for p in find_files(tree.root, ["docs"], [".md"])]
    return [
        Prose(name, len(text.splitlines()), _words(read_markdown(text, name)))
        for name in [*_DOCUMENTS, *pages]
        if (text := tree.read(name)) is not None
    ]


def measure_code(tree: Tree) -> list[Prose]:
    """Return the docstrings and comments of each first folder of package and crate."""
    words: defaultdict[str, list[int]] = defaultdict(list)
    files: list[CodeFile] = [*tree.package, *tree.crate]
    for file in files:
        top = PACKAGE.as_posix() if file.path.startswith("python") else "src"
        parent = PurePosixPath(file.path).parent.relative_to(top).parts
        words["/".join([top, *parent[:1]])] += _words(file.documentation())
    return [Prose(name, None, numbers) for name, numbers in sorted(words.items())]


def _words(passages: Iterable[Passage]) -> list[int]:
    return [
        sentence.words
        for passage in passages
        if passage.running
        for sentence in split_sentences(passage)
        if sentence.words
    ]
