"""Weights that lie in files beside the model: which they are, and reading one of them.

Models above 2 GB have no other form: a protobuf message ends there.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from quantcal import CalibrationError
from quantcal._files import is_text

if TYPE_CHECKING:
    import onnx

EXTERNAL_BYTES = 1024
"""Smaller tensors stay in the model."""


def external_tensors(proto: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    """Yield the tensors of a model, in subgraphs too, whose values are not in it."""
    functions = [node for function in proto.functions for node in function.node]
    yield from _of_graph(proto.graph)
    yield from _of_nodes(functions)


def _of_graph(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    yield from filter(is_external, graph.initializer)
    yield from _of_nodes(graph.node)


def _of_nodes(nodes: Any) -> Iterator[onnx.TensorProto]:
    for node in nodes:
        for attribute in node.attribute:
            yield from filter(is_external, (attribute.t, *attribute.tensors))
            for graph in (attribute.g, *attribute.graphs):
                yield from _of_graph(graph)


def is_external(tensor: onnx.TensorProto) -> bool:
    """Return whether the values lie in a file."""
    return bool(tensor.data_location == tensor.EXTERNAL)


def location_of(tensor: onnx.TensorProto) -> str:
    """Return the name of the file that holds the values, as the model has it."""
    told = {entry.key: entry.value for entry in tensor.external_data}
    return str(told.get("location", ""))


def check_files(proto: onnx.ModelProto, folder: Path, label: str) -> None:
    """Refuse a model of which a file is missing, before anything is run.

    Raises
    ------
    CalibrationError
        Names the file, and a weight that lies in it; or the folder, when its path is not
        UTF-8.
    """
    if not is_text(folder):
        raise CalibrationError(
            f"The weights of {label} lie in the folder {folder}, whose path is not UTF-8, as "
            "onnx and onnxruntime want it. Move the model to another folder."
        )
    seen = set()
    for tensor in external_tensors(proto):
        location = location_of(tensor)
        if location not in seen and not (folder / location).is_file():
            raise CalibrationError(
                f"Cannot read {label}: its weight {tensor.name!r} lies in "
                f"{str(folder / location)!r}, which is no file. Put it there again."
            )
        seen.add(location)


def move_out(proto: onnx.ModelProto, folder: Path, location: str) -> None:
    """Write all weights but small ones to a new file in a folder, to be read from there.

    What lies in attributes stays, and so do values that are not kept as plain bytes.
    (``onnx.save_model`` does so too, but refuses a name that the working folder has.)
    """
    from onnx import external_data_helper

    for graph in _graphs(proto.graph):
        for tensor in graph.initializer:
            if tensor.HasField("raw_data") and len(tensor.raw_data) >= EXTERNAL_BYTES:
                external_data_helper.set_external_data(tensor, location)
    external_data_helper.write_external_data_tensors(proto, str(folder))


def _graphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                yield from _graphs(inner)


def count_weights(proto: onnx.ModelProto) -> int:
    """Return the number of values in the weights of a model, those of subgraphs too.

    Asked for its size in bytes, a message writes itself out in memory to see.
    """
    return sum(
        math.prod(tensor.dims)
        for graph in _graphs(proto.graph)
        for tensor in graph.initializer
    )


def embed(proto: onnx.ModelProto, folder: Path, *, small_only: bool = False) -> None:
    """Read the external tensors into the model, all or those that belong there."""
    import onnx

    for tensor in external_tensors(proto):
        dtype = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type))
        size = math.prod(tensor.dims) * dtype.itemsize
        if size < EXTERNAL_BYTES or not small_only:
            _read(tensor, folder)


def _read(tensor: onnx.TensorProto, folder: Path) -> None:
    from onnx.external_data_helper import load_external_data_for_tensor

    load_external_data_for_tensor(tensor, str(folder))
    tensor.ClearField("data_location")  # as in a model that never had files
    del tensor.external_data[:]


def values_of(tensor: onnx.TensorProto, folder: Path | None) -> np.ndarray[Any, Any]:
    """Return the values of a tensor, which stays as it is.

    Parameters
    ----------
    tensor : TensorProto
    folder : Path, optional
        Where the file of an external tensor lies.
    """
    import onnx

    if is_external(tensor) and folder is not None:
        own = onnx.TensorProto()
        own.CopyFrom(tensor)
        _read(own, folder)
        tensor = own
    return np.asarray(onnx.numpy_helper.to_array(tensor))
