"""Temporary files: beside their target, or in the system's folder; cleaned up after a kill.

Beside a target ``m.onnx`` stands ``.m.onnx.0.quantcal-tmp`` while it is written, and for a
model the folder ``.m.onnx.0.quantcal-tmp.d``. Other temporary files are in folders
``quantcal-…`` of the system's temporary folder, each with a file ``.quantcal-lock``.

Their process holds a lock on them (flock), which the system drops when the process ends, in
whatever way. So what can be locked is left over: of a process that was killed, on this
machine or on another one that shares the folder. The next writing of the same target removes
it, and the next temporary folder those of the same user. Where there are no such locks
(Windows, some network file systems), nothing is removed.
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

# So many names are looked at; more writers of one target at once are rare.
_SLOTS = 8

# A file's name has at most 255 bytes on nearly every system; ours adds less than 40.
_LONGEST = 200

# Errors of file systems that cannot tell when something is on the disk.
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
        """Let the file be the target, once it is on the disk."""
        _sync(self._number)
        if fcntl is None:  # Windows renames no open file
            self.close()
        self.path.replace(target)
        self._placed = True
        sync_folder(target.parent)

    def folder(self) -> Path:
        """Make a folder of the same life, readable by this user only."""
        made = _folder_of(self.path)
        made.mkdir(mode=0o700)
        return made

    def remove(self) -> None:
        """Remove what was not placed; only while nobody else can have the name."""
        if self._placed or (self._number >= 0 and not _is(self._number, self.path)):
            return
        shutil.rmtree(_folder_of(self.path), ignore_errors=True)
        self.path.unlink(missing_ok=True)

    def close(self) -> None:
        """Give the lock back; a second call does nothing."""
        number, self._number = self._number, -1
        if number >= 0:
            os.close(number)


@contextmanager
def beside(target: Path) -> Iterator[Beside]:
    """Make a temporary file beside a target, and remove it unless it was placed.

    What processes that were killed left of the same target is removed.

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
    if len(os.fsencode(name)) > _LONGEST:
        name = sha256(os.fsencode(name)).hexdigest()[:32]
    slots = [target.with_name(f".{name}.{n}{_SUFFIX}") for n in range(_SLOTS)]
    for path in slots:
        _remove_left(path, path)
    more = 0
    while True:
        for path in slots:
            try:
                # The system takes the umask off, as of any new file.
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
    """Lock a file; false when another process took it for a leftover and removed it."""
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
    """Remove a file, or the folder that holds it, if nobody holds the lock on it.

    Only what belongs to this user, and is neither a link nor anything else odd.
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
        if _is(number, lock):  # whoever removes it holds the lock
            shutil.rmtree(
                _folder_of(path) if path == lock else path, ignore_errors=True
            )
            lock.unlink(missing_ok=True)
    except OSError:  # somebody holds it, or there are no locks here
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
    """Wait until a renaming is on the disk, where the system can."""
    with suppress(OSError):
        number = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(number)
        finally:
            os.close(number)


class TemporaryFolder:
    """A folder that is deleted when this object goes, or at the end of the program.

    What is still mapped goes on working where the system allows the deletion; Windows
    does not, and its temporary folder may keep the file.

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
        """Delete the folder now."""
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
