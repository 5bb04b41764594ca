"""Finding the norms and products whose channels can be smoothed: one source, its readers.

A source is a norm with a scale for each channel, or a product with a constant vector. So
LayerNormalization and RMSNorm are found as operators and in their decomposed forms, where
Mul by the scale and Add of the bias stand last.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from quantcal.onnx._correct.channels import ChannelView, is_by_channel
from quantcal.onnx._correct.float_copy import FloatCopy, Wiring
from quantcal.onnx._graph.graph import operator_of
from quantcal.onnx._graph.nested_scopes import scopes

if TYPE_CHECKING:
    import onnx

_MS = "com.microsoft"
_NORMS = {
    "LayerNormalization": (1, 2),
    "SimplifiedLayerNormalization": (1,),
    "RMSNormalization": (1,),
    f"{_MS}.SimplifiedLayerNormalization": (1,),
    f"{_MS}.SkipLayerNormalization": (2, 3),
    f"{_MS}.SkipSimplifiedLayerNormalization": (2,),
}
"""Norms, and the inputs that scale and shift their channels."""

_READERS = frozenset({"MatMul", "Gemm"})
_DEPTH = 2  # exporters of JAX multiply by scale / deviation, which is a product itself


@dataclass(frozen=True, slots=True)
class SourceGroup:
    """A tensor whose channels are divided, and the layers that read it.

    Attributes
    ----------
    tensor : str
    vectors : tuple of (NodeProto, int)
        The inputs of nodes that scale and shift the channels of the tensor.
    readers : tuple of NodeProto
    views : tuple of ChannelView
        Of the readers' weights.
    """

    tensor: str
    vectors: tuple[tuple[onnx.NodeProto, int], ...]
    readers: tuple[onnx.NodeProto, ...]
    views: tuple[ChannelView, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """The node that is scaled, and those that read it."""
        return self.vectors[-1][0].name, *(node.name for node in self.readers)

    @property
    def channels(self) -> int:
        """The number of channels."""
        return self.views[0].columns


def find_groups(copy: FloatCopy) -> tuple[list[SourceGroup], dict[str, str]]:
    """Return the groups in the order of the graph, and why other sources make none."""
    groups: list[SourceGroup] = []
    skipped: dict[str, str] = {}
    for scope in scopes(copy.graph):
        wiring = Wiring(scope, copy.weights)
        tensors = [
            node.input[0]
            for node in wiring.nodes
            if operator_of(node) in _READERS and copy.is_constant(node.input[1])
        ]
        for tensor in dict.fromkeys(tensors):
            vectors = _source(tensor, copy, wiring)
            if not vectors:
                continue
            found = _group(tensor, vectors, copy, wiring)
            if isinstance(found, str):
                skipped[tensor] = found
            elif scope is not copy.graph:
                skipped[tensor] = "inside a subgraph, where no sample is observed"
            else:
                groups.append(found)
    return groups, skipped


def _source(
    tensor: str, copy: FloatCopy, wiring: Wiring
) -> tuple[tuple[onnx.NodeProto, int], ...]:
    """Return the constants that scale and shift a tensor by channel; empty for none."""
    node = wiring.maker.get(tensor)
    if node is None:
        return ()
    if operator_of(node) in _NORMS:
        if node.output[0] != tensor:
            return ()
        places = [i for i in _NORMS[operator_of(node)] if node.input[i : i + 1]]
        places = [index for index in places if node.input[index]]
        known = all(copy.is_constant(node.input[index]) for index in places)
        return tuple((node, index) for index in places) if known else ()
    if operator_of(node) == "Add":
        for index in (0, 1):
            shift, inner = node.input[index], node.input[1 - index]
            if copy.is_constant(shift) and wiring.only_reader(inner) is not None:
                found = _source(inner, copy, wiring)
                return ((node, index), *found) if found else ()
        return ()
    factor = _factor(tensor, copy, wiring, _DEPTH)
    return (factor,) if factor else ()


def _factor(
    tensor: str, copy: FloatCopy, wiring: Wiring, depth: int
) -> tuple[onnx.NodeProto, int] | None:
    """Return the vector in a product: an input of the Mul, or of a Mul before it."""
    node = wiring.maker.get(tensor)
    if node is None or operator_of(node) != "Mul" or not depth:
        return None
    for index, name in enumerate(node.input):
        if copy.is_constant(name) and copy.weights.shape(name)[-1:] not in ((), (1,)):
            return node, index
    for name in node.input:
        if wiring.only_reader(name) is not None:
            found = _factor(name, copy, wiring, depth - 1)
            if found:
                return found
    return None


def _group(
    tensor: str,
    vectors: tuple[tuple[onnx.NodeProto, int], ...],
    copy: FloatCopy,
    wiring: Wiring,
) -> SourceGroup | str:
    """Return the group of a source, or why its channels cannot be scaled."""
    readers = wiring.only_readers(tensor)
    if readers is None:
        return "norms that a subgraph or an output reads"
    views = []
    for node in readers:
        reads = operator_of(node) in _READERS and node.input[0] == tensor
        if not reads or list(node.input).count(tensor) != 1:
            return f"norms that {operator_of(node)} reads too"
        reason = copy.why_not_own(node.input[1])
        view = (
            None if reason else ChannelView.of(node, copy.weights.shape(node.input[1]))
        )
        if view is None:
            return f"norms before {reason or 'stacks of matrices'}"
        views.append(view)
    channels = views[0].columns
    for node, index in vectors:
        shape = copy.weights.shape(node.input[index])
        if not is_by_channel(shape, channels, -1):
            return "norms with a scale that is not by channel"
    if any(view.columns != channels for view in views):
        return "norms with a scale that is not by channel"
    return SourceGroup(tensor, vectors, tuple(readers), tuple(views))
