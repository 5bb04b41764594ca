"""Loading a model in a child process before this process loads it.

A fault of onnxruntime may end its process with SIGABRT or SIGSEGV. In a child that is an
error with a name. What onnxruntime only refuses is no matter here: this process gets the same
exception when it loads the model, and words it.

Every model is loaded there, not only one with operators of other domains. No reading of a
model shows that onnxruntime will not abort on it. One child serves a whole call, and imports
onnxruntime while this process does, so that a small model waits little for it.
"""

from __future__ import annotations

import os
import pickle
import re
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, NoReturn

from quantcal import CalibrationError, _core
from quantcal._temporary import TemporaryFolder

_CHILD = Path(__file__).with_name("written_child.py")
_PYTHON = re.compile(r"(python|pypy)[\d.]*[tdw]*(\.exe)?", re.IGNORECASE)


def load_first(
    model: str | bytes,
    label: str,
    providers: Sequence[str],
    *,
    optimise: bool = False,
    config: Mapping[str, str] | None = None,
    taps: tuple[int, int] | None = None,
) -> None:
    """Load a model in a child process, which ends instead of this one if it must.

    Nothing happens where no child can be started (no Python executable, as in frozen and
    embedding programs, or one that cannot import onnxruntime), or where there is no room for
    a file of bytes.

    Parameters
    ----------
    model : str or bytes
        A path, or what the child reads from a temporary file.
    label : str
        What errors call the model.
    providers : sequence of str
    optimise, config
        As for :func:`quantcal.onnx.session.open_session`.
    taps : tuple of (int, int), optional
        The number of the recorders of ``quantcal::Observe``, and how many they are.

    Raises
    ------
    CalibrationError
        When onnxruntime ends the process.
    """
    with one_child():
        child = _here.child
        if child is None or child.useless:
            return
        with _file(model) as path:
            # A pipe can be read but once.
            if path is None or not path.is_file():
                return
            request = {
                "path": str(path.resolve()),
                "providers": list(providers),
                "optimise": optimise,
                "config": dict(config or {}),
                "library": _core.__file__ if taps else None,
                "taps": taps,
            }
            child.load(request, label)


@contextmanager
def _file(model: str | bytes) -> Iterator[Path | None]:
    """Give a model's file; None where there is no room for it."""
    if isinstance(model, str):
        yield Path(model)
        return
    with ExitStack() as stack:
        path = None
        with suppress(OSError):
            folder = TemporaryFolder()
            stack.callback(folder.close)
            file = folder.path / "model.onnx"
            file.write_bytes(model)
            path = file
        yield path


@contextmanager
def one_child() -> Iterator[None]:
    """Let one child load all models of a block; it is started at once, and ended behind it."""
    before = _here.child
    # A forked process shares the pipes of its parent's child.
    if before is not None and before.owner == os.getpid():
        yield
        return
    made = _here.child = _Child()
    try:
        yield
    finally:
        _here.child = before
        made.close()


class _Here(threading.local):
    child: _Child | None = None


_here = _Here()


class _Child:
    """A process that loads models, and is started again after it ended.

    Attributes
    ----------
    owner : int
        The process that started it.
    useless : bool
        Whether there can be none.
    """

    def __init__(self) -> None:
        self.owner = os.getpid()
        self.useless = False
        self._process: subprocess.Popen[bytes] | None = None
        self._errors: Any = None
        self._ready = False
        self._start()

    def _start(self) -> None:
        command = python_command("-")
        # No room for what it prints, or no leave to start programs.
        with suppress(OSError):
            if command is not None:
                self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - `close` does it
                self._process = subprocess.Popen(
                    command,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=self._errors,
                )
        self.useless = self._process is None

    def load(self, request: Mapping[str, Any], label: str) -> None:
        """Send a request, and wait until it is done; see :func:`load_first`."""
        try:
            content = pickle.dumps(request)
        except Exception:  # an option of a provider that only this process has
            return
        if self._ready and self._process and self._process.poll() is not None:
            self.close()  # somebody else ended it
        if self._process is None:
            self._start()
        try:
            if not self._is_ready():
                self.useless = True
                return
            if self._sent(content) and self._answered():
                return
            ended, printed = self._end()
        except BaseException:  # an interrupt: what it would answer belongs to nobody
            self.close()
            raise
        self.close()
        _refuse(label, ended, printed)

    def _is_ready(self) -> bool:
        """Wait until onnxruntime is imported; false where it cannot be."""
        if self._process is not None and not self._ready:
            self._ready = self._answered()
        return self._ready

    def _end(self) -> tuple[int, str]:
        """Wait for the end of the process; return its code and what it printed."""
        assert self._process is not None
        ended = self._process.wait()
        self._errors.seek(0)
        return ended, self._errors.read().decode(errors="replace")

    def _sent(self, content: bytes) -> bool:
        assert self._process is not None
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(content)
            self._process.stdin.flush()
        except OSError:
            return False
        return True

    def _answered(self) -> bool:
        assert self._process is not None
        assert self._process.stdout is not None
        return bool(self._process.stdout.readline())

    def close(self) -> None:
        """End the process. Closing its input would do, but not where a fork has it, too."""
        self._ready = False
        process, self._process = self._process, None
        errors, self._errors = self._errors, None
        try:
            if process is not None:
                process.kill()
                process.wait()
        finally:
            for pipe in filter(None, (process and process.stdin, errors)):
                with suppress(OSError):  # a request that nobody read
                    pipe.close()
            if process is not None and process.stdout is not None:
                process.stdout.close()


def python_command(*arguments: str) -> list[str] | None:
    """Return how to start the child; None where this Python may be another program."""
    python = _python()
    if python is None or not _CHILD.is_file():
        return None
    paths = [entry or str(Path.cwd()) for entry in sys.path]
    return [python, str(_CHILD), *arguments, *paths]


def _python() -> str | None:
    """Return the executable of this Python; None where it may be another program."""
    executable = sys.executable
    if getattr(sys, "frozen", False) or not executable:
        return None
    known = _PYTHON.fullmatch(Path(executable).name) and Path(executable).is_file()
    return executable if known else None


def end_of(code: int) -> str:
    """Return in words how a process ended: "by SIGABRT", "with exit code 3"."""
    if code >= 0:
        return f"with exit code {code}"
    try:
        return f"by {signal.Signals(-code).name}"
    except ValueError:
        return f"by signal {-code}"


def last_words(printed: str, code: int) -> str:
    """Return the last line that such a process printed, and a guess at a kill."""
    last = (printed.strip().splitlines() or ["it printed nothing"])[-1][:400]
    memory = " It may have been out of memory." if code == -9 else ""
    return f"{last.rstrip('.')}.{memory}"


def _refuse(label: str, ended: int, printed: str) -> NoReturn:
    import onnxruntime as ort

    raise CalibrationError(
        f"onnxruntime {ort.__version__} ended its process {end_of(ended)} while loading "
        f"{label}: {last_words(printed, ended)} That was a child process, and nothing is "
        "written. Load the model with onnxruntime alone. If that ends the process too, "
        "export the model in another form, or use another version of onnxruntime. If "
        "not, please report it."
    )
