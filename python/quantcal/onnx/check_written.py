"""Loading and running a written model in a process of its own, before anybody trusts it.

A fault of onnxruntime may end its process with SIGABRT or SIGSEGV. In a child that is an
error with a name, and nothing is left behind.
"""

from __future__ import annotations

import pickle
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import numpy as np

from quantcal import CalibrationError
from quantcal.onnx.load_first import end_of, last_words, python_command
from quantcal.onnx.session import open_session
from quantcal.onnx.sizes import run

if TYPE_CHECKING:
    from quantcal.onnx.inputs import Feed

_PROVIDERS = ["CPUExecutionProvider"]


def check_written(path: Path, label: str, sample: Feed | None) -> None:
    """Load a model in onnxruntime, and run it when there is a sample.

    It happens in a child process. Where none can be started (no Python executable, as in
    frozen and embedding programs, or one that cannot import onnxruntime), it happens here.

    Parameters
    ----------
    path : Path
    label : str
        What errors call the model.
    sample : feed, optional

    Raises
    ------
    CalibrationError
        When onnxruntime refuses the model, fails on the sample, or ends the process.
    """
    if not _in_child(path, label, sample):
        _here(path, label, sample)


def _here(path: Path, label: str, sample: Feed | None) -> None:
    session = open_session(str(path), label, _PROVIDERS, optimise=True)
    if sample is not None:
        names = [value.name for value in session.get_outputs()]
        run(session, names, sample, f"{label}, sample 0")


def _in_child(path: Path, label: str, sample: Feed | None) -> bool:
    """Do the check in a child; return whether there was one."""
    try:
        feed = None if sample is None else pickle.dumps(sample)
    except Exception:  # an input of a type that only this process has
        return False
    with tempfile.TemporaryDirectory(prefix="quantcal-") as folder:
        request = pickle.dumps((str(path.resolve()), _PROVIDERS, feed))
        errors = Path(folder) / "errors"
        command = python_command(folder)
        if command is None:
            return False
        try:
            (Path(folder) / "request.pickle").write_bytes(request)
            ended = _wait(command, errors)
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
    if stage == "runs":
        raise CalibrationError(_failed(label, sample or {}, message))
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


def _failed(label: str, sample: Feed, message: str) -> str:
    shapes = {name: list(np.shape(array)) for name, array in sample.items()}
    return f"onnxruntime failed on {label}, sample 0 with shapes {shapes}: {message}"


def _refuse(label: str, stage: str, ended: int, printed: str) -> NoReturn:
    """Raise what became of a process that did not come to its end."""
    doing = {"started": "loading", "running": "running"}.get(stage, "closing")
    raise CalibrationError(
        f"onnxruntime ended its process {end_of(ended)} while {doing} {label}: "
        f"{last_words(printed, ended)} The output is as it was. Leave the nodes in question "
        "in float (exclude=), and please report it."
    )
