"""Which roundings onnxruntime's integer kernels need, and which nodes it removes first.

A kernel that reads codes needs its inputs rounded. Whether its result must be rounded too
is another question: ``MatMulIntegerToFloat`` and ``QGemm`` return floats, so a rounding
behind a MatMul or Gemm only loses accuracy. ``QLinearConv`` and the elementwise kernels
return codes; without a QuantizeLinear behind them onnxruntime computes in float. Operators
without an integer kernel gain nothing from rounded activations.

Before onnxruntime looks for these kernels, it removes nodes that change nothing, such as an
Identity. The readers of such a node then read what the node reads.

Found in the graphs that onnxruntime 1.32 saves after optimization; tests count the fused
kernels.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING

import numpy as np

from quantcal.formats import QuantFormat
from quantcal.onnx._graph.attributes import attribute
from quantcal.onnx._graph.external_data import is_external
from quantcal.onnx._graph.graph import operator_of
from quantcal.onnx._graph.nested_scopes import scopes
from quantcal.onnx._graph.weights import Weights

if TYPE_CHECKING:
    import onnx

FLOAT_RESULT = frozenset({"MatMul", "Gemm"})
"""Kernels that read codes and return floats."""

_CODED_RESULT = frozenset(
    {
        *("Conv", "Add", "Mul", "Concat", "Where"),
        *("Sigmoid", "Softmax", "LeakyRelu", "AveragePool", "GlobalAveragePool"),
    }
)
# They move or select codes as they do floats. A Relu or Clip does so where unsigned codes
# behind it start at zero: their rounding clips the same values, and onnxruntime removes it.
_MOVES = frozenset(
    {
        *("Reshape", "Transpose", "Squeeze", "Unsqueeze", "Flatten", "Identity"),
        *("Split", "Slice", "Gather", "MaxPool", "Expand", "DepthToSpace"),
        *("SpaceToDepth", "Resize", "Relu", "Clip"),
    }
)

# The number with which an operator changes nothing, and the inputs where it may stand.
_NEUTRAL = {"Add": (0, (0, 1)), "Sub": (0, (1,)), "Mul": (1, (0, 1)), "Div": (1, (1,))}


def reads_codes(operator: str) -> bool:
    """Whether onnxruntime has a kernel that reads codes of this operator's inputs."""
    return operator in FLOAT_RESULT or needs_rounded_result(operator)


def needs_rounded_result(operator: str) -> bool:
    """Whether that kernel exists only where the result is rounded."""
    return operator in _CODED_RESULT or operator in _MOVES


def has_integer_sums(format: str) -> bool:
    """Whether onnxruntime has integer kernels for activations of this format."""
    found = QuantFormat(format)
    return found.bits <= 8 and not found.is_float


def removed_nodes(
    graph: onnx.GraphProto,
    nodes: Collection[str],
    ranks: Mapping[str, int],
    weights: Weights,
) -> dict[str, str]:
    """Return output → input of the nodes that onnxruntime removes.

    It keeps a node that makes an output of its graph, that reads a value from outside its
    graph, or whose second output is read.

    Parameters
    ----------
    graph : GraphProto
        Names mean one value in the whole model.
    nodes : collection of str
        The chosen nodes, which have roundings around them.
    ranks : mapping of str to int
        Of tensors, where known.
    weights : Weights
        Of the graph.
    """
    removed: dict[str, str] = {}
    for scope in scopes(graph):
        made = {name for node in scope.node for name in node.output if name}
        outputs = {value.name for value in scope.output}
        for node in scope.node:
            if node.name in nodes or not node.output or node.output[0] in outputs:
                continue
            if any(weights.used[name] for name in node.output[1:] if name):
                continue
            source = _unchanged_input(node, ranks, weights)
            if source in made:
                removed[node.output[0]] = source
    return removed


def _unchanged_input(
    node: onnx.NodeProto, ranks: Mapping[str, int], weights: Weights
) -> str:
    """Return the float32 input that a node returns as it is; "" when there is none."""
    operator = operator_of(node)
    if operator == "Identity" or (operator == "Dropout" and _at_rest(node, weights)):
        return str(node.input[0])
    # 1 is float32, in which the results of integer kernels are.
    if operator == "Cast" and attribute(node, "to", 0) == 1:
        return str(node.input[0])
    if operator == "Expand":
        return _unexpanded_input(node, ranks, weights)
    number, places = _NEUTRAL.get(operator, (0, ()))
    for index in places:
        name, other = node.input[index], str(node.input[1 - index])
        tensor = weights.found.get(name)
        if tensor is None or any(size != 1 for size in tensor.dims):
            continue
        rank = len(tensor.dims)
        if rank <= ranks.get(other, rank) and _is_full_of(name, number, weights):
            return other
    return ""


def _at_rest(node: onnx.NodeProto, weights: Weights) -> bool:
    """Whether a Dropout drops nothing, as its training mode is off."""
    mode = node.input[2] if len(node.input) > 2 else ""
    return not mode or _is_full_of(mode, 0, weights)


def _unexpanded_input(
    node: onnx.NodeProto, ranks: Mapping[str, int], weights: Weights
) -> str:
    """Return what an Expand by ones reads, unless it adds axes; else ""."""
    source, shape = str(node.input[0]), node.input[1]
    if not _is_full_of(shape, 1, weights):
        return ""
    (rank,) = weights.shape(shape)
    return source if rank <= ranks.get(source, rank) else ""


def _is_full_of(name: str, number: int, weights: Weights) -> bool:
    """Whether a tensor is a stored constant with this number everywhere."""
    tensor = weights.found.get(name)
    if tensor is None or is_external(tensor):
        return False
    return bool(np.all(weights.array(name) == number))
