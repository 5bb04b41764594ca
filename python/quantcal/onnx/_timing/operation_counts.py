"""Multiply-adds of nodes, from the shapes of their tensors."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from quantcal.onnx._graph.attributes import attribute
from quantcal.onnx._graph.graph import all_nodes, operator_of

if TYPE_CHECKING:
    import onnx

Shape = Sequence[int]

_GATES = {"RNN": 1, "GRU": 3, "LSTM": 4}


def multiply_adds(
    proto: onnx.ModelProto, shapes: Mapping[str, Shape]
) -> dict[str, int]:
    """Count the multiply-adds of each node that multiplies matrices or filters.

    A product and the addition of it count as one. Biases, activations and elementwise
    operators do not count.

    Parameters
    ----------
    proto
        A model whose names mean one value each. Subgraphs count too, one run of each.
    shapes
        Tensor → shape of one sample: activations, inputs and weights
        (:func:`quantcal.onnx._timing.shapes.tensor_shapes`).

    Returns
    -------
    dict of str to int
        Node → multiply-adds, for Conv, ConvTranspose, MatMul, Gemm, RNN, GRU and LSTM, and
        for com.microsoft's Attention. Nodes of unknown shapes are missing.
    """
    found = {}
    for node in all_nodes(proto.graph):
        count = _count(node, shapes)
        if count is not None:
            found[node.name] = count
    return found


def _count(node: onnx.NodeProto, shapes: Mapping[str, Shape]) -> int | None:
    kind = operator_of(node)
    first, second = ([*node.input, "", ""])[:2]
    known = [shapes.get(name) for name in (first, second, *node.output[:1])]
    if kind not in _COUNTS or None in known[:2]:
        return None
    x, w, y = known
    if kind in _FROM_RESULT and y is None:
        return None
    return _COUNTS[kind](node, x, w, y)


def _conv(node: onnx.NodeProto, x: Shape, w: Shape, y: Shape) -> int:
    """Each output value is the sum over one filter, w: [filters, channels / group, …]."""
    return math.prod(y) * math.prod(w[1:])


def _conv_transpose(node: onnx.NodeProto, x: Shape, w: Shape, y: Shape) -> int:
    """Each input value meets its filters, w: [channels, filters / group, …]."""
    return math.prod(x) * math.prod(w[1:])


def _matmul(node: onnx.NodeProto, x: Shape, w: Shape, y: Shape) -> int:
    return math.prod(y) * x[-1]


def _gemm(node: onnx.NodeProto, x: Shape, w: Shape, y: Shape) -> int:
    return math.prod(y) * x[0 if attribute(node, "transA", 0) else 1]


def _recurrent(node: onnx.NodeProto, x: Shape, w: Shape, y: Shape) -> int:
    """x: [steps, batch, inputs] (or batch first), w: [directions, gates · hidden, inputs]."""
    directions, rows, inputs = w
    hidden = rows // _GATES[node.op_type]
    return x[0] * x[1] * directions * rows * (inputs + hidden)


def _attention(node: onnx.NodeProto, x: Shape, w: Shape, y: Shape) -> int:
    """x: [batch, length, inputs], w: [inputs, 3 · hidden]; scores and their sum follow."""
    batch, length, inputs = x
    projected = batch * length * inputs * w[1]
    return projected + 2 * batch * length * length * (w[1] // 3)


_COUNTS: dict[str, Callable[[onnx.NodeProto, Any, Any, Any], int]] = {
    "Conv": _conv,
    "ConvTranspose": _conv_transpose,
    "MatMul": _matmul,
    "Gemm": _gemm,
    **dict.fromkeys(_GATES, _recurrent),
    "com.microsoft.Attention": _attention,
}
_FROM_RESULT = {"Conv", "MatMul", "Gemm"}
