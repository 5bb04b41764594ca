"""Files that are read whole or written whole: a reader never sees half a file."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from quantcal._core import CalibrationError


def read_bytes(path: str | Path) -> bytes:
    """Return a file's content.

    Raises
    ------
    CalibrationError
        If it cannot be read; the message names it and says why.
    """
    try:
        return Path(path).read_bytes()
    except (OSError, ValueError) as error:  # a path with a null byte is a ValueError
        msg = f"{path} cannot be read: {_told(error)}"
        raise CalibrationError(msg) from error


def write_bytes(path: str | Path, data: bytes) -> None:
    """Write a file at once: the old one stays until the new one is complete.

    Raises
    ------
    CalibrationError
        If it cannot be written; the message names it and says why.
    """
    target = Path(path)
    temporary = None
    try:
        with tempfile.NamedTemporaryFile(
            dir=target.parent, prefix=f".{target.name}.", delete=False
        ) as file:
            temporary = Path(file.name)
            file.write(data)
        mask = os.umask(0)
        os.umask(mask)
        temporary.chmod(0o666 & ~mask)  # as an ordinary new file, not a private one
        temporary.replace(target)
    except (OSError, ValueError) as error:  # a path with a null byte is a ValueError
        told = "Is a directory" if target.is_dir() else _told(error)
        msg = f"{path} cannot be written: {told}"
        raise CalibrationError(msg) from error
    finally:  # after an interruption, too
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def _told(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)
