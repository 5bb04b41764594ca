"""Loading a model in a child process before this process loads it.

A defect of onnxruntime may end its process with SIGABRT or SIGSEGV. In a child process,
this becomes an error that names the model.

Every model is loaded there first, because no inspection proves that onnxruntime loads it
without an abort. One child serves a whole call. It imports onnxruntime in parallel with this
process, which costs a small model little time.
"""

from __future__ import annotations

import json
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
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from quantcal import _core
from quantcal._core import CalibrationError
from quantcal._io.temporary import TemporaryFolder

_SCRIPT = Path(__file__).with_name("child_script.py")
# Names of executables that run a script. `sys.executable` of an embedded Python may be any
# other program, such as uwsgi.
_PYTHON = re.compile(r"(python|pypy)[\d.]*[tdw]*(\.exe)?", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Answer:
    """The outcome of loading a model in the child.

    Attributes
    ----------
    stage : str
        ``"done"`` after success. ``"loads"`` or ``"runs"`` if that raised an exception.
        ``"unfit"`` if the child cannot pass the sample to onnxruntime. ``"loading"``,
        ``"running"`` or ``"closing"`` if the process ended at that stage.
    message : str
        The message of the exception. Or how the process ended, and its last line.
    """

    stage: str
    message: str

    @property
    def ended(self) -> bool:
        """Whether the process ended before it was done."""
        return self.stage in ("loading", "running", "closing")


def load_in_child(
    model: str | bytes,
    label: str,
    providers: Sequence[str],
    *,
    optimize: bool = False,
    config: Mapping[str, str] | None = None,
    taps: tuple[int, int] | None = None,
) -> None:
    """Load a model in a child process, so that an abort does not end this process.

    Exceptions are ignored: this process raises the same one when it loads the model.

    Parameters
    ----------
    model, providers, optimize, config, taps
        As for :func:`ask_child`.
    label : str
        The name of the model in errors.

    Raises
    ------
    CalibrationError
        When onnxruntime ends the process.
    """
    answer = ask_child(model, providers, optimize=optimize, config=config, taps=taps)
    if answer is not None and answer.ended:
        import onnxruntime as ort

        raise CalibrationError(
            f"onnxruntime {ort.__version__} ended its process {answer.message} while "
            f"{answer.stage} {label}. It was a child process, and nothing was written. Load "
            "the model with onnxruntime alone. If this ends the process too, export the "
            "model in another form, or use another version of onnxruntime. If not, please "
            "report it."
        )


def ask_child(
    model: str | bytes,
    providers: Sequence[str],
    *,
    optimize: bool = False,
    config: Mapping[str, str] | None = None,
    taps: tuple[int, int] | None = None,
    sample: bytes | None = None,
) -> Answer | None:
    """Load a model in a child process, and run it when there is a sample.

    Parameters
    ----------
    model : str or bytes
        A path, or the content, which the child reads from a temporary file.
    providers : sequence of str
    optimize, config
        As for :func:`quantcal.onnx._runtime.session.open_session`.
    taps : tuple of (int, int), optional
        The identifier of a set of recorders for ``quantcal::Observe``, and their count.
    sample : bytes, optional
        A pickled feed.

    Returns
    -------
    Answer, optional
        None when no child can be started, or the disk has no room for the model. Frozen
        and embedding programs, for example, have no Python executable.
    """
    with shared_child(), ExitStack() as stack:
        child = _current.child
        if child is None or child.useless:
            return None
        path = _file(model, stack)
        # A pipe can be read only once, so the child leaves it to this process.
        if path is None or not path.is_file():
            return None
        request = {
            "path": str(path.resolve()),
            "providers": list(providers),
            "optimize": optimize,
            "config": dict(config or {}),
            "library": _core.__file__ if taps else None,
            "taps": taps,
            "sample": sample,
        }
        try:
            content = pickle.dumps(request)
        except Exception:  # a provider option that cannot be pickled
            return None
        return child.ask(content)


def _file(model: str | bytes, stack: ExitStack) -> Path | None:
    """Return the file of a model; None when the disk has no room for it."""
    if isinstance(model, str):
        return Path(model)
    try:
        folder = TemporaryFolder()
        stack.callback(folder.close)
        path = folder.path / "model.onnx"
        path.write_bytes(model)
    except OSError:
        return None
    return path


@contextmanager
def shared_child() -> Iterator[None]:
    """Use one child for a whole block. It starts at once and ends with the block."""
    before = _current.child
    # A forked process must not use its parent's child: both would read the same pipe.
    if before is not None and before.owner == os.getpid():
        yield
        return
    made = _current.child = _Child()
    try:
        yield
    finally:
        _current.child = before
        made.close()


class _Current(threading.local):
    child: _Child | None = None


_current = _Current()


class _Child:
    """A process that loads models. It is started again after it ended.

    Attributes
    ----------
    owner : int
        The process ID of the parent.
    useless : bool
        Whether no child can be started.
    """

    def __init__(self) -> None:
        self.owner = os.getpid()
        self.useless = False
        self._process: subprocess.Popen[bytes] | None = None
        self._errors: Any = None
        self._ready = False
        self._start()

    def _start(self) -> None:
        command = _command()
        # The disk may be full, or starting programs may be forbidden.
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

    def ask(self, request: bytes) -> Answer | None:
        """Send a request, and wait for the answer. See :func:`ask_child`."""
        if self._ready and self._process and self._process.poll() is not None:
            self.close()  # another process killed it
        if self._process is None:
            self._start()
        try:
            return self._exchange(request)
        except BaseException:  # the answer to an interrupted request stays unread
            self.close()
            raise

    def _exchange(self, request: bytes) -> Answer | None:
        process = self._process
        if process is None or process.stdin is None:
            return None
        if not self._ready and not self._read():
            self.useless = True  # onnxruntime could not be imported
            return None
        self._ready = True
        with suppress(BrokenPipeError):
            process.stdin.write(request)
            process.stdin.flush()
        answer = Answer("loading", "")
        while read := self._read():
            answer = Answer(*read)
            if not answer.ended:
                return answer
        end = _end_of(process.wait(), self._printed())
        self.close()
        return Answer(answer.stage, end)

    def _read(self) -> list[str]:
        """Return a stage and its message, or an empty list when the process has ended."""
        assert self._process is not None
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        read: list[str] = json.loads(line) if line.endswith(b"\n") else []
        return read

    def _printed(self) -> str:
        self._errors.seek(0)
        return str(self._errors.read().decode(errors="replace"))

    def close(self) -> None:
        """End the process."""
        # Closing its input is not enough: a forked process may hold that input open.
        self._ready = False
        process, self._process = self._process, None
        errors, self._errors = self._errors, None
        try:
            if process is not None:
                process.kill()
                process.wait()
        finally:
            pipes = (process.stdin, process.stdout) if process else ()
            for file in filter(None, (*pipes, errors)):
                with suppress(OSError):  # flushes a request that was not read
                    file.close()


def _command() -> list[str] | None:
    """Return the command of the child, or None without a Python executable."""
    python = _python()
    if python is None or not _SCRIPT.is_file():
        return None
    return [python, str(_SCRIPT), *(entry or str(Path.cwd()) for entry in sys.path)]


def _python() -> str | None:
    """Return the Python executable, or None when it may be another program."""
    executable = sys.executable
    if getattr(sys, "frozen", False) or not executable:
        return None
    known = _PYTHON.fullmatch(Path(executable).name) and Path(executable).is_file()
    return executable if known else None


def _end_of(code: int, printed: str) -> str:
    """Return how a process ended, and the last line that it printed."""
    how = f"with exit code {code}"
    if code < 0:
        try:
            how = f"by {signal.Signals(-code).name}"
        except ValueError:
            how = f"by signal {-code}"
    if code == -9:
        how += " (it may have been out of memory)"
    lines = printed.strip().splitlines() or ["it printed nothing"]
    return f"{how} ({lines[-1][:400].rstrip('.')})"
