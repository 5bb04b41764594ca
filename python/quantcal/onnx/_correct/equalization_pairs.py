"""Finding the pairs of layers between which channels can be scaled freely.

Between the two lie only operators that commute with a positive factor for each channel:
Relu, LeakyRelu, PRelu, pooling, and constants that scale or shift. A shift takes the
factor too. Relu6 and other clips do not commute.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from quantcal.onnx._correct.channels import (
    CONVS,
    LAYERS,
    ChannelView,
    Vector,
    is_by_channel,
)
from quantcal.onnx._correct.float_copy import FloatCopy, Wiring
from quantcal.onnx._graph.attributes import attribute
from quantcal.onnx._graph.graph import operator_of
from quantcal.onnx._graph.nested_scopes import scopes

if TYPE_CHECKING:
    import onnx

_HOMOGENEOUS = frozenset({"Relu", "LeakyRelu", "PRelu", "Identity"})
_POOLS = frozenset({"MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool"})
_SHIFTS = frozenset({"Add", "Mul"})


@dataclass(frozen=True, slots=True)
class Shift:
    """A constant that is added to the channels of a tensor, and so takes their factor.

    Attributes
    ----------
    node : NodeProto
    index : int
        The input of the node that holds it.
    axis : int
        The axis of the channels, from the end.
    """

    node: onnx.NodeProto
    index: int
    axis: int


@dataclass(slots=True)
class Pair:
    """Two layers, and what lies between them.

    Attributes
    ----------
    first, second : NodeProto
        The layer that makes the channels, and the one that reads them.
    views : tuple of ChannelView
        The weights of both.
    gain : array
        What each row is multiplied by before it reaches the second layer.
    offset : array
        What is added to each row before it reaches an activation or the second layer.
    folded : tuple of array
        What a BatchNormalization behind each layer multiplies its rows by. Preparing a
        model folds it into the weights, so ranges include it.
    shifts : list of Shift
    norm : NodeProto, optional
        A BatchNormalization behind the first layer. Its gain is scaled in place of rows.
    """

    first: onnx.NodeProto
    second: onnx.NodeProto
    views: tuple[ChannelView, ChannelView]
    gain: Vector
    offset: Vector
    folded: tuple[Vector, Vector]
    shifts: list[Shift] = field(default_factory=list)
    norm: onnx.NodeProto | None = None

    @property
    def names(self) -> tuple[str, str]:
        """The names of both layers."""
        return self.first.name, self.second.name


def find_pairs(copy: FloatCopy) -> tuple[list[Pair], dict[str, str]]:
    """Return the pairs in the order of the graph, and why other layers make no pair.

    Layers whose output something else reads are not listed as skipped: most networks have
    many of them.
    """
    pairs: list[Pair] = []
    skipped: dict[str, str] = {}
    for scope in scopes(copy.graph):
        wiring = Wiring(scope, copy.weights)
        for node in wiring.nodes:
            if operator_of(node) not in LAYERS or len(node.input) < 2:
                continue
            found = _pair_behind(node, copy, wiring)
            if isinstance(found, Pair):
                pairs.append(found)
            elif found:
                skipped[node.name] = found
    return pairs, skipped


def _pair_behind(
    first: onnx.NodeProto, copy: FloatCopy, wiring: Wiring
) -> Pair | str | None:
    """Return the pair that begins with a layer, or why there is none; None for no layer."""
    chain = list(_chain(first, wiring))
    if not chain or operator_of(chain[-1]) not in LAYERS:
        return None
    second = chain.pop()
    if (operator_of(first) in CONVS) != (operator_of(second) in CONVS):
        return None
    reasons = [copy.why_not_own(node.input[1]) for node in (first, second)]
    reason = reasons[0] or reasons[1]
    if reason:
        return reason
    one, other = (
        ChannelView.of(node, copy.weights.shape(node.input[1]))
        for node in (first, second)
    )
    if one is None or other is None or one.rows != other.columns or one.is_split:
        return "weights without rows or columns for each channel"
    gains = [
        norm_gain(wiring.only_reader(node.output[0]), view.rows, copy)
        for node, view in ((first, one), (second, other))
    ]
    zeros, ones = np.zeros(one.rows), np.ones(one.rows)
    pair = Pair(first, second, (one, other), ones, zeros, (gains[0], gains[1]))
    return _add_bias(pair, copy) or _add_constants(pair, chain, copy) or pair


def _chain(first: onnx.NodeProto, wiring: Wiring) -> Iterator[onnx.NodeProto]:
    """Yield the nodes behind a layer, up to the first that is no scaling or activation."""
    known = _HOMOGENEOUS | _SHIFTS | {"BatchNormalization"}
    known |= _POOLS if operator_of(first) in CONVS else set()
    node = first
    while True:
        made = node.output[0]
        read = wiring.only_reader(made)
        more = [name for name in node.output[1:] if name]
        if read is None or (more and node is not first):
            return
        operator = operator_of(read)
        is_data = read.input[0] == made or operator in _SHIFTS
        if not is_data or operator not in known | LAYERS:
            return
        yield read
        if operator in LAYERS:
            return
        node = read


def _add_bias(pair: Pair, copy: FloatCopy) -> str | None:
    """Add the bias of the first layer; return why its channels cannot be scaled."""
    if len(pair.first.input) < 3 or not pair.first.input[2]:
        return None
    name = pair.first.input[2]
    if not copy.is_constant(name) or not _fits(copy, name, len(pair.gain), -1):
        return "a bias that is no float32 constant by channel"
    pair.shifts.append(Shift(pair.first, 2, -1))
    factor = 1.0
    if operator_of(pair.first) == "Gemm":
        factor = float(attribute(pair.first, "beta", 1.0))
    pair.offset += factor * _vector(copy, name)
    return None


def _add_constants(
    pair: Pair, chain: list[onnx.NodeProto], copy: FloatCopy
) -> str | None:
    """Add the constants between both layers; return why channels cannot be scaled."""
    axis = 1 - len(pair.views[0].shape) if operator_of(pair.first) in CONVS else -1
    previous, linear = pair.first.output[0], True
    for node in chain:
        operator = operator_of(node)
        if operator in _SHIFTS:
            index = 1 - list(node.input).index(previous)
            name = node.input[index]
            if not copy.is_constant(name) or not _fits(
                copy, name, len(pair.gain), axis
            ):
                return "a constant between both layers that is not by channel"
            if operator == "Add":
                pair.shifts.append(Shift(node, index, axis))
                pair.offset += _vector(copy, name) * linear
            else:
                pair.gain *= np.abs(_vector(copy, name))
                pair.offset *= _vector(copy, name)
        elif operator == "BatchNormalization":
            if node is not chain[0] or not _is_norm(node, len(pair.gain), copy):
                return "a BatchNormalization that cannot be scaled"
            pair.norm = node
            pair.shifts = [Shift(node, 2, -1)]  # a bias before the gain keeps its value
            gain = norm_gain(node, len(pair.gain), copy)
            gain *= np.sign(_vector(copy, node.input[1]))
            before = pair.offset - _vector(copy, node.input[3])
            pair.offset[:] = before * gain + _vector(copy, node.input[2])
        else:
            linear = False
        previous = node.output[0]
    return None


def _vector(copy: FloatCopy, name: str) -> Vector:
    """Return a constant of one value, or one for each channel."""
    return copy.weights.array(name).astype(np.float64).reshape(-1)


def _fits(copy: FloatCopy, name: str, channels: int, axis: int) -> bool:
    return is_by_channel(copy.weights.shape(name), channels, axis)


def _is_norm(node: onnx.NodeProto | None, rows: int, copy: FloatCopy) -> bool:
    """Whether a node is a BatchNormalization with constants for so many channels."""
    if node is None or operator_of(node) != "BatchNormalization":
        return False
    names = list(node.input[1:5])
    training = attribute(node, "training_mode", 0)
    if training or len(names) != 4 or len([n for n in node.output if n]) != 1:
        return False
    return all(copy.is_constant(n) and copy.weights.shape(n) == (rows,) for n in names)


def norm_gain(node: onnx.NodeProto | None, rows: int, copy: FloatCopy) -> Vector:
    """Return what a BatchNormalization multiplies rows by; ones for other nodes."""
    if node is None or not _is_norm(node, rows, copy):
        return np.ones(rows)
    gain, variance = (
        copy.weights.array(node.input[index]).astype(np.float64) for index in (1, 4)
    )
    epsilon = float(attribute(node, "epsilon", 1e-5))
    found: Vector = np.abs(gain) / np.sqrt(variance + epsilon)
    return found
