"""The files of a source tree that people write."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

# Folders that may hold code. A tree need not have all of them.
CODE_FOLDERS = (
    "python",
    "src",
    "tests",
    "benches",
    "examples",
    "research",
    "tools",
)
PACKAGE = Path("python") / "quantcal"
_GENERATED = {"__pycache__", "node_modules", "target"}


def find_files(
    root: Path, folders: Iterable[str | Path], suffixes: Iterable[str]
) -> Iterator[Path]:
    """Yield the files below some folders of a root, in the order of their names."""
    wanted = tuple(suffixes)
    for folder in folders:
        for parent, children, names in os.walk(root / folder):
            children[:] = sorted(
                child
                for child in children
                if child not in _GENERATED and not child.startswith(".")
            )
            for name in sorted(names):
                if name.endswith(wanted):
                    yield Path(parent) / name


def relative(path: Path, root: Path) -> str:
    """Name a file from its root on, with slashes on every system."""
    return path.relative_to(root).as_posix()
