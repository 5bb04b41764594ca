"""The imports between the modules of the Python package."""

from __future__ import annotations

import ast
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import PurePosixPath

from reading.files import PACKAGE
from reading.python import PythonFile
from structure.sources import Tree

FACADE = PACKAGE.name
TOP, FUNCTION, TYPING = "top", "function", "typing"
# A method reaches through these for what its base class defines.
_OWN = {"self", "cls"}


@dataclass(frozen=True)
class Import:
    """An import of one name of the package.

    Parameters
    ----------
    source, target
        The modules, with dots.
    name
        What is imported from the target. Empty if it is the module itself.
    place
        ``"top"``, ``"function"`` or ``"typing"`` (under `TYPE_CHECKING`, or in a stub).
    where
        File and line.
    """

    source: str
    target: str
    name: str
    place: str
    where: str

    def __str__(self) -> str:
        name = f".{self.name}" if self.name else ""
        return f"{self.where} {self.target}{name} ({self.place})"


@dataclass(frozen=True)
class Package:
    """The modules of the package and the imports between them."""

    modules: dict[str, PythonFile]
    imports: list[Import]

    def facade_imports(self) -> list[Import]:
        """Return the imports of a package by a module that lies in it."""
        return [a for a in self.imports if a.source.startswith(f"{a.target}.")]

    def private_imports(self) -> list[Import]:
        """Return imports of private names, and of modules private to another folder."""
        return [
            arrow
            for arrow in self.imports
            if _is_private(arrow.name) or _is_foreign(arrow.source, arrow.target)
        ]

    def private_attributes(self) -> list[str]:
        """Return where a private attribute is used that only other modules define."""
        defined = {name: set(_defined(f.nodes)) for name, f in self.modules.items()}
        everywhere = set().union(*defined.values())
        return [
            f"{file.path}:{node.lineno} {ast.unparse(node)}"
            for name, file in self.modules.items()
            for node in file.nodes
            if isinstance(node, ast.Attribute)
            and node.attr in everywhere - defined[name]
            and not (isinstance(node.value, ast.Name) and node.value.id in _OWN)
        ]


@cache
def read_package(tree: Tree) -> Package:
    """Read the imports of all modules of the package."""
    modules = {_module_name(file.path): file for file in tree.package}
    found = [
        arrow
        for name, file in modules.items()
        for arrow in _read_imports(name, file, modules)
        if arrow.source != arrow.target
    ]
    return Package(modules, found)


def _module_name(path: str) -> str:
    parts = PurePosixPath(path).relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _read_imports(
    module: str, file: PythonFile, modules: Collection[str]
) -> Iterator[Import]:
    """Yield the imports of a module."""
    in_stub = file.path.endswith(".pyi")
    for node, place in _find_imports(file.tree, TYPING if in_stub else TOP):
        where = f"{file.path}:{node.lineno}"
        if isinstance(node, ast.Import):
            for alias in node.names:
                if _is_within(alias.name, FACADE):
                    yield Import(module, alias.name, "", place, where)
            continue
        base = _absolute(node, module, is_package=file.path.endswith("__init__.py"))
        if not _is_within(base, FACADE):
            continue
        for alias in node.names:
            if f"{base}.{alias.name}" in modules:
                yield Import(module, f"{base}.{alias.name}", "", place, where)
            else:
                yield Import(module, base, alias.name, place, where)


def _find_imports(
    node: ast.AST, place: str
) -> Iterator[tuple[ast.Import | ast.ImportFrom, str]]:
    """Yield the imports below a node, each with its place."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, (ast.Import, ast.ImportFrom)):
            yield child, place
        elif isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            yield from _find_imports(ast.Module(child.body, []), TYPING)
            yield from _find_imports(ast.Module(child.orelse, []), place)
        elif isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef)):
            yield from _find_imports(child, TYPING if place == TYPING else FUNCTION)
        else:
            yield from _find_imports(child, place)


def _absolute(node: ast.ImportFrom, module: str, *, is_package: bool) -> str:
    """Return the module that an import names, also a relative one."""
    if not node.level:
        return node.module or ""
    parts = module.split(".")
    kept = len(parts) - node.level + is_package
    return ".".join([*parts[:kept], *(node.module or "").split(".")]).strip(".")


def _is_within(module: str, package: str) -> bool:
    return module == package or module.startswith(f"{package}.")


def _is_private(name: str) -> bool:
    return name.startswith("_") and not name.endswith("__") and name != "_"


def _is_foreign(source: str, target: str) -> bool:
    """Whether the target is private to a folder that the source does not lie in."""
    parts = target.split(".")
    return any(
        _is_private(part) and not _is_within(source, ".".join(parts[:i]))
        for i, part in enumerate(parts)
    )


def _defined(nodes: list[ast.AST]) -> Iterator[str]:
    """Yield the private names and attributes that a module defines."""
    for node in nodes:
        name = ""
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            name = node.name
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            name = node.attr
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            name = node.id
        if _is_private(name):
            yield name
