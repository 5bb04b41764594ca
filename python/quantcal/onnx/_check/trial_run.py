"""Loading and running a written model in a child process, before it replaces the output.

If onnxruntime ends that process, the user gets an error and no file is left.
"""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from quantcal._core import CalibrationError
from quantcal.onnx._runtime.child_process import Answer, ask_child
from quantcal.onnx._runtime.memory_groups import run
from quantcal.onnx._runtime.session import open_session

if TYPE_CHECKING:
    from quantcal.onnx._graph.inputs import Sample

_PROVIDERS = ["CPUExecutionProvider"]


def check_written(path: Path, label: str, sample: Sample | None) -> None:
    """Load a model in onnxruntime, and run it when there is a sample.

    This happens in a child process. If none can be started, it happens in this process
    (:func:`quantcal.onnx._runtime.child_process.ask_child`).

    Parameters
    ----------
    path : Path
    label : str
        The name of the model in errors.
    sample : Sample, optional

    Raises
    ------
    CalibrationError
        When onnxruntime refuses the model, fails on the sample, or ends its process.
    """
    answer = _in_child(path, sample)
    if answer is None or answer.stage == "unfit":
        _in_this_process(path, label, sample)
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
            "The output file is unchanged. Leave the affected nodes in float (exclude=), and "
            "please report it."
        )


def _in_this_process(path: Path, label: str, sample: Sample | None) -> None:
    session = open_session(str(path), label, _PROVIDERS, optimize=True)
    if sample is not None:
        names = [value.name for value in session.get_outputs()]
        run(session, names, sample.feed, f"{label}, {sample.where}")


def _in_child(path: Path, sample: Sample | None) -> Answer | None:
    try:
        content = None if sample is None else pickle.dumps(sample.feed)
    except Exception:  # an input that cannot be pickled
        return None
    return ask_child(str(path), _PROVIDERS, optimize=True, sample=content)


def _failed(label: str, sample: Sample, message: str) -> str:
    shapes = {name: list(np.shape(array)) for name, array in sample.feed.items()}
    return (
        f"onnxruntime failed on {label}, {sample.where} with shapes {shapes}: {message}"
    )
