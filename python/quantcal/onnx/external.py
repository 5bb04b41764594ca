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

if TYPE_CHECKING:
    import onnx


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


def check_files(proto: onnx.ModelProto, folder: Path, label: str) -> None:
    """Refuse a model of which a file is missing, before anything is run.

    Raises
    ------
    CalibrationError
        Names the file, and a weight that lies in it.
    """
    seen = set()
    for tensor in external_tensors(proto):
        told = {entry.key: entry.value for entry in tensor.external_data}
        location = told.get("location", "")
        if location not in seen and not (folder / location).is_file():
            raise CalibrationError(
                f"Cannot read {label}: its weight {tensor.name!r} lies in "
                f"{str(folder / location)!r}, which is no file. Put it there again."
            )
        seen.add(location)


def embed(proto: onnx.ModelProto, folder: Path, below: float = math.inf) -> None:
    """Read the external tensors of fewer than ``below`` bytes into the model."""
    import onnx

    for tensor in external_tensors(proto):
        dtype = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type))
        if math.prod(tensor.dims) * dtype.itemsize < below:
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
