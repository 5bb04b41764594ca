"""Normalizing a model after loading: one form where ONNX allows several.

Later code then handles one form only. Weights are initializers that are not necessarily
inputs, or dense values of Constant nodes.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from quantcal._core import CalibrationError
from quantcal.onnx._graph.external_data import values_of
from quantcal.onnx._graph.graph import STANDARD_DOMAINS, operator_of, subgraphs
from quantcal.onnx._graph.nested_scopes import scopes

if TYPE_CHECKING:
    import onnx

# The largest size of a sparse weight once it is dense: half of the 2 GiB that a model in
# one file can have.
_MAX_DENSE = 1 << 30


def normalize_model(proto: onnx.ModelProto, label: str, folder: Path | None) -> None:
    """Normalize a model in place, without changing its results.

    * Sparse weights become dense. onnxruntime does the same when it loads a model.
    * Below IR version 4, initializers are constants even if they are listed as inputs.
      They are removed from the inputs, and the IR version becomes 4.
    * Each domain gets one version, and the standard domain its short name. Of several
      versions the last counts, as in onnxruntime.
    * One of several equal initializers of one name stays.
    * Unnamed graphs get a name, which onnx's checker requires.
    * Training information is removed, because it refers to weights that may change.

    Parameters
    ----------
    proto : ModelProto
    label : str
        Names the model in errors.
    folder : Path, optional
        The folder of the external data.

    Raises
    ------
    CalibrationError
        When a sparse weight is damaged, or too large once it is dense. When different
        weights have one name. Names the weight.
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
        function.domain = _short_domain(function.domain)
        _normalize_nodes(function.node, label, folder)
    if 0 < proto.ir_version < 4:
        _remove_weight_inputs(proto.graph)
        proto.ir_version = 4


def _graphs(proto: onnx.ModelProto) -> Iterator[onnx.GraphProto]:
    yield from scopes(proto.graph)
    for function in proto.functions:
        for node in function.node:
            for graph in subgraphs(node):
                yield from scopes(graph)


def _remove_weight_inputs(graph: onnx.GraphProto) -> None:
    weights = {tensor.name for tensor in graph.initializer}
    kept = [value for value in graph.input if value.name not in weights]
    if len(kept) < len(graph.input):
        del graph.input[:]
        graph.input.extend(kept)


def _drop_duplicates(graph: onnx.GraphProto, label: str) -> None:
    """Keep one of several equal initializers of one name."""
    # Unequal ones are an error: onnxruntime takes the first or the last, depending on
    # their size.
    kept: dict[str, onnx.TensorProto] = {}

    def is_duplicate(name: str, tensor: onnx.TensorProto) -> bool:
        if kept.setdefault(name, tensor) == tensor:
            return kept[name] is not tensor
        raise CalibrationError(
            f"{label} has two constants of the name {name!r} with different values. "
            "Export it again, or remove one of them."
        )

    for node in graph.node:
        if operator_of(node) == "Constant":
            for name, attribute in zip(node.output, node.attribute, strict=False):
                is_duplicate(name, attribute.t)
    for index in reversed(range(len(graph.initializer))):
        tensor = graph.initializer[index]
        if is_duplicate(tensor.name, tensor):
            del graph.initializer[index]


def _one_version_each(imports: Any) -> None:
    versions = {_short_domain(each.domain): each.version for each in imports}
    if [(each.domain, each.version) for each in imports] != list(versions.items()):
        del imports[:]
        for domain, version in versions.items():
            imports.add(domain=domain, version=version)


def _short_domain(domain: str) -> str:
    return "" if domain in STANDARD_DOMAINS else domain


def _normalize_nodes(nodes: Any, label: str, folder: Path | None) -> None:
    """Shorten the standard domain, and make the values of Constant nodes dense."""
    for node in nodes:
        if node.domain:
            node.domain = _short_domain(node.domain)
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
    """Return a sparse tensor as a dense one."""
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
            f"{what} has {values.dtype} values. It must have numbers and a known shape. "
            "Export the model again."
        )
    size = math.prod(shape)
    if size * values.dtype.itemsize > _MAX_DENSE:
        raise CalibrationError(
            f"{what} takes {size * values.dtype.itemsize:,} bytes when it is dense, more "
            f"than {_MAX_DENSE:,}. Sparse weights of this size are not supported."
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
            f"{what} has {values.size} values and indices of shape {list(indices.shape)}, "
            "which do not match or are out of range. Export the model again."
        )
    dense = np.zeros(size, dtype=values.dtype)
    dense[indices] = values.ravel()
    return numpy_helper.from_array(dense.reshape(shape), name)
