"""Temporary files: beside their target, or in the system's folder; cleaned up after a kill.

While ``m.onnx`` is written, ``.m.onnx.0.quantcal-tmp`` stands beside it, and for a model the
folder ``.m.onnx.0.quantcal-tmp.d``. Other temporary files are in folders ``quantcal-…`` of the
system's temporary folder, each with a file ``.quantcal-lock``.

Their process holds a lock on them (flock), which the system releases when the process ends. So
a file that can be locked is a leftover of a killed process, on this machine or on another one
that shares the folder. The next writer of the same target removes it. The next temporary folder
removes those of the same user. Without such locks (Windows, some network file systems), nothing
is removed.
"""

from __future__ import annotations

import errno
import os
import shutil
import stat
import tempfile
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from hashlib import sha256
from pathlib import Path

from quantcal._core import CalibrationError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

_SUFFIX = ".quantcal-tmp"
_PREFIX = "quantcal-"
_LOCK = ".quantcal-lock"

# Names that are checked; more simultaneous writers of one target are rare.
_SLOTS = 8

# A file's name has at most 255 bytes on nearly every system; the suffix has less than 40.
_MAX_NAME = 200

# Errors of file systems that do not support fsync.
_NO_SYNC = {errno.EINVAL, errno.ENOSYS, errno.ENOTSUP}

_CREATE = os.O_CREAT | os.O_EXCL | os.O_WRONLY | getattr(os, "O_BINARY", 0)


class Beside:
    """A new file beside a target, which can replace it in one step.

    Attributes
    ----------
    path
        The temporary file; empty until :meth:`write`.
    """

    def __init__(self, path: Path, number: int) -> None:
        self.path = path
        self._number = number
        self._placed = False

    def write(self, data: bytes) -> None:
        """Append to the file."""
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(self._number, rest) :]

    def place(self, target: Path) -> None:
        """Replace the target by the file, once it is on the disk."""
        _sync(self._number)
        if fcntl is None:  # Windows renames no open file
            self.close()
        self.path.replace(target)
        self._placed = True
        sync_folder(target.parent)

    def folder(self) -> Path:
        """Make a folder with the same lifetime, readable by this user only."""
        made = _folder_of(self.path)
        made.mkdir(mode=0o700)
        return made

    def remove(self) -> None:
        """Remove the file unless it was placed; not if another process has its name now."""
        if self._placed or (self._number >= 0 and not _is(self._number, self.path)):
            return
        shutil.rmtree(_folder_of(self.path), ignore_errors=True)
        self.path.unlink(missing_ok=True)

    def close(self) -> None:
        """Release the lock; a second call does nothing."""
        number, self._number = self._number, -1
        if number >= 0:
            os.close(number)


@contextmanager
def beside(target: Path) -> Iterator[Beside]:
    """Make a temporary file beside a target, and remove it unless it was placed.

    Leftovers of killed processes with the same target are removed.

    Raises
    ------
    OSError
        When it cannot be made.
    """
    new = Beside(*_new(target))
    try:
        yield new
    finally:  # after an interruption, too
        new.remove()
        new.close()


def _new(target: Path) -> tuple[Path, int]:
    name = target.name
    if len(os.fsencode(name)) > _MAX_NAME:
        name = sha256(os.fsencode(name)).hexdigest()[:32]
    slots = [target.with_name(f".{name}.{n}{_SUFFIX}") for n in range(_SLOTS)]
    for path in slots:
        _remove_left(path, path)
    more = 0
    while True:
        for path in slots:
            try:
                # The system applies the umask, as to any new file.
                number = os.open(path, _CREATE, 0o666)
            except FileExistsError:
                continue
            if _hold(number, path):
                return path, number
            os.close(number)
        more += _SLOTS
        slots = [
            target.with_name(f".{name}.{n}{_SUFFIX}")
            for n in range(more, more + _SLOTS)
        ]


def _folder_of(path: Path) -> Path:
    return path.with_name(f"{path.name}.d")


def _hold(number: int, path: Path) -> bool:
    """Lock a file; False if another process removed it as a leftover."""
    if fcntl is None:
        return True
    with suppress(OSError):  # no locks here: nobody else can lock it either
        fcntl.flock(number, fcntl.LOCK_EX)
    return _is(number, path)


def _is(number: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(number), os.lstat(path))
    except OSError:
        return False


def _remove_left(lock: Path, path: Path) -> None:
    """Remove a file, or the folder that holds it, if no process holds the lock on it.

    Only regular files of this user are removed, no links.
    """
    if fcntl is None or not os.path.lexists(lock):
        return
    try:
        number = os.open(lock, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return
    try:
        found = os.fstat(number)
        if not stat.S_ISREG(found.st_mode) or found.st_uid != os.geteuid():
            return
        fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if _is(number, lock):  # only the holder of the lock removes it
            shutil.rmtree(
                _folder_of(path) if path == lock else path, ignore_errors=True
            )
            lock.unlink(missing_ok=True)
    except OSError:  # a process holds it, or there are no locks here
        return
    finally:
        os.close(number)


def sync(path: Path) -> None:
    """Wait until a file's content is on the disk."""
    number = os.open(path, os.O_RDWR | getattr(os, "O_BINARY", 0))
    try:
        _sync(number)
    finally:
        os.close(number)


def _sync(number: int) -> None:
    try:
        os.fsync(number)
    except OSError as error:
        if error.errno not in _NO_SYNC:
            raise


def sync_folder(folder: Path) -> None:
    """Wait until a rename is on the disk, where the system supports it."""
    with suppress(OSError):
        number = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(number)
        finally:
            os.close(number)


class TemporaryFolder:
    """A folder that is deleted with this object, or at the end of the program.

    Mapped files stay usable where the system allows their deletion. Windows does not, and its
    temporary folder may keep the file.

    Raises
    ------
    OSError
        When it cannot be made.
    """

    def __init__(self) -> None:
        _remove_old_folders()
        while True:
            self.path = Path(tempfile.mkdtemp(prefix=_PREFIX))
            lock = self.path / _LOCK
            number = os.open(lock, _CREATE, 0o600)
            if _hold(number, lock):
                break
            os.close(number)
        self._remove = weakref.finalize(
            self, _remove_folder, self.path, number, os.getpid()
        )
        _FOLDERS.add(self)

    def close(self) -> None:
        """Delete the folder."""
        self._remove()


_FOLDERS: weakref.WeakSet[TemporaryFolder] = weakref.WeakSet()


@contextmanager
def working() -> Iterator[None]:
    """Name the system's temporary folder in the errors of a block that writes there.

    Raises
    ------
    CalibrationError
        Instead of an OSError.
    """
    try:
        yield
    except OSError as error:
        try:
            place = tempfile.gettempdir()
        except OSError:  # there is none
            place = "The system's temporary folder"
        raise CalibrationError(
            f"{place} cannot be written: {error.strerror or error}. Make room there, or "
            "set TMPDIR to another folder."
        ) from error


def close_folders() -> None:
    """Delete all temporary folders of this process, before it ends."""
    for folder in list(_FOLDERS):
        folder.close()


def _remove_folder(path: Path, number: int, owner: int) -> None:
    # A forked child has a copy of the object, but the folder is its parent's.
    if os.getpid() == owner:
        shutil.rmtree(path, ignore_errors=True)
    with suppress(OSError):
        os.close(number)


def _remove_old_folders() -> None:
    """Remove folders of processes that were killed."""
    if fcntl is None:
        return
    with suppress(OSError), os.scandir(tempfile.gettempdir()) as entries:
        for entry in entries:
            if entry.name.startswith(_PREFIX) and entry.is_dir(follow_symlinks=False):
                _remove_left(Path(entry.path, _LOCK), Path(entry.path))
