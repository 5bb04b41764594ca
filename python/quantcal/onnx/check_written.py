"""Loading and running a written model in a child process, before anybody trusts it.

Where onnxruntime ends that process, it is an error with a name, and nothing is left behind.
"""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from quantcal import CalibrationError
from quantcal.onnx.load_first import Answer, ask_child
from quantcal.onnx.session import open_session
from quantcal.onnx.sizes import run

if TYPE_CHECKING:
    from quantcal.onnx.inputs import Feed

_PROVIDERS = ["CPUExecutionProvider"]


def check_written(path: Path, label: str, sample: Feed | None) -> None:
    """Load a model in onnxruntime, and run it when there is a sample.

    It happens in a child process. Where none can be started
    (:func:`quantcal.onnx.load_first.ask_child`), it happens here.

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
    answer = _in_child(path, sample)
    if answer is None or answer.stage == "unfit":
        _here(path, label, sample)
    elif answer.stage == "loads":
        message = answer.message
        for known in (str(path.resolve()), str(path)):
            message = message.replace(known, label)
        raise CalibrationError(f"onnxruntime cannot load {label}: {message}")
    elif answer.stage == "runs":
        raise CalibrationError(_failed(label, sample or {}, answer.message))
    elif answer.ended:
        raise CalibrationError(
            f"onnxruntime ended its process {answer.message} while {answer.stage} {label}. "
            "The output is as it was. Leave the nodes in question in float (exclude=), and "
            "please report it."
        )


def _here(path: Path, label: str, sample: Feed | None) -> None:
    session = open_session(str(path), label, _PROVIDERS, optimise=True)
    if sample is not None:
        names = [value.name for value in session.get_outputs()]
        run(session, names, sample, f"{label}, sample 0")


def _in_child(path: Path, sample: Feed | None) -> Answer | None:
    try:
        content = None if sample is None else pickle.dumps(sample)
    except Exception:  # an input of a type that only this process has
        return None
    return ask_child(str(path), _PROVIDERS, optimise=True, sample=content)


def _failed(label: str, sample: Feed, message: str) -> str:
    shapes = {name: list(np.shape(array)) for name, array in sample.items()}
    return f"onnxruntime failed on {label}, sample 0 with shapes {shapes}: {message}"
