"""Sizes: files in a folder, lines of a file, comments beside code."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import PurePosixPath

from reading.files import CODE_FOLDERS
from reading.python import PythonFile
from reading.rust import RustFile
from structure.sources import CodeFile, Tree


def count_folders(tree: Tree) -> list[tuple[str, int]]:
    """Return the number of code files of each folder, the fullest first."""
    counts = Counter(PurePosixPath(file.path).parent.as_posix() for file in tree.code)
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))


def count_lines(files: Sequence[CodeFile]) -> list[tuple[str, int]]:
    """Return the number of lines of each file, the longest first."""
    sizes = [(file.path, len(file.source.splitlines())) for file in files]
    return sorted(sizes, key=lambda item: (-item[1], item[0]))


def count_comments(tree: Tree) -> list[tuple[str, str, int, int, float]]:
    """Return folder, language, own-line comments, code, and share in %.

    Docstrings, documenting comments and empty lines are neither comments nor code.
    """
    rows = []
    for folder in CODE_FOLDERS:
        python = [file for file in tree.python if file.path.startswith(f"{folder}/")]
        rust = [file for file in tree.rust if file.path.startswith(f"{folder}/")]
        counts = [
            ("py", sum(map(_python_comments, python)), sum(map(_python_code, python))),
            ("rs", sum(map(_rust_comments, rust)), sum(map(_rust_code, rust))),
        ]
        rows += [(folder, *c, 100 * c[1] / c[2]) for c in counts if c[2]]
    return rows


def _python_comments(file: PythonFile) -> int:
    return sum(own_line for *_, own_line in file.comments)


def _python_code(file: PythonFile) -> int:
    lines = file.source.splitlines()
    code = {
        number
        for number, line in enumerate(lines, 1)
        if line.strip() and not line.lstrip().startswith("#")
    }
    for node in file.docstrings:
        code -= set(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    return len(code)


def _rust_comments(file: RustFile) -> int:
    return sum(c.own_line and c.marker == "//" for c in file.comments)


def _rust_code(file: RustFile) -> int:
    return sum(bool(line.strip()) for line in file.code.split("\n"))
