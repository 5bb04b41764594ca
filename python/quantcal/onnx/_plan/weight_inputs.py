"""Which inputs of an operator are weights that are stored as codes, and their channels.

Every input can follow a DequantizeLinear node; these are the ones for which it pays. The
constants of other operators (the slope of a PRelu, the scale of a LayerNormalization) are
vectors: rounding them saves nothing, so a chosen node that has them stays in float.
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
"""Operators whose third input is a bias, which takes the scale of the sums."""

ALIKE = frozenset(
    {"Add", "Sub", "Mul", "Div", "Where", "Concat", "Max", "Min", "Sum", "Mean"}
)
"""Operators whose kernels want all inputs in one format: constants as activations."""

_RECURRENT = frozenset({"LSTM", "GRU", "RNN"})
_WEIGHTS = {
    **dict.fromkeys(("Conv", "ConvTranspose"), (1,)),
    **dict.fromkeys(("MatMul", "Gemm"), (0, 1)),
    **dict.fromkeys(_RECURRENT, (1, 2)),
    "Gather": (0,),
    "com.microsoft.Attention": (1,),
}
# Inputs that set a limit or a size; they are no data, and none is rounded.
_LIMITS = frozenset({"Clip", "Resize", "Upsample", "Dropout"})
# A scale of 4 bytes for fewer values than this costs more than it gains.
_ROW = 16


def weight_positions(node: onnx.NodeProto) -> tuple[int, ...]:
    """Return the positions of the inputs that are coded when they are constant."""
    operator = operator_of(node)
    if operator in ALIKE or operator == "Einsum":
        return tuple(range(len(node.input)))
    listed = _WEIGHTS.get(operator, ())
    return tuple(i for i in listed if i < len(node.input) and node.input[i])


def is_unsupported_weight(node: onnx.NodeProto, index: int, values: int) -> bool:
    """Whether a constant input is a weight that cannot be coded.

    ``values`` is how many it has: single ones are parameters.
    """
    operator = operator_of(node)
    known = operator in ALIKE or operator in _WEIGHTS or operator == "Einsum"
    return not known and values > 1 and operator not in _LIMITS


def rounds_constants(node: onnx.NodeProto) -> bool:
    """Whether what a node's other constants hold reaches a rounded tensor."""
    operator = operator_of(node)
    known = operator in _WEIGHTS or operator == "Einsum" or operator in _LIMITS
    return not known


def is_weight_only(node: onnx.NodeProto, constants: Collection[str]) -> bool:
    """Whether a node's weights are coded and its activations stay in float.

    No kernel of these operators computes on integers, so that rounding what they read
    and write would lose accuracy for nothing. A Gather moves codes as well as floats, but
    of a constant table it need not.
    """
    operator = operator_of(node)
    if operator == "Gather":
        return node.input[0] in constants
    return operator in _RECURRENT or operator in ("Einsum", "com.microsoft.Attention")


def channel_axis(node: onnx.NodeProto, index: int, shape: tuple[int, ...]) -> int:
    """Return the axis of a weight that has one scale for each index, -1 for one scale.

    Kernels take the scales out of the sums, so that it must be an axis of the outputs.
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
        # A constant first input and a vector have only the axis that is summed over,
        # and kernels refuse one scale a column for stacks of matrices.
        return 1 if (index, rank) == (1, 2) else -1
    if index != 1 or operator in ALIKE:
        return -1
    return output_axis(node, rank)


def factor_axis(node: onnx.NodeProto, index: int, rank: int) -> int:
    """Return the axis of a factor that has one scale for each row or column of the result.

    That is for formats without an integer kernel, which asks for one scale in other
    places than the columns of a matrix.
    """
    if rank < 2:
        return -1
    turned = operator_of(node) == "Gemm" and attribute(node, f"trans{'AB'[index]}", 0)
    return rank - 2 if (index == 0) != bool(turned) else rank - 1


def _einsum_axis(node: onnx.NodeProto, index: int) -> int:
    """Return the last axis that only this operand has and the result keeps."""
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
