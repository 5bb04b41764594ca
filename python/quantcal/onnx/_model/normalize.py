"""Forms of ONNX that mean the same as a usual one, made usual when a model is loaded.

Whatever works on the model later then knows one form: weights are initializers that need
not be inputs, or dense values of Constant nodes.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from quantcal._core import CalibrationError
from quantcal.onnx._graph.external import values_of
from quantcal.onnx._graph.graph import STANDARD_DOMAINS, operator_of, subgraphs
from quantcal.onnx._graph.scopes import scopes

if TYPE_CHECKING:
    import onnx

# What a sparse weight may take when all its zeros are written down: half of what a model
# of one file can hold.
_MAX_DENSE = 1 << 30


def normalize(proto: onnx.ModelProto, label: str, folder: Path | None) -> None:
    """Change a model in place; its results stay.

    * Sparse weights become dense, as onnxruntime makes them when it loads a model.
    * Before format version 4, initializers are constants, listed among the inputs or not:
      they are taken off that list, and the version becomes 4, where this is said so.
    * Each domain has one version, and the standard domain its short name. Of several
      versions the last counts, as in onnxruntime.
    * Of equal initializers of one name one stays.
    * Graphs get a name, which onnx demands, and nothing looks at.
    * What is for training only goes: it would speak of weights that are no more.

    Parameters
    ----------
    proto : ModelProto
    label : str
        Names the model in errors.
    folder : Path, optional
        Of external data.

    Raises
    ------
    CalibrationError
        For sparse weights that are damaged, or too large as dense ones, and for different
        weights of one name; names them.
    """
    del proto.training_info[:]
    for holder in (proto, *proto.functions):
        _one_version_each(holder.opset_import)
    for graph in _graphs(proto):
        graph.name = graph.name or "graph"
        for sparse in graph.sparse_initializer:
            graph.initializer.append(_dense(sparse, sparse.values.name, label, folder))
        del graph.sparse_initializer[:]
        _normalize_nodes(graph.node, label, folder)
        _drop_duplicates(graph, label)
    for function in proto.functions:
        function.domain = _short(function.domain)
        _normalize_nodes(function.node, label, folder)
    if 0 < proto.ir_version < 4:
        _without_weights(proto.graph)
        proto.ir_version = 4


def _graphs(proto: onnx.ModelProto) -> Iterator[onnx.GraphProto]:
    yield from scopes(proto.graph)
    for function in proto.functions:
        for node in function.node:
            for graph in subgraphs(node):
                yield from scopes(graph)


def _without_weights(graph: onnx.GraphProto) -> None:
    weights = {tensor.name for tensor in graph.initializer}
    kept = [value for value in graph.input if value.name not in weights]
    if len(kept) < len(graph.input):
        del graph.input[:]
        graph.input.extend(kept)


def _drop_duplicates(graph: onnx.GraphProto, label: str) -> None:
    """Keep one of equal initializers of a name.

    Of unequal ones onnxruntime takes the first or the last, by their size.
    """
    kept: dict[str, onnx.TensorProto] = {}

    def again(name: str, tensor: onnx.TensorProto) -> bool:
        if kept.setdefault(name, tensor) == tensor:
            return kept[name] is not tensor
        raise CalibrationError(
            f"{label} has two constants of the name {name!r} with different values. "
            "Export it again, or remove one of them."
        )

    for node in graph.node:
        if operator_of(node) == "Constant":
            for name, attribute in zip(node.output, node.attribute, strict=False):
                again(name, attribute.t)
    for index in reversed(range(len(graph.initializer))):
        tensor = graph.initializer[index]
        if again(tensor.name, tensor):
            del graph.initializer[index]


def _one_version_each(imports: Any) -> None:
    versions = {_short(each.domain): each.version for each in imports}
    if [(each.domain, each.version) for each in imports] != list(versions.items()):
        del imports[:]
        for domain, version in versions.items():
            imports.add(domain=domain, version=version)


def _short(domain: str) -> str:
    return "" if domain in STANDARD_DOMAINS else domain


def _normalize_nodes(nodes: Any, label: str, folder: Path | None) -> None:
    """Give nodes the short domain, and Constant nodes dense values."""
    for node in nodes:
        if node.domain:
            node.domain = _short(node.domain)
        for attribute in node.attribute:
            if attribute.name == "sparse_value" and attribute.HasField("sparse_tensor"):
                name = node.output[0] if node.output else ""
                dense = _dense(attribute.sparse_tensor, name, label, folder)
                attribute.ClearField("sparse_tensor")
                attribute.name, attribute.type = "value", attribute.TENSOR
                attribute.t.CopyFrom(dense)


def _dense(
    sparse: onnx.SparseTensorProto, name: str, label: str, folder: Path | None
) -> onnx.TensorProto:
    """Return the same tensor with its zeros."""
    from onnx import numpy_helper

    shape = tuple(sparse.dims)
    what = f"The sparse weight {name!r} of {label}, shape {list(shape)},"
    try:
        values = values_of(sparse.values, folder)
        indices = values_of(sparse.indices, folder).astype(np.int64)
    except CalibrationError:
        raise
    except Exception as error:  # onnx's helpers and numpy: types, counts, shapes
        raise CalibrationError(f"{what} cannot be read: {error}") from error
    if any(dim < 0 for dim in shape) or values.dtype == object:
        raise CalibrationError(
            f"{what} holds {values.dtype} values. quantcal reads sparse numbers of a known "
            "shape: export the model again."
        )
    size = math.prod(shape)
    if size * values.dtype.itemsize > _MAX_DENSE:
        raise CalibrationError(
            f"{what} takes {size * values.dtype.itemsize:,} bytes when it is dense, more "
            f"than {_MAX_DENSE:,}. quantcal codes dense weights only."
        )
    if indices.ndim == 1:
        fits = (len(indices) == values.size) and bool(
            ((indices >= 0) & (indices < size)).all()
        )
    else:
        fits = indices.shape == (values.size, len(shape)) and bool(
            ((indices >= 0) & (indices < np.asarray(shape))).all()
        )
        indices = np.ravel_multi_index(tuple(indices.T), shape) if fits else indices
    if not fits:
        raise CalibrationError(
            f"{what} has indices of shape {list(indices.shape)} for {values.size} values, or "
            "some that lie outside. Export the model again."
        )
    dense = np.zeros(size, dtype=values.dtype)
    dense[indices] = values.ravel()
    return numpy_helper.from_array(dense.reshape(shape), name)
