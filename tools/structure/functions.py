"""Lines of functions: by the syntax tree in Python, by counting braces in Rust."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from typing import NamedTuple

from reading.files import CODE_FOLDERS
from reading.python import PythonFile
from reading.rust import RustFile
from structure.sources import Tree

MOST_LINES = 60
_RUST_FUNCTION = re.compile(r"\bfn\s+(\w+)")
_BODY = re.compile(r"[{;]")
_BRACKETS = {"{}": re.compile(r"[{}]"), "()": re.compile(r"[()]")}


class Function(NamedTuple):
    """Where a function stands, and its lines from its head to its end."""

    place: str
    language: str
    lines: int


def find_functions(tree: Tree) -> list[Function]:
    """Return all functions of a tree, the longest first."""
    found = [f for file in tree.python for f in _python_functions(file)]
    found += [f for file in tree.rust for f in _rust_functions(file)]
    return sorted(found, key=lambda function: (-function.lines, function.place))


def count_functions(functions: list[Function]) -> list[tuple[str, str, int, int, int]]:
    """Return folder, language, functions, long ones, and the lines of the longest."""
    rows = []
    for folder in CODE_FOLDERS:
        for language in ("py", "rs"):
            sizes = [
                f.lines
                for f in functions
                if f.language == language and f.place.startswith(f"{folder}/")
            ]
            if sizes:
                long = sum(size > MOST_LINES for size in sizes)
                rows.append((folder, language, len(sizes), long, max(sizes)))
    return rows


def _python_functions(file: PythonFile) -> Iterator[Function]:
    for node in file.nodes:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            yield Function(f"{file.path}:{node.lineno} {node.name}", "py", lines)


def _rust_functions(file: RustFile) -> Iterator[Function]:
    """Yield the functions that have a body."""
    code = file.code
    for match in _RUST_FUNCTION.finditer(code):
        opening = code.find("(", match.end())
        body = _BODY.search(code, _closing(code, opening, "()"))
        if opening >= 0 and body is not None and body[0] == "{":
            end = _closing(code, body.start(), "{}")
            line = code.count("\n", 0, match.start()) + 1
            lines = code.count("\n", match.start(), end) + 1
            yield Function(f"{file.path}:{line} {match[1]}", "rs", lines)


def _closing(code: str, start: int, pair: str) -> int:
    """Return the position of the bracket that closes the one at `start`."""
    depth = 0
    for match in _BRACKETS[pair].finditer(code, max(start, 0)):
        depth += 1 if match[0] == pair[0] else -1
        if depth == 0:
            return match.start()
    return len(code)
