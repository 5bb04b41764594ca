"""Reading a ModelProto from a path, bytes or an object, with an error for anything else."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from quantcal._core import CalibrationError
from quantcal._io.file_kinds import kind_of

if TYPE_CHECKING:
    import onnx

# The largest protobuf message. Larger files are not read.
_MAX_FILE = 1 << 31

_FORMS = "Give a path, bytes, or an onnx.ModelProto"


def read_proto(model: object) -> tuple[onnx.ModelProto, str, Path | None]:
    """Return the ModelProto, its name in errors, and its path if there is one.

    A ModelProto is copied.

    Raises
    ------
    CalibrationError
        When it is not an ONNX model. Says what it is instead, and what to do.
    """
    import onnx

    label = "the model"
    if isinstance(model, onnx.ModelProto):
        proto = onnx.ModelProto()
        proto.CopyFrom(model)
        return _check_graph(proto, label, None), label, None
    if isinstance(model, (bytes, bytearray, memoryview)):
        content = bytes(model)
        return _read(content, content, label), label, None
    if not isinstance(model, (str, os.PathLike)):
        raise CalibrationError(
            f"The model is a {_class_of(model)}. {_remedy_of(model)}"
        )
    path = Path(model)
    label = str(path)
    try:
        _check_path(path)
        content = path.read_bytes()
    except CalibrationError:
        raise
    except (OSError, ValueError) as error:  # a path with a null byte is a ValueError
        reason = getattr(error, "strerror", None) or error
        raise CalibrationError(f"Cannot read {label:.200}: {reason}.") from error
    return _read(content, path, label), label, path


def _class_of(model: object) -> str:
    return f"{type(model).__module__}.{type(model).__qualname__}".removeprefix(
        "builtins."
    )


def _remedy_of(model: object) -> str:
    if hasattr(model, "model_proto"):  # torch.onnx.ONNXProgram
        return f"{_FORMS}, here its model_proto."
    if hasattr(model, "state_dict"):
        return f"{_FORMS}. torch.onnx.export writes one."
    return f"{_FORMS}."


def _check_path(path: Path) -> None:
    if path.is_dir():
        inside = sorted(each.name for each in path.glob("*.onnx"))
        hint = f" in it: {', '.join(inside[:5])}" if inside else ", such as model.onnx"
        raise CalibrationError(f"{path} is a folder. Give the path of a model{hint}.")
    if not path.is_file():
        raise CalibrationError(f"{path} is not a file. Give the path of a model.")
    size = path.stat().st_size
    if size >= _MAX_FILE:
        kind = kind_of(path)
        if kind is not None:
            raise CalibrationError(f"{path} is {kind.what}. {kind.remedy}")
        raise CalibrationError(
            f"{path} has {size} bytes, but an ONNX model has less than 2 GiB. Larger models "
            "keep their weights in a second file. Give the path of the model itself."
        )


def _read(content: bytes, source: Path | bytes, label: str) -> onnx.ModelProto:
    import onnx

    proto = onnx.ModelProto()
    try:
        proto.ParseFromString(content)
    except Exception as error:  # of protobuf; its class depends on the version
        raise CalibrationError(_describe(source, label, str(error))) from error
    return _check_graph(proto, label, source)


def _check_graph(
    proto: onnx.ModelProto, label: str, source: Path | bytes | None
) -> onnx.ModelProto:
    if proto.graph.node:
        return proto
    if proto.ir_version and proto.HasField("graph"):
        raise CalibrationError(
            f"The graph of {label} has no nodes: there is nothing to quantize or observe."
        )
    raise CalibrationError(_describe(source, label, "its graph is missing"))


def _describe(source: Any, label: str, reason: str) -> str:
    """Return an error that says what was given, if it is recognized, and what to do."""
    kind = None if source is None else kind_of(source)
    if kind is not None:
        return f"{label} is {kind.what}. {kind.remedy}"
    return (
        f"{label} is not an ONNX model, or it is damaged or truncated: {reason}. Download "
        "or export it again."
    )
