"""Loading and running a written model in a process of its own, before anybody trusts it.

A fault of onnxruntime may end its process with SIGABRT or SIGSEGV. In a child that is an
error with a name, and nothing is left behind.
"""

from __future__ import annotations

import pickle
import re
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import numpy as np

from quantcal._core import CalibrationError
from quantcal.onnx._runtime.memory_groups import run
from quantcal.onnx._runtime.session import open_session

if TYPE_CHECKING:
    from quantcal.onnx._graph.inputs import Sample

_PROVIDERS = ["CPUExecutionProvider"]
_CHILD = Path(__file__).with_name("trial_process.py")
_PYTHON = re.compile(r"(python|pypy)[\d.]*[tdw]*(\.exe)?", re.IGNORECASE)


def check_written(path: Path, label: str, sample: Sample | None) -> None:
    """Load a model in onnxruntime, and run it when there is a sample.

    It happens in a child process. Where none can be started (no Python executable, as in
    frozen and embedding programs, or one that cannot import onnxruntime), it happens here.

    Parameters
    ----------
    path : Path
    label : str
        What errors call the model.
    sample : Sample, optional

    Raises
    ------
    CalibrationError
        When onnxruntime refuses the model, fails on the sample, or ends the process.
    """
    if not _in_child(path, label, sample):
        _here(path, label, sample)


def _here(path: Path, label: str, sample: Sample | None) -> None:
    session = open_session(str(path), label, _PROVIDERS, optimise=True)
    if sample is not None:
        names = [value.name for value in session.get_outputs()]
        run(session, names, sample.feed, f"{label}, {sample.where}")


def _python() -> str | None:
    """Return the executable of this Python; None where it may be another program."""
    executable = sys.executable
    if getattr(sys, "frozen", False) or not executable:
        return None
    known = _PYTHON.fullmatch(Path(executable).name) and Path(executable).is_file()
    return executable if known else None


def _in_child(path: Path, label: str, sample: Sample | None) -> bool:
    """Do the check in a child; return whether there was one."""
    python = _python()
    if python is None or not _CHILD.is_file():
        return False
    try:
        feed = None if sample is None else pickle.dumps(sample.feed)
    except Exception:  # an input of a type that only this process has
        return False
    with tempfile.TemporaryDirectory(prefix="quantcal-") as folder:
        request = pickle.dumps((str(path.resolve()), _PROVIDERS, feed))
        errors = Path(folder) / "errors"
        paths = [entry or str(Path.cwd()) for entry in sys.path]
        try:
            (Path(folder) / "request.pickle").write_bytes(request)
            ended = _wait([python, str(_CHILD), folder, *paths], errors)
        except OSError:  # no room for a sample, or no leave to start programs
            return False
        report = Path(folder) / "report"
        if not report.exists():  # onnxruntime could not be imported
            return False
        stage, _, message = report.read_text("utf-8").partition("\n")
        printed = errors.read_text("utf-8", errors="replace").strip()
    if stage == "unfit":
        return False
    if stage == "loads":
        message = message.replace(str(path.resolve()), label).replace(str(path), label)
        raise CalibrationError(f"onnxruntime cannot load {label}: {message}")
    if stage == "runs" and sample is not None:
        raise CalibrationError(_failed(label, sample, message))
    if stage != "done" or ended:
        _refuse(label, stage, ended, printed)
    return True


def _wait(command: list[str], errors: Path) -> int:
    """Run a program to its end, print what it prints into a file, and return its code."""
    with errors.open("wb") as file:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=file, stderr=file
        )
        try:
            return process.wait()
        except BaseException:  # an interrupt ends it, too
            process.kill()
            process.wait()
            raise


def _failed(label: str, sample: Sample, message: str) -> str:
    shapes = {name: list(np.shape(array)) for name, array in sample.feed.items()}
    where = f"{label}, {sample.where} with shapes {shapes}"
    return f"onnxruntime failed on {where}: {message}"


def _refuse(label: str, stage: str, ended: int, printed: str) -> NoReturn:
    """Raise what became of a process that did not come to its end."""
    doing = {"started": "loading", "running": "running"}.get(stage, "closing")
    how = f"with exit code {ended}"
    if ended < 0:
        how = f"by {_signal_name(-ended)}"
    last = (printed.splitlines() or ["it printed nothing"])[-1][:400].rstrip(".")
    memory = " It may have been out of memory." if ended == -9 else ""
    raise CalibrationError(
        f"onnxruntime ended its process {how} while {doing} {label}: {last}."
        f"{memory} The output is as it was. Leave the nodes in question in float "
        "(exclude=), and please report it."
    )


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
