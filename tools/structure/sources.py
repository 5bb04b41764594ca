"""The code of a tree, read and parsed once."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from reading.files import CODE_FOLDERS, PACKAGE, find_files, relative
from reading.python import PythonFile
from reading.rust import RustFile

CodeFile = PythonFile | RustFile


@dataclass(frozen=True)
class Tree:
    """A tree of sources. Files are named from its root on."""

    root: Path

    @cached_property
    def python(self) -> list[PythonFile]:
        """All Python files that can be parsed."""
        return [file for file in self._python if file.is_valid]

    @property
    def invalid(self) -> list[str]:
        """The Python files that cannot be parsed."""
        return [file.path for file in self._python if not file.is_valid]

    @cached_property
    def _python(self) -> list[PythonFile]:
        return [PythonFile(*file) for file in self._read(".py")]

    @cached_property
    def rust(self) -> list[RustFile]:
        """All Rust files."""
        return [RustFile(*file) for file in self._read(".rs")]

    @property
    def code(self) -> list[CodeFile]:
        """All files of code."""
        return [*self.python, *self.rust]

    @cached_property
    def package(self) -> list[PythonFile]:
        """The files of the Python package, with the stubs of compiled modules."""
        own = [f for f in self.python if f.path.startswith(f"{PACKAGE.as_posix()}/")]
        compiled = find_files(self.root, [PACKAGE], [".pyi"])
        stubs = [
            PythonFile(relative(p, self.root), p.read_text("utf-8")) for p in compiled
        ]
        return own + stubs

    @cached_property
    def crate(self) -> list[RustFile]:
        """The files of the Rust crate."""
        return [file for file in self.rust if file.path.startswith("src/")]

    def read(self, name: str) -> str | None:
        """Return the text of a file, or None if there is none."""
        path = self.root / name
        return path.read_text("utf-8") if path.is_file() else None

    def _read(self, suffix: str) -> list[tuple[str, str]]:
        paths = find_files(self.root, CODE_FOLDERS, [suffix])
        return [(relative(path, self.root), path.read_text("utf-8")) for path in paths]
