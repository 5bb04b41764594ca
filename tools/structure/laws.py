"""The laws of the project's structure, and what breaks them."""

from __future__ import annotations

import ast
from collections.abc import Callable

from structure.graph import find_circles
from structure.imports import FACADE, FUNCTION, TOP, read_package
from structure.rooms import view_modules
from structure.sizes import count_folders
from structure.sources import Tree

MOST_FILES = 27  # of code, directly in a folder
MOST_LINES = {"README.md": 130, "ARCHITECTURE.md": 150, "benches/README.md": 100}
_COMMANDS = f"{FACADE}.cli"


def _circles(tree: Tree) -> list[str]:
    graph = view_modules(read_package(tree)).graph(TOP)
    return [" - ".join(circle) for circle in find_circles(graph)]


def _facade(tree: Tree) -> list[str]:
    arrows = read_package(tree).facade_imports()
    return [str(arrow) for arrow in arrows if arrow.target == FACADE]


def _full_folders(tree: Tree) -> list[str]:
    full = [(name, n) for name, n in count_folders(tree) if n > MOST_FILES]
    return [f"{name} has {number} code files" for name, number in full]


def _functions_like_modules(tree: Tree) -> list[str]:
    """Return functions that hide a module: the one around them, or one of its package.

    A command is named like its module, and nothing is imported into their package.
    """
    package = read_package(tree)
    own = [
        f"{file.path}:{node.lineno} {node.name}"
        for name, file in package.modules.items()
        for node in file.tree.body
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
        and node.name == name.rpartition(".")[2]
        and name.rpartition(".")[0] != _COMMANDS
    ]
    imported = [
        str(arrow)
        for arrow in package.imports
        if arrow.place != FUNCTION and f"{arrow.source}.{arrow.name}" in package.modules
    ]
    return own + imported


def _long_document(name: str) -> Callable[[Tree], list[str]]:
    def check(tree: Tree) -> list[str]:
        lines = len((tree.read(name) or "").splitlines())
        return [f"{name} has {lines} lines"] if lines > MOST_LINES[name] else []

    return check


LAWS: dict[str, Callable[[Tree], list[str]]] = {
    "no import circle": _circles,
    "no import of quantcal itself inside": _facade,
    f"at most {MOST_FILES} code files in a folder": _full_folders,
    "no function named like its module": _functions_like_modules,
    **{
        f"{name} of at most {lines} lines": _long_document(name)
        for name, lines in MOST_LINES.items()
    },
}
