"""Reading any ONNX model, and what it says of its inputs and opset.

What is particular to quantisation (which nodes, which biases) is in
:mod:`quantcal.onnx._plan.prepare`.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from quantcal._core import CalibrationError
from quantcal._io.temporary import TemporaryFolder, working
from quantcal.onnx._graph.element_types import dtype_of
from quantcal.onnx._graph.external import (
    count_weights,
    embed,
    external_tensors,
    move_out,
)
from quantcal.onnx._graph.graph import STANDARD_DOMAINS
from quantcal.onnx._graph.inputs import InputSpec
from quantcal.onnx._model._optional import require
from quantcal.onnx._model.normalize import normalize
from quantcal.onnx._model.parse import parse_model
from quantcal.onnx._model.weight_files import locate_files

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
    file : Path, optional
        Of the model as it was given, where all of it is in one file.
    """

    proto: onnx.ModelProto
    label: str
    folder: Path | None = None
    made: TemporaryFolder | None = None
    file: Path | None = None


def load_model(model: Model, *, weights: bool = True) -> Loaded:
    """Read a model from a path, bytes or a ModelProto, which is copied.

    External data is looked for beside the path, then beside the file that the path links
    to, so such models must come by path. Unusual forms become usual ones
    (:mod:`quantcal.onnx._model.normalize`).

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
    proto, label, path = parse_model(model)
    outside = next(external_tensors(proto), None)
    folder = None
    if outside is not None:
        if path is None:
            raise CalibrationError(
                f"The weight {outside.name!r} lies in another file, which only the "
                "model's path can tell. Pass the path instead of the object."
            )
        folder = locate_files(proto, path, label)
    normalize(proto, label, folder)
    loaded = Loaded(proto, label, folder, file=path if folder is None else None)
    if folder is None or weights:
        return with_weights(loaded)
    embed(proto, folder, small_only=True)
    return loaded


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
    embed(loaded.proto, folder)
    return Loaded(loaded.proto, loaded.label)


def model_inputs(proto: onnx.ModelProto) -> tuple[InputSpec, ...]:
    """Return what the model says of its inputs, in its order."""
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
    # Dimensions of 0 and -1 are how some exporters write "unknown".
    shape = tuple(
        dim.dim_value if dim.dim_value > 0 else None for dim in tensor.shape.dim
    )
    return InputSpec(value.name, dtype, shape, required)


def opset_of(proto: onnx.ModelProto) -> int:
    """Return the version of the standard operators; 0 when the model imports none."""
    versions = [o.version for o in proto.opset_import if o.domain in STANDARD_DOMAINS]
    return max(versions, default=0)
