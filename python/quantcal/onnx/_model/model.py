"""Loading an ONNX model, and reading its inputs and opset.

Steps that are specific to quantization are in :mod:`quantcal.onnx._plan.preparation`.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from quantcal._core import CalibrationError
from quantcal._io.temporary import TemporaryFolder, working
from quantcal.onnx._graph.element_types import dtype_of
from quantcal.onnx._graph.external_data import (
    count_weights,
    embed_weights,
    external_tensors,
    externalize_weights,
)
from quantcal.onnx._graph.graph import STANDARD_DOMAINS
from quantcal.onnx._graph.inputs import InputSpec
from quantcal.onnx._model.model_proto import read_proto
from quantcal.onnx._model.normalize import normalize_model
from quantcal.onnx._model.optional import require
from quantcal.onnx._model.weight_files import locate_weights

if TYPE_CHECKING:
    import onnx

    Model: TypeAlias = str | os.PathLike[str] | bytes | onnx.ModelProto

WEIGHTS_FILE = "weights"
"""The name of the file of weights that all sessions of a model map."""

# Weights of larger models (16 MiB of float32) are moved to a temporary file, so that
# copies of the graph are small.
_MANY_WEIGHTS = 4 << 20


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A model that was copied or read, so that it may be changed.

    Attributes
    ----------
    proto : ModelProto
    label : str
        The name of the model in errors.
    folder : Path, optional
        The folder of the external data. None when there is none.
    temporary : TemporaryFolder, optional
        The same folder if it is temporary. It is removed together with this object.
    file : Path, optional
        The user's file, when it holds the whole model.
    """

    proto: onnx.ModelProto
    label: str
    folder: Path | None = None
    temporary: TemporaryFolder | None = None
    file: Path | None = None


def load_model(model: Model, *, weights: bool = True) -> LoadedModel:
    """Read a model from a path, bytes or a ModelProto, which is copied.

    External data is searched beside the path, then beside the file that the path links
    to. So a model with external data must be given by its path. The model is normalized
    (:mod:`quantcal.onnx._model.normalize`).

    Parameters
    ----------
    model : path, bytes or ModelProto
    weights : bool
        Whether external data is read. If not, all but small tensors stay in their files.
        Sessions map these files, so a model of any size can run.

    Raises
    ------
    CalibrationError
        When it cannot be read.
    """
    require()
    proto, label, path = read_proto(model)
    outside = next(external_tensors(proto), None)
    folder = None
    if outside is not None:
        if path is None:
            raise CalibrationError(
                f"The weight {outside.name!r} is in another file, which is found from the "
                "path of the model. Pass the path instead of the object."
            )
        folder = locate_weights(proto, path, label)
    normalize_model(proto, label, folder)
    loaded = LoadedModel(proto, label, folder, file=path if folder is None else None)
    if folder is None or weights:
        return with_weights(loaded)
    embed_weights(proto, folder, small_only=True)
    return loaded


def load_light(model: Model) -> LoadedModel:
    """Read a model as ``load_model(weights=False)`` so that copies of it are small.

    If the model holds many weights, they are moved to a temporary file. Sessions map it,
    and quantization reads one weight at a time.
    """
    # With several copies of the weights in memory, observing a model of 90 MB took 320 MB
    # more.
    loaded = load_model(model, weights=False)
    if loaded.folder is not None or count_weights(loaded.proto) < _MANY_WEIGHTS:
        return loaded
    with working():
        made = TemporaryFolder()
        externalize_weights(loaded.proto, made.path, WEIGHTS_FILE)
    # protobuf does not free the memory of removed fields; a copy does not have it.
    proto = type(loaded.proto)()
    proto.CopyFrom(loaded.proto)
    return replace(loaded, proto=proto, folder=made.path, temporary=made)


def with_weights(loaded: LoadedModel) -> LoadedModel:
    """Return the model with all its weights in memory."""
    folder = loaded.folder
    if folder is None:
        return loaded
    embed_weights(loaded.proto, folder)
    return LoadedModel(loaded.proto, loaded.label)


def model_inputs(proto: onnx.ModelProto) -> tuple[InputSpec, ...]:
    """Return the inputs of a model, in its order."""
    defaults = {tensor.name for tensor in proto.graph.initializer}
    return tuple(
        _spec(value, value.name not in defaults)
        for value in proto.graph.input
        if value.name not in defaults or proto.ir_version >= 4
    )


def _spec(value: onnx.ValueInfoProto, required: bool) -> InputSpec:
    if not value.type.HasField("tensor_type"):
        return InputSpec(value.name, None, None, required)
    tensor = value.type.tensor_type
    try:
        dtype = dtype_of(tensor.elem_type)
    except CalibrationError as error:
        raise CalibrationError(f"Input {value.name!r}: {error}") from None
    if not tensor.HasField("shape"):
        return InputSpec(value.name, dtype, None, required)
    # Some exporters write 0 or -1 for an unknown dimension.
    shape = tuple(
        dim.dim_value if dim.dim_value > 0 else None for dim in tensor.shape.dim
    )
    return InputSpec(value.name, dtype, shape, required)


def opset_of(proto: onnx.ModelProto) -> int:
    """Return the opset of the standard domain, or 0 when the model does not import it."""
    versions = [o.version for o in proto.opset_import if o.domain in STANDARD_DOMAINS]
    return max(versions, default=0)
