"""Which inputs of an operator are weights that are stored as codes, and their channels.

Any constant input could be stored as codes; for these inputs it saves memory or time. The
constants of other operators are vectors, such as the slope of a PRelu or the scale of a
LayerNormalization. Rounding them saves nothing, so a chosen node with such constants stays
in float.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

from quantcal.onnx._graph.attributes import attribute
from quantcal.onnx._graph.graph import operator_of
from quantcal.onnx._plan.operands import channel_axis as output_axis

if TYPE_CHECKING:
    import onnx

BIASED = frozenset({"Conv", "ConvTranspose", "Gemm"})
"""Operators whose third input is a bias, which takes the scale of the products."""

ALIKE = frozenset(
    {"Add", "Sub", "Mul", "Div", "Where", "Concat", "Max", "Min", "Sum", "Mean"}
)
"""Operators whose kernels need all inputs in one format: constants like activations."""

_RECURRENT = frozenset({"LSTM", "GRU", "RNN"})
_WEIGHTS = {
    **dict.fromkeys(("Conv", "ConvTranspose"), (1,)),
    **dict.fromkeys(("MatMul", "Gemm"), (0, 1)),
    **dict.fromkeys(_RECURRENT, (1, 2)),
    "Gather": (0,),
    "com.microsoft.Attention": (1,),
}
# Operators whose other inputs are limits or sizes, not data. These are never rounded.
_LIMITS = frozenset({"Clip", "Resize", "Upsample", "Dropout"})
# Rows with fewer values share one scale: 4 bytes for each row would cost too much.
_ROW = 16


def weight_positions(node: onnx.NodeProto) -> tuple[int, ...]:
    """Return the positions of the inputs that are stored as codes when they are constant."""
    operator = operator_of(node)
    if operator in ALIKE or operator == "Einsum":
        return tuple(range(len(node.input)))
    listed = _WEIGHTS.get(operator, ())
    return tuple(i for i in listed if i < len(node.input) and node.input[i])


def is_unsupported_weight(node: onnx.NodeProto, index: int, values: int) -> bool:
    """Whether a constant input is a weight that cannot be stored as codes.

    ``values`` is the number of its values: a single value is a parameter, not a weight.
    """
    operator = operator_of(node)
    known = operator in ALIKE or operator in _WEIGHTS or operator == "Einsum"
    return not known and values > 1 and operator not in _LIMITS


def rounds_constants(node: onnx.NodeProto) -> bool:
    """Whether the values of a node's other constants affect a rounded tensor."""
    operator = operator_of(node)
    known = operator in _WEIGHTS or operator == "Einsum" or operator in _LIMITS
    return not known


def is_weight_only(node: onnx.NodeProto, constants: Collection[str]) -> bool:
    """Whether a node's weights are stored as codes and its activations stay in float.

    These operators have no integer kernel, so rounding their activations would only lose
    accuracy. A Gather can move codes, but the rows of a constant table need no rounding.
    """
    operator = operator_of(node)
    if operator == "Gather":
        return node.input[0] in constants
    return operator in _RECURRENT or operator in ("Einsum", "com.microsoft.Attention")


def channel_axis(node: onnx.NodeProto, index: int, shape: tuple[int, ...]) -> int:
    """Return the axis of a weight that has one scale for each index, -1 for one scale.

    Kernels apply scales to the finished sums, so it must be an axis of the output.
    """
    operator, rank = operator_of(node), len(shape)
    if operator == "Gather":
        axis = int(attribute(node, "axis", 0)) % max(rank, 1)
        size = 1
        for other, length in enumerate(shape):
            size *= length if other != axis else 1
        return axis if size >= _ROW else -1
    if operator in _RECURRENT or operator == "com.microsoft.Attention":
        return 1 if rank > 1 else -1
    if operator == "Einsum":
        return _einsum_axis(node, index)
    if operator == "MatMul":
        # A vector has only the axis of the sum, and a constant first input has no columns
        # of the output. Kernels refuse scales by column for stacks of matrices.
        return 1 if (index, rank) == (1, 2) else -1
    if index != 1 or operator in ALIKE:
        return -1
    return output_axis(node, rank)


def factor_axis(node: onnx.NodeProto, index: int, rank: int) -> int:
    """Return the axis of a factor that has one scale for each row or column of the result.

    It is for formats without an integer kernel. An integer kernel takes several scales only
    for the columns of a matrix.
    """
    if rank < 2:
        return -1
    turned = operator_of(node) == "Gemm" and attribute(node, f"trans{'AB'[index]}", 0)
    return rank - 2 if (index == 0) != bool(turned) else rank - 1


def _einsum_axis(node: onnx.NodeProto, index: int) -> int:
    """Return the last axis that only this operand and the result have."""
    equation = attribute(node, "equation", b"")
    text = equation.decode() if isinstance(equation, bytes) else str(equation)
    given, _, result = text.replace(" ", "").partition("->")
    operands = given.split(",")
    if "." in text or not result or index >= len(operands):
        return -1
    others = "".join(operands[:index] + operands[index + 1 :])
    own = operands[index]
    free = [
        a for a, letter in enumerate(own) if letter in result and letter not in others
    ]
    return free[-1] if free and len(own) == len(set(own)) else -1
