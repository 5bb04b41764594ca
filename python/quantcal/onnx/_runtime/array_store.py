"""Arrays that trials read again and again, in memory up to a limit, then on disk."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np

from quantcal._io.temporary import TemporaryFolder, working

MEMORY = 1 << 28
"""256 MiB: many images, and a quarter of what a laptop can spare."""


class ArrayStore:
    """A list of entries, each a mapping or a list of arrays.

    Entries are copies: a caller may fill the same buffers again.

    Parameters
    ----------
    memory : int
        Bytes of arrays that stay in memory. Further entries go to a temporary folder.
    """

    def __init__(self, memory: int = MEMORY) -> None:
        self._room = memory
        self._entries: list[Any] = []
        self._folder: TemporaryFolder | None = None
        self._files = 0

    def __len__(self) -> int:
        return len(self._entries)

    def append(self, entry: dict[str, Any] | list[Any]) -> None:
        """Add a copy of an entry.

        Raises
        ------
        CalibrationError
            When the temporary folder cannot be written.
        """
        size = _size(entry)
        if size <= self._room:
            self._room -= size
            self._entries.append(_copy(entry))
            return
        with working():
            if self._folder is None:
                self._folder = TemporaryFolder()
            path = self._folder.path / f"entry{self._files}"
            self._files += 1
            path.write_bytes(pickle.dumps(_copy(entry), protocol=5))
        self._entries.append(path)

    def __getitem__(self, index: int) -> Any:
        entry = self._entries[index]
        return pickle.loads(entry.read_bytes()) if isinstance(entry, Path) else entry

    def keep(self, indices: list[int]) -> None:
        """Keep these entries only, in this order."""
        kept = [self._entries[index] for index in indices]
        for entry in self._entries:
            if not any(entry is other for other in kept):
                if isinstance(entry, Path):
                    entry.unlink()
                else:
                    self._room += _size(entry)
        self._entries = kept

    def close(self) -> None:
        """Delete the entries."""
        self._entries = []
        if self._folder is not None:
            self._folder.close()


def _arrays(entry: Any) -> list[Any]:
    return list(entry.values()) if isinstance(entry, dict) else list(entry)


def _size(entry: Any) -> int:
    return sum(int(getattr(array, "nbytes", 0)) for array in _arrays(entry))


def _copy(entry: Any) -> Any:
    if isinstance(entry, dict):
        return {name: _array(value) for name, value in entry.items()}
    return [_array(value) for value in entry]


def _array(value: Any) -> Any:
    return np.array(value) if isinstance(value, (np.ndarray, np.generic)) else value
