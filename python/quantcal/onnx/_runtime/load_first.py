"""Loading a model in a child process before this process loads it.

A fault of onnxruntime may end its process with SIGABRT or SIGSEGV. In a child that is an
error with a name.

Every model is loaded there, not only those with operators of other domains. No inspection of
a model proves that onnxruntime loads it without an abort. One child serves a whole call. It
imports onnxruntime while this process does, so that a small model hardly waits for it.
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

_CHILD = Path(__file__).with_name("loading_child.py")
_PYTHON = re.compile(r"(python|pypy)[\d.]*[tdw]*(\.exe)?", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of a model in the child.

    Attributes
    ----------
    stage : str
        ``"done"``; ``"loads"`` or ``"runs"`` where that raised an exception; ``"unfit"`` where
        the sample cannot be given to onnxruntime there; ``"loading"``, ``"running"`` or
        ``"closing"`` where the process ended meanwhile.
    message : str
        Of the exception. Or how the process ended, and its last line.
    """

    stage: str
    message: str

    @property
    def ended(self) -> bool:
        """Whether onnxruntime ended its process."""
        return self.stage in ("loading", "running", "closing")


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

    An exception there is ignored. This process gets the same one when it loads the model.

    Parameters
    ----------
    model, providers, optimise, config, taps
        As for :func:`ask_child`.
    label : str
        What errors call the model.

    Raises
    ------
    CalibrationError
        When onnxruntime ends the process.
    """
    answer = ask_child(model, providers, optimise=optimise, config=config, taps=taps)
    if answer is not None and answer.ended:
        import onnxruntime as ort

        raise CalibrationError(
            f"onnxruntime {ort.__version__} ended its process {answer.message} while "
            f"{answer.stage} {label}. It was a child process, and nothing is written. Load "
            "the model with onnxruntime alone. If that ends the process too, export the "
            "model in another form, or use another version of onnxruntime. If not, please "
            "report it."
        )


def ask_child(
    model: str | bytes,
    providers: Sequence[str],
    *,
    optimise: bool = False,
    config: Mapping[str, str] | None = None,
    taps: tuple[int, int] | None = None,
    sample: bytes | None = None,
) -> Answer | None:
    """Load a model in a child process, and run it when there is a sample.

    Parameters
    ----------
    model : str or bytes
        A path, or what the child reads from a temporary file.
    providers : sequence of str
    optimise, config
        As for :func:`quantcal.onnx._runtime.session.open_session`.
    taps : tuple of (int, int), optional
        The number of the recorders of ``quantcal::Observe``, and how many they are.
    sample : bytes, optional
        A pickled feed.

    Returns
    -------
    Answer, optional
        None where no child can be started (no Python executable, as in frozen and embedding
        programs, or one that cannot import onnxruntime), or there is no room for a file.
    """
    with one_child(), ExitStack() as stack:
        child = _here.child
        if child is None or child.useless:
            return None
        path = _file(model, stack)
        # A pipe can be read but once.
        if path is None or not path.is_file():
            return None
        request = {
            "path": str(path.resolve()),
            "providers": list(providers),
            "optimise": optimise,
            "config": dict(config or {}),
            "library": _core.__file__ if taps else None,
            "taps": taps,
            "sample": sample,
        }
        try:
            content = pickle.dumps(request)
        except Exception:  # an option of a provider that only this process has
            return None
        return child.ask(content)


def _file(model: str | bytes, stack: ExitStack) -> Path | None:
    """Return a model's file; None where there is no room for it."""
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
def one_child() -> Iterator[None]:
    """Let one child serve a block. It starts at once and ends with the block."""
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
        command = _command()
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

    def ask(self, request: bytes) -> Answer | None:
        """Send a request, and wait for the answer; see :func:`ask_child`."""
        if self._ready and self._process and self._process.poll() is not None:
            self.close()  # somebody else ended it
        if self._process is None:
            self._start()
        try:
            return self._asked(request)
        except BaseException:  # after an interrupt nobody reads the answer
            self.close()
            raise

    def _asked(self, request: bytes) -> Answer | None:
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
        """Return a stage and its message; nothing when the process has ended."""
        assert self._process is not None
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        read: list[str] = json.loads(line) if line.endswith(b"\n") else []
        return read

    def _printed(self) -> str:
        self._errors.seek(0)
        return str(self._errors.read().decode(errors="replace"))

    def close(self) -> None:
        """End the process. A closed input does not end it where a fork holds the input too."""
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
                with suppress(OSError):  # a request that nobody read
                    file.close()


def _command() -> list[str] | None:
    """Return how to start the child."""
    python = _python()
    if python is None or not _CHILD.is_file():
        return None
    return [python, str(_CHILD), *(entry or str(Path.cwd()) for entry in sys.path)]


def _python() -> str | None:
    """Return the executable of this Python; None where it may be another program."""
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
