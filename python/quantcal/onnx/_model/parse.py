"""Reading a model's message from whatever a caller gives, or saying what that is instead."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from quantcal._core import CalibrationError
from quantcal._io.file_kinds import kind_of

if TYPE_CHECKING:
    import onnx

# A protobuf message ends there, and so does what is read into memory to see.
_MAX_FILE = 1 << 31

_FORMS = "Give a path, bytes, or an onnx.ModelProto"


def parse_model(model: object) -> tuple[onnx.ModelProto, str, Path | None]:
    """Return the message, the name that errors call it by, and the path if there is one.

    A ModelProto is copied.

    Raises
    ------
    CalibrationError
        When it is no ONNX model; says what it is, and what to do.
    """
    import onnx

    label = "the model"
    if isinstance(model, onnx.ModelProto):
        proto = onnx.ModelProto()
        proto.CopyFrom(model)
        return _checked(proto, label, None), label, None
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
        return f"{_FORMS}: here, its model_proto."
    if hasattr(model, "state_dict"):
        return f"{_FORMS}, which torch.onnx.export makes of it."
    return f"{_FORMS}."


def _check_path(path: Path) -> None:
    if path.is_dir():
        inside = sorted(each.name for each in path.glob("*.onnx"))
        hint = f" in it: {', '.join(inside[:5])}" if inside else ", such as model.onnx"
        raise CalibrationError(f"{path} is a folder. Give the path of a model{hint}.")
    if not path.is_file():
        raise CalibrationError(f"{path} is no file. Give the path of a model.")
    size = path.stat().st_size
    if size >= _MAX_FILE:
        kind = kind_of(path)
        if kind is not None:
            raise CalibrationError(f"{path} is {kind.what}. {kind.remedy}")
        raise CalibrationError(
            f"{path} has {size} bytes, but an ONNX model ends at 2 GiB: larger ones keep "
            "their weights in a second file. Give the path of the model itself."
        )


def _read(content: bytes, source: Path | bytes, label: str) -> onnx.ModelProto:
    import onnx

    proto = onnx.ModelProto()
    try:
        proto.ParseFromString(content)
    except Exception as error:  # protobuf's own, whose class differs between versions
        raise CalibrationError(_what(source, label, str(error))) from error
    return _checked(proto, label, source)


def _checked(
    proto: onnx.ModelProto, label: str, source: Path | bytes | None
) -> onnx.ModelProto:
    if proto.graph.node:
        return proto
    if proto.ir_version and proto.HasField("graph"):
        raise CalibrationError(
            f"The graph of {label} has no nodes: there is nothing to quantize or observe."
        )
    raise CalibrationError(_what(source, label, "its graph is missing"))


def _what(source: Any, label: str, reason: str) -> str:
    """Say what was given, if that can be seen, and what to do."""
    kind = None if source is None else kind_of(source)
    if kind is not None:
        return f"{label} is {kind.what}. {kind.remedy}"
    return (
        f"{label} is no ONNX model, or it is damaged or cut short: {reason}. Fetch or "
        "export it again."
    )
