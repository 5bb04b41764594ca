"""Reading any ONNX model, and what it says of its inputs and opset.

What is particular to quantisation (which nodes, which biases) is in
:mod:`quantcal.onnx.prepare`.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from quantcal import CalibrationError
from quantcal._temporary import TemporaryFolder, working
from quantcal.onnx.external import (
    check_files,
    count_weights,
    embed,
    external_tensors,
    move_out,
)
from quantcal.onnx.frameworks import require
from quantcal.onnx.graph import STANDARD_DOMAINS
from quantcal.onnx.inputs import InputSpec

if TYPE_CHECKING:
    import onnx

    Model: TypeAlias = str | os.PathLike[str] | bytes | onnx.ModelProto

WEIGHTS_FILE = "weights"
"""The one file of weights that all sessions of a model map."""

# Models from here on (16 MiB of float32) are worth a file of weights: all copies of them
# are light then.
_MANY_WEIGHTS = 4 << 20


@dataclass(frozen=True, slots=True)
class Loaded:
    """A model of our own, free to be changed.

    Attributes
    ----------
    proto : ModelProto
    label : str
        The name that errors call it by.
    folder : Path, optional
        Where the weights lie that are still in files of their own; None when there are
        none.
    made : TemporaryFolder, optional
        The folder, where it was made for them: it goes when nobody holds this any more.
    """

    proto: onnx.ModelProto
    label: str
    folder: Path | None = None
    made: TemporaryFolder | None = None


def load_model(model: Model, *, weights: bool = True) -> Loaded:
    """Read a model from a path, bytes or a ModelProto, which is copied.

    External data is found beside the file, so such models must come by path.

    Parameters
    ----------
    model : path, bytes or ModelProto
    weights : bool
        Read external data too. Without, all but small tensors stay in their files, which
        sessions map: that is enough to run a model of any size.

    Raises
    ------
    CalibrationError
        When it cannot be read.
    """
    require()
    import onnx

    folder = None
    if isinstance(model, onnx.ModelProto):
        proto, label = onnx.ModelProto(), "the model"
        proto.CopyFrom(model)
    elif isinstance(model, bytes):
        label = "the model"
        proto = _parse(lambda: onnx.load_model_from_string(model), label)
    else:
        path = Path(model)
        label = str(path)
        if not path.is_file():
            raise CalibrationError(f"{label} is no file. Give the path of a model.")
        folder = path.resolve().parent
        proto = _parse(lambda: onnx.load(path, load_external_data=False), label)
    if not proto.graph.node:
        raise CalibrationError(f"{label} is no ONNX model, or its graph is empty.")
    outside = next(external_tensors(proto), None)
    if outside is None:
        return Loaded(proto, label)
    if folder is None:
        raise CalibrationError(
            f"The weight {outside.name!r} lies in another file, which only the "
            "model's path can tell. Pass the path instead of the object."
        )
    check_files(proto, folder, label)
    if weights:
        return with_weights(Loaded(proto, label, folder))
    _parse(lambda: embed(proto, folder, small_only=True), label)
    return Loaded(proto, label, folder)


def load_light(model: Model) -> Loaded:
    """Read a model as ``load_model(weights=False)``, so that copies of it are small.

    The weights of a large model that has them in itself are written to a temporary file:
    sessions map it, and what rewrites the model reads them one at a time. With several
    copies of them in memory, observing a model of 90 MB took 320 MB more.
    """
    loaded = load_model(model, weights=False)
    if loaded.folder is not None or count_weights(loaded.proto) < _MANY_WEIGHTS:
        return loaded
    with working():
        made = TemporaryFolder()
        move_out(loaded.proto, made.path, WEIGHTS_FILE)
    # A message keeps the memory of what was taken out of it; a copy has none.
    proto = type(loaded.proto)()
    proto.CopyFrom(loaded.proto)
    return replace(loaded, proto=proto, folder=made.path, made=made)


def with_weights(loaded: Loaded) -> Loaded:
    """Return the model with all its weights in memory."""
    folder = loaded.folder
    if folder is None:
        return loaded
    _parse(lambda: embed(loaded.proto, folder), loaded.label)
    return Loaded(loaded.proto, loaded.label)


def _parse(read: Any, label: str) -> Any:
    try:
        return read()
    except Exception as error:  # protobuf, OS and external-data errors alike
        raise CalibrationError(f"Cannot read {label}: {error}") from error


def model_inputs(proto: onnx.ModelProto) -> tuple[InputSpec, ...]:
    """Return what the model says of its inputs, in its order."""
    defaults = {tensor.name for tensor in proto.graph.initializer}
    return tuple(
        _spec(value, value.name not in defaults)
        for value in proto.graph.input
        if value.name not in defaults or proto.ir_version >= 4
    )


def _spec(value: onnx.ValueInfoProto, required: bool) -> InputSpec:
    import onnx

    if not value.type.HasField("tensor_type"):
        return InputSpec(value.name, None, None, required)
    tensor = value.type.tensor_type
    dtype = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type))
    if not tensor.HasField("shape"):
        return InputSpec(value.name, dtype, None, required)
    # A dimension of 0 is how some exporters write "unknown".
    shape = tuple(dim.dim_value or None for dim in tensor.shape.dim)
    return InputSpec(value.name, dtype, shape, required)


def opset_of(proto: onnx.ModelProto) -> int:
    """Return the version of the standard operators; 0 when the model imports none."""
    versions = [o.version for o in proto.opset_import if o.domain in STANDARD_DOMAINS]
    return max(versions, default=0)
