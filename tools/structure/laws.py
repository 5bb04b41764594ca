"""The laws of the project's structure, and what breaks them."""

from __future__ import annotations

from collections.abc import Callable

from structure.graph import find_circles
from structure.imports import FACADE, TOP, read_package
from structure.rooms import view_modules
from structure.sizes import count_folders
from structure.sources import Tree

MOST_FILES = 27  # of code, directly in a folder
MOST_LINES = {"README.md": 130, "ARCHITECTURE.md": 150, "benches/README.md": 100}


def _circles(tree: Tree) -> list[str]:
    graph = view_modules(read_package(tree)).graph(TOP)
    return [" - ".join(circle) for circle in find_circles(graph)]


def _facade(tree: Tree) -> list[str]:
    arrows = read_package(tree).facade_imports()
    return [str(arrow) for arrow in arrows if arrow.target == FACADE]


def _full_folders(tree: Tree) -> list[str]:
    full = [(name, n) for name, n in count_folders(tree) if n > MOST_FILES]
    return [f"{name} has {number} code files" for name, number in full]


def _long_document(name: str) -> Callable[[Tree], list[str]]:
    def check(tree: Tree) -> list[str]:
        lines = len((tree.read(name) or "").splitlines())
        return [f"{name} has {lines} lines"] if lines > MOST_LINES[name] else []

    return check


LAWS: dict[str, Callable[[Tree], list[str]]] = {
    "no import circle": _circles,
    "no import of quantcal itself inside": _facade,
    f"at most {MOST_FILES} code files in a folder": _full_folders,
    **{
        f"{name} of at most {lines} lines": _long_document(name)
        for name, lines in MOST_LINES.items()
    },
}
