"""External data: weights in files beside the model, how to find, read and write them.

A protobuf message holds at most 2 GiB, so larger models need external data.
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
"""Tensors of fewer bytes stay in the model."""

# 2**63, the largest offset of a file, has 19 digits.
_MAX_DIGITS = 19


def external_tensors(proto: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    """Yield the tensors with external data, including those of subgraphs and functions."""
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
    """Return whether the values are in another file."""
    return bool(tensor.data_location == tensor.EXTERNAL)


def location_of(tensor: onnx.TensorProto) -> str:
    """Return the file that holds the values, as the model names it."""
    entries = {entry.key: entry.value for entry in tensor.external_data}
    return str(entries.get("location", ""))


@dataclass(frozen=True, slots=True)
class ExternalData:
    """The file and the byte range of a tensor with external data.

    Attributes
    ----------
    location : str
        The file, relative to a folder.
    offset, size : int
        In bytes. The size is that of the values.
    """

    location: str
    offset: int
    size: int

    @property
    def end(self) -> int:
        """The smallest size of the file, in bytes."""
        return self.offset + self.size

    @staticmethod
    def of(tensor: onnx.TensorProto, label: str = "the model") -> ExternalData:
        """Read the entries of a tensor.

        Raises
        ------
        CalibrationError
            When no file is named, or a number is invalid.
        """
        entries = {entry.key: entry.value for entry in tensor.external_data}
        what = f"Cannot read {label}: its weight {tensor.name!r}"
        if not entries.get("location"):
            raise CalibrationError(
                f"{what} has external data without a file name. Save the model again."
            )
        size = _bytes_of(tensor, what)
        numbers = {}
        for key, default in (("offset", 0), ("length", size)):
            text = entries.get(key, str(default))
            if not text.isdecimal() or len(text) > _MAX_DIGITS:
                raise CalibrationError(
                    f"{what} has the {key} {text!r:.50}, which is not a number of bytes. "
                    "Save the model again."
                )
            numbers[key] = int(text)
        # onnxruntime treats a length of 0 as missing.
        if numbers["length"] not in (0, size):
            raise CalibrationError(
                f"{what} takes {size} bytes, but the model gives the length "
                f"{numbers['length']}. Save the model again."
            )
        return ExternalData(entries["location"], numbers["offset"], size)


def _bytes_of(tensor: onnx.TensorProto, what: str) -> int:
    """Return the size of the values. Types below 8 bits are packed."""
    name = name_of(tensor.data_type)
    if name in ("UNDEFINED", "STRING") or any(size < 0 for size in tensor.dims):
        raise CalibrationError(
            f"{what} has the type {name} and shape {list(tensor.dims)}, which external data "
            "cannot have. Save the model again."
        )
    bits: int = math.prod(tensor.dims) * bits_of(name, dtype_of(tensor.data_type))
    return -(-bits // 8)


def externalize_weights(proto: onnx.ModelProto, folder: Path, location: str) -> None:
    """Move all weights but small ones to a new file in a folder.

    Tensors in attributes stay, and so do values that are not stored as raw bytes.
    """
    from onnx import external_data_helper

    # `onnx.save_model` does the same, but it fails when the working folder happens to
    # have a file of that name.
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
    """Return the number of values in the weights of a model, including subgraphs."""
    # protobuf's own `ByteSize` serializes the whole message to measure it.
    return sum(
        math.prod(tensor.dims)
        for graph in _graphs(proto.graph)
        for tensor in graph.initializer
    )


def embed_weights(
    proto: onnx.ModelProto, folder: Path, *, small_only: bool = False
) -> None:
    """Read external data into the model: all of it, or only the small tensors."""
    for tensor in external_tensors(proto):
        if not small_only or ExternalData.of(tensor).size < EXTERNAL_BYTES:
            _read(tensor, folder)


def _read(tensor: onnx.TensorProto, folder: Path) -> None:
    """Read the external data of one tensor into it."""
    # onnx's own function refuses links and files with several hard links.
    place = ExternalData.of(tensor)
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
            f"The weight {tensor.name!r} takes {place.size} bytes of {path}, but only "
            f"{len(content)} are there. Download the file again."
        )
    tensor.raw_data = content
    tensor.ClearField("data_location")  # as in a model without external data
    del tensor.external_data[:]


def values_of(tensor: onnx.TensorProto, folder: Path | None) -> np.ndarray[Any, Any]:
    """Return the values of a tensor, which is not changed.

    Parameters
    ----------
    tensor : TensorProto
    folder : Path, optional
        The folder of the external data.
    """
    import onnx

    if is_external(tensor) and folder is not None:
        own = onnx.TensorProto()
        own.CopyFrom(tensor)
        _read(own, folder)
        tensor = own
    return np.asarray(onnx.numpy_helper.to_array(tensor))
