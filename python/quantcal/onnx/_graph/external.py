"""Weights that lie in files beside the model: which they are, and reading one of them.

Models above 2 GB have no other form: a protobuf message ends there.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from quantcal._core import CalibrationError
from quantcal.onnx._graph.element_types import bits_of, dtype_of, name_of

if TYPE_CHECKING:
    import onnx

EXTERNAL_BYTES = 1024
"""Smaller tensors stay in the model."""

_DIGITS = 19  # of the largest place that a file may have


def external_tensors(proto: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    """Yield the tensors of a model, in subgraphs too, whose values are not in it."""
    functions = [node for function in proto.functions for node in function.node]
    yield from _of_graph(proto.graph)
    yield from _of_nodes(functions)


def _of_graph(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    yield from filter(is_external, graph.initializer)
    for sparse in graph.sparse_initializer:
        yield from filter(is_external, (sparse.values, sparse.indices))
    yield from _of_nodes(graph.node)


def _of_nodes(nodes: Any) -> Iterator[onnx.TensorProto]:
    for node in nodes:
        for attribute in node.attribute:
            yield from filter(is_external, (attribute.t, *attribute.tensors))
            for sparse in (attribute.sparse_tensor, *attribute.sparse_tensors):
                yield from filter(is_external, (sparse.values, sparse.indices))
            for graph in (attribute.g, *attribute.graphs):
                yield from _of_graph(graph)


def is_external(tensor: onnx.TensorProto) -> bool:
    """Return whether the values lie in a file."""
    return bool(tensor.data_location == tensor.EXTERNAL)


def location_of(tensor: onnx.TensorProto) -> str:
    """Return the name of the file that holds the values, as the model has it."""
    said = {entry.key: entry.value for entry in tensor.external_data}
    return str(said.get("location", ""))


@dataclass(frozen=True, slots=True)
class Place:
    """Where the bytes of an external tensor lie.

    Attributes
    ----------
    location : str
        Of the file, relative to a folder.
    offset, size : int
        The bytes there; the size is that of the values.
    """

    location: str
    offset: int
    size: int

    @property
    def end(self) -> int:
        """The bytes that the file must have."""
        return self.offset + self.size

    @staticmethod
    def of(tensor: onnx.TensorProto, label: str = "the model") -> Place:
        """Read what a tensor says of its place.

        Raises
        ------
        CalibrationError
            When it names no file, or numbers that cannot be.
        """
        said = {entry.key: entry.value for entry in tensor.external_data}
        what = f"Cannot read {label}: its weight {tensor.name!r}"
        if not said.get("location"):
            raise CalibrationError(
                f"{what} lies in a file that has no name. Save the model again."
            )
        size = _bytes_of(tensor, what)
        numbers = {}
        for key, usual in (("offset", 0), ("length", size)):
            text = said.get(key, str(usual))
            if not text.isdecimal() or len(text) > _DIGITS:
                raise CalibrationError(
                    f"{what} has the {key} {text!r:.50}. It must be a number of bytes: save "
                    "the model again."
                )
            numbers[key] = int(text)
        # onnxruntime takes a length of 0 for one that is not said.
        if numbers["length"] not in (0, size):
            raise CalibrationError(
                f"{what} takes {size} bytes, but its length is said to be "
                f"{numbers['length']}. Save the model again."
            )
        return Place(said["location"], numbers["offset"], size)


def _bytes_of(tensor: onnx.TensorProto, what: str) -> int:
    """Return how many bytes the values take; those below 8 bits are packed."""
    name = name_of(tensor.data_type)
    if name in ("UNDEFINED", "STRING") or any(size < 0 for size in tensor.dims):
        raise CalibrationError(
            f"{what} has the type {name} and shape {list(tensor.dims)}, which no file can "
            "hold. Save the model again."
        )
    bits: int = math.prod(tensor.dims) * bits_of(name, dtype_of(tensor.data_type))
    return -(-bits // 8)


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
    for tensor in external_tensors(proto):
        if not small_only or Place.of(tensor).size < EXTERNAL_BYTES:
            _read(tensor, folder)


def _read(tensor: onnx.TensorProto, folder: Path) -> None:
    """Read one tensor. onnx's own function refuses links, and files with two names."""
    place = Place.of(tensor)
    path = folder / place.location
    try:
        with path.open("rb") as file:
            file.seek(place.offset)
            content = file.read(place.size)
    except OSError as error:
        raise CalibrationError(
            f"Cannot read the weight {tensor.name!r} in {path}: {error.strerror or error}."
        ) from error
    if len(content) < place.size:
        raise CalibrationError(
            f"The weight {tensor.name!r} takes {place.size} bytes of {path}, which ends "
            f"after {len(content)} of them. Fetch the file again."
        )
    tensor.raw_data = content
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
