"""Loading and running a written model in a child process, before anybody trusts it.

Where onnxruntime ends that process, it is an error with a name, and nothing is left behind.
"""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from quantcal._core import CalibrationError
from quantcal.onnx._runtime.load_first import Answer, ask_child
from quantcal.onnx._runtime.memory_groups import run
from quantcal.onnx._runtime.session import open_session

if TYPE_CHECKING:
    from quantcal.onnx._graph.inputs import Sample

_PROVIDERS = ["CPUExecutionProvider"]


def check_written(path: Path, label: str, sample: Sample | None) -> None:
    """Load a model in onnxruntime, and run it when there is a sample.

    It happens in a child process. Where none can be started
    (:func:`quantcal.onnx._runtime.load_first.ask_child`), it happens here.

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
    answer = _in_child(path, sample)
    if answer is None or answer.stage == "unfit":
        _here(path, label, sample)
    elif answer.stage == "loads":
        message = answer.message
        for known in (str(path.resolve()), str(path)):
            message = message.replace(known, label)
        raise CalibrationError(f"onnxruntime cannot load {label}: {message}")
    elif answer.stage == "runs" and sample is not None:
        raise CalibrationError(_failed(label, sample, answer.message))
    elif answer.ended:
        raise CalibrationError(
            f"onnxruntime ended its process {answer.message} while {answer.stage} {label}. "
            "The output is as it was. Leave the nodes in question in float (exclude=), and "
            "please report it."
        )


def _here(path: Path, label: str, sample: Sample | None) -> None:
    session = open_session(str(path), label, _PROVIDERS, optimise=True)
    if sample is not None:
        names = [value.name for value in session.get_outputs()]
        run(session, names, sample.feed, f"{label}, {sample.where}")


def _in_child(path: Path, sample: Sample | None) -> Answer | None:
    try:
        content = None if sample is None else pickle.dumps(sample.feed)
    except Exception:  # an input of a type that only this process has
        return None
    return ask_child(str(path), _PROVIDERS, optimise=True, sample=content)


def _failed(label: str, sample: Sample, message: str) -> str:
    shapes = {name: list(np.shape(array)) for name, array in sample.feed.items()}
    return (
        f"onnxruntime failed on {label}, {sample.where} with shapes {shapes}: {message}"
    )
