"""What was probably meant by an argument of a wrong kind, for error messages."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Any

from quantcal._text import shown

_MAX = 60
"""Characters of a value in a message."""

_READERS = {
    ".npy": "numpy.load({})",
    ".npz": "numpy.load({})",
    ".json": "quantcal.CalibrationTable.load({})",
    ".onnx": "quantcal.onnx.observe({}, samples)",
}
"""What reads a file, by the end of its name; histograms may have any."""


def is_path(value: object) -> bool:
    """Whether a value is text or a path."""
    return isinstance(value, (str, os.PathLike))


def reader_of(path: object) -> str:
    """Return the call that reads a file, for text or a path."""
    text = os.fspath(path) if isinstance(path, os.PathLike) else path
    name = shown(text, _MAX)
    ending = PurePath(str(text)).suffix.lower()
    return _READERS.get(ending, "quantcal.load({})").format(name)


def load_hint(value: object) -> str:
    """Return the end of a message that a calibrator is wanted; empty if no path is given."""
    if not is_path(value) or (isinstance(value, str) and not PurePath(value).suffix):
        return ""
    return f"; {reader_of(value)} reads a file"


def array_fault(values: Any) -> str | None:
    """Return what is wrong with values that are evidently no array; None for all others."""
    if is_path(values):
        text = shown(os.fspath(values), _MAX)
        return f"{text} is text, not an array{load_hint(values)}"
    if type(values).__name__ == "Calibrator":
        return (
            "a Calibrator holds several tensors; name one, such as calibrator[name], or "
            "take calibrator.compute() for all"
        )
    if isinstance(values, Mapping):
        return (
            f"{type(values).__name__} is not an array: give its arrays one by one, or all "
            "to Calibrator.observe_many"
        )
    return None


def list_fault(values: Any, array: Any) -> str | None:
    """Return what is wrong with a list that is no array of floats; None for other values."""
    if not isinstance(values, Sequence) or isinstance(values, (bytes, bytearray)):
        return None
    kind = type(values).__name__
    if array is None:
        return (
            f"{kind} cannot be read as an array: its parts differ in shape; give them one "
            "by one"
        )
    if array.dtype.kind in "US":
        return f"the {kind} holds text ({shown(values[0], _MAX)}), not numbers"
    if array.dtype.kind in "iub":
        return (
            f"the {kind} holds elements of type {array.dtype}; give "
            "numpy.asarray(values, numpy.float32)"
        )
    return None


def swap_hint(name: object, values: object) -> str:
    """Return the end of a message on a name that is none, if name and values are swapped."""
    if not isinstance(values, str):
        return ""
    kind = "array" if hasattr(name, "__array__") else "values"
    return f"; the arguments are swapped: observe({shown(values, _MAX)}, {kind})"
