"""Reading a model's message from whatever a caller gives, or saying what that is instead."""

from __future__ import annotations

import os
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from quantcal import CalibrationError
from quantcal._kinds import kind_of

if TYPE_CHECKING:
    import onnx

# A protobuf message ends there, and so does what is read into memory to see.
_MAX_FILE = 1 << 31

_FORMS = "Give a path, bytes, or an onnx.ModelProto"


@dataclass(frozen=True, slots=True)
class Parsed:
    """A model's message, and what it was read from.

    Attributes
    ----------
    proto : ModelProto
        Of our own.
    label : str
        The name that errors call it by.
    path : Path, optional
        None when it came as an object.
    text : bool
        Whether it was written as text, which onnxruntime does not read.
    """

    proto: onnx.ModelProto
    label: str
    path: Path | None = None
    text: bool = False


def parse_model(model: object) -> Parsed:
    """Read a path, bytes, or a ModelProto, which is copied.

    Text forms of ONNX (onnxtxt, textproto, JSON) are read too,
    whatever their file is called.

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
        return Parsed(_checked(proto, label, None), label)
    if isinstance(model, (bytes, bytearray, memoryview)):
        content = bytes(model)
        proto, text = _read(content, content, label)
        return Parsed(proto, label, None, text)
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
    proto, text = _read(content, path, label)
    return Parsed(proto, label, path, text)


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


def _read(
    content: bytes, source: Path | bytes, label: str
) -> tuple[onnx.ModelProto, bool]:
    """Return the message, and whether it was written as text."""
    import onnx

    proto = onnx.ModelProto()
    try:
        proto.ParseFromString(content)
    except Exception as error:  # protobuf's own, whose class differs between versions
        text = _from_text(content)
        if text is None:
            raise CalibrationError(_what(source, label, str(error))) from error
        return _checked(text, label, source), True
    return _checked(proto, label, source), False


def _from_text(content: bytes) -> onnx.ModelProto | None:
    """Read the text forms, which onnx tells by the file's name only."""
    import onnx

    start = content[:4096].removeprefix(b"\xef\xbb\xbf").lstrip()
    if b"ir_version" not in start and b"irVersion" not in start:
        return None
    form = {b"<": "onnxtxt", b"{": "json"}.get(start[:1], "textproto")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # onnx calls one of them experimental
            made = onnx.load_model_from_string(content, format=form)
    except Exception:  # the errors of three parsers
        return None
    return made if isinstance(made, onnx.ModelProto) else None


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
