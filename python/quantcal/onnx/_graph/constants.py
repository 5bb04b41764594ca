"""Finding the tensors that a graph stores: initializers, constants, and their aliases.

Exporters keep weights as initializers or in ``Constant`` nodes. Paddle uses ``Constant``
nodes for all of them. An ``Identity`` may give a weight a second name.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from quantcal.onnx._graph.graph import operator_of
from quantcal.onnx._graph.nested_scopes import scopes

if TYPE_CHECKING:
    import onnx

_NUMBER_TYPES = {
    "value_float": np.float32,
    "value_floats": np.float32,
    "value_int": np.int64,
    "value_ints": np.int64,
}


def stored_tensors(graph: onnx.GraphProto) -> dict[str, onnx.TensorProto]:
    """Return the stored tensors by name: initializers, constants, and their aliases.

    Subgraphs are included, so a name must mean one value in the whole model. Strings and
    sparse constants are left out. The output of an ``Identity`` is the same object as its
    input.
    """
    found = {
        tensor.name: tensor for scope in scopes(graph) for tensor in scope.initializer
    }
    for scope in scopes(graph):
        for node in scope.node:
            tensor = None
            if operator_of(node) == "Constant":
                tensor = _of_constant(node)
            elif operator_of(node) == "Identity" and node.input:
                tensor = found.get(node.input[0])
            if tensor is not None and node.output:
                found[node.output[0]] = tensor
    return found


def _of_constant(node: onnx.NodeProto) -> onnx.TensorProto | None:
    from onnx import helper, numpy_helper

    for attribute in node.attribute:
        if attribute.name == "value":
            return attribute.t
        if attribute.name in _NUMBER_TYPES:
            values = helper.get_attribute_value(attribute)
            return numpy_helper.from_array(
                np.array(values, _NUMBER_TYPES[attribute.name])
            )
    return None
