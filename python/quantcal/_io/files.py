"""Files that are read and written whole: a reader never sees half a file.

A written file is new or replaces a regular file. If the path is a link, its target is
replaced, and the link stays. Pipes, sockets, devices and folders are refused, and so are files
that the same run uses, under any of their names.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from quantcal._core import CalibrationError
from quantcal._io.temporary import beside

_KINDS = {
    stat.S_IFDIR: "Is a directory",
    stat.S_IFIFO: "it is a pipe (FIFO), not a regular file",
    stat.S_IFSOCK: "it is a socket, not a regular file",
    stat.S_IFCHR: "it is a device, not a regular file",
    stat.S_IFBLK: "it is a device, not a regular file",
}


class Used(NamedTuple):
    """A file that a run uses, which no output may replace.

    Attributes
    ----------
    path
        The file, under any of its names.
    what
        Its role; ends the sentence "The output X is …".
    """

    path: Path
    what: str


INPUT = "an input, which would be lost"
"""The role of most files that a run uses."""


def read_bytes(path: str | Path, limit: int | None = None) -> bytes:
    """Return a file's content.

    Parameters
    ----------
    path
    limit
        The maximum size in bytes, for content that takes much more memory than its file. None
        for any size.

    Raises
    ------
    CalibrationError
        If it cannot be read, or is larger; the message names it and says why.
    """
    with reading(path), Path(path).open("rb") as file:
        data = file.read() if limit is None else file.read(limit + 1)
    if limit is not None and len(data) > limit:
        msg = f"{path} has more than {limit:,} bytes, the maximum for such a file"
        raise CalibrationError(msg)
    return data


def write_bytes(path: str | Path, data: bytes, used: Iterable[Used] = ()) -> None:
    """Write a file atomically: the old one stays until the new one is on the disk.

    Parameters
    ----------
    path
        Where to write; the target of a link is replaced.
    data
        The whole content.
    used
        Files that must not be replaced.

    Raises
    ------
    CalibrationError
        If it cannot be written, is no regular file, or is used; the message names it and
        says why.
    """
    target = check_target(path, used)
    with writing(path), beside(target) as new:
        new.write(data)
        new.place(check_target(path, used))


def write_text(path: str | Path, text: str, used: Iterable[Used] = ()) -> None:
    """Write a text as UTF-8; see `write_bytes`.

    Raises
    ------
    CalibrationError
        As `write_bytes`, and if the text holds half a surrogate pair.
    """
    try:
        data = text.encode()
    except UnicodeEncodeError as error:
        around = text[max(0, error.start - 20) : error.start + 20]
        msg = (
            f"{path} cannot be written: the text {around!r} in it holds half a surrogate "
            "pair, which no file can hold"
        )
        raise CalibrationError(msg) from None
    write_bytes(path, data, used)


def check_target(path: str | Path, used: Iterable[Used] = ()) -> Path:
    """Return the path that will be written; for a link, its target.

    Parameters
    ----------
    path
    used
        Files that must not be replaced; checked only if the target exists.

    Raises
    ------
    CalibrationError
        If it is no regular file, its folder is missing, or it is used.
    """
    with writing(path):
        # Not Path.resolve, which raises a RuntimeError for links in a circle.
        target = Path(os.path.realpath(path))
        try:
            found = target.stat()
        except FileNotFoundError:
            target.parent.stat()
            return target
    if not stat.S_ISREG(found.st_mode):
        kind = _KINDS.get(stat.S_IFMT(found.st_mode), "it is not a regular file")
        raise CalibrationError(f"{path} cannot be written: {kind}")
    for each in used:
        try:
            same = os.path.samestat(found, each.path.stat())
        except (OSError, ValueError):  # a missing file cannot be lost
            continue
        if same:
            alias = Path(path).absolute() != each.path.absolute()
            named = f" (whose other name is {each.path})" if alias else ""
            raise CalibrationError(
                f"The output {path} is {each.what}{named}. Give another path."
            )
    return target


def is_text(path: str | Path) -> bool:
    """Return whether a path is UTF-8; on Linux a path may have any bytes."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        return False
    return True


def same_target(one: Path, other: Path) -> bool:
    """Return whether two paths are the same file; it need not exist."""
    try:
        if os.path.realpath(one) == os.path.realpath(other):
            return True
        return one.samefile(other)
    except (OSError, ValueError):
        return False


@contextmanager
def writing(path: str | Path) -> Iterator[None]:
    """Turn the errors of a block into one that names the file and why it cannot be written.

    Raises
    ------
    CalibrationError
        Instead of an OSError, and of a ValueError about a path or about text.
    """
    with _naming(path, "written"):
        yield


@contextmanager
def reading(path: str | Path) -> Iterator[None]:
    """Do the same for a file that is read."""
    with _naming(path, "read"):
        yield


@contextmanager
def _naming(path: str | Path, what: str) -> Iterator[None]:
    try:
        yield
    except CalibrationError:
        raise
    except (OSError, ValueError) as error:  # a path with a null byte is a ValueError
        msg = f"{path} cannot be {what}: {reason_of(error)}"
        raise CalibrationError(msg) from error


def reason_of(error: Exception) -> str:
    """Return why a file cannot be read or written."""
    return getattr(error, "strerror", None) or str(error)
