"""Texts and names of a Python file: docstrings, comments, messages."""

from __future__ import annotations

import ast
import io
import re
import tokenize
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from reading.docstrings import read_docstring
from reading.markdown import read_markdown
from reading.messages import read_message
from reading.sentences import Passage

_PRAGMA = re.compile(r"#\s*(?:noqa|type:|pragma|isort|fmt:|mypy:|ruff:|!)")
_DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


@dataclass(frozen=True)
class PythonFile:
    """A Python file, parsed once."""

    path: str
    source: str

    @cached_property
    def tree(self) -> ast.Module:
        """The syntax tree."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of escapes in strings
            return ast.parse(self.source)

    @cached_property
    def is_valid(self) -> bool:
        """Whether this version of Python can parse the file."""
        try:
            return bool(self.tree) and bool(self.tokens)
        except (SyntaxError, ValueError, tokenize.TokenError):
            return False

    @cached_property
    def nodes(self) -> list[ast.AST]:
        """All nodes of the syntax tree."""
        return list(ast.walk(self.tree))

    @cached_property
    def tokens(self) -> list[tokenize.TokenInfo]:
        """The tokens, comments included."""
        return list(tokenize.generate_tokens(io.StringIO(self.source).readline))

    @cached_property
    def docstrings(self) -> list[ast.Constant]:
        """The docstrings of the module, its classes and functions."""
        return [
            node.body[0].value
            for node in self.nodes
            if isinstance(node, _DOCUMENTED)
            and node.body
            and isinstance(node.body[0], ast.Expr)
            and isinstance(node.body[0].value, ast.Constant)
            and isinstance(node.body[0].value.value, str)
        ]

    @cached_property
    def comments(self) -> list[tuple[int, int, str, bool]]:
        """Line, column, text of each comment, and whether it has its own line."""
        return [
            (*token.start, token.string, token.line.lstrip().startswith("#"))
            for token in self.tokens
            if token.type == tokenize.COMMENT and not _PRAGMA.match(token.string)
        ]

    @cached_property
    def strings(self) -> list[tuple[ast.expr, str]]:
        """All string literals but docstrings. What is formatted in reads `{x}`."""
        skipped: set[ast.AST] = {*self.docstrings, *_word_lists(self.nodes)}
        found: list[tuple[ast.expr, str]] = []
        for node in self.nodes:
            if isinstance(node, ast.JoinedStr):
                skipped.update(ast.walk(node))
                found.append((node, _format_text(node)))
            elif (
                isinstance(node, ast.Constant)
                and isinstance(node.value, str)
                and node not in skipped
            ):
                found.append((node, node.value))
        return found

    @cached_property
    def names(self) -> dict[str, int]:
        """The identifiers, each with the line where it stands first."""
        found: dict[str, int] = {}
        for token in self.tokens:
            if token.type == tokenize.NAME:
                found.setdefault(token.string, token.start[0])
        return found

    def passages(self) -> Iterator[Passage]:
        """Yield all text for people."""
        yield from self.documentation()
        for string, text in self.strings:
            height = (string.end_lineno or string.lineno) - string.lineno
            yield from read_message(
                text, self.path, string.lineno, spans_lines=height == text.count("\n")
            )

    def documentation(self) -> Iterator[Passage]:
        """Yield docstrings and comments."""
        for node in self.docstrings:
            yield from read_docstring(str(node.value), self.path, node.lineno)
        for line, text in self._joined_comments():
            yield from read_markdown(text, self.path, line, "comment")

    def _joined_comments(self) -> Iterator[tuple[int, str]]:
        """Yield comments; those in consecutive lines of one column are one."""
        block: list[str] = []
        first, place = 0, (0, 0)
        for line, column, comment, alone in self.comments:
            text = comment.lstrip("#:").removeprefix(" ")
            if block and alone and (line, column) == (place[0] + 1, place[1]):
                block.append(text)
            else:
                if block:
                    yield first, "\n".join(block)
                block, first = [text], line
            place = (line, column) if alone else (0, 0)
        if block:
            yield first, "\n".join(block)


def _word_lists(nodes: list[ast.AST]) -> Iterator[ast.expr]:
    """Yield the strings that are split into words."""
    for node in nodes:
        if isinstance(node, ast.Attribute) and node.attr == "split":
            yield node.value


def _format_text(node: ast.JoinedStr) -> str:
    return "".join(
        str(part.value) if isinstance(part, ast.Constant) else "{x}"
        for part in node.values
    )
