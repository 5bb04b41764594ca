"""Graphs that compute the tensors of layers: each layer alone, and as native kernels do.

Outputs that are added to a quantized model change how onnxruntime computes it. Of an output
behind a Conv, its integer kernel is lost. With signed codes even an output behind a
DequantizeLinear or a QuantizeLinear makes onnxruntime 1.32 compute most nodes in float. So
native tensors are taken from the fused graph (:func:`..plain_session.save_fused`), whose
kernels are chosen already. Their codes are decoded by a DequantizeLinear more.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from quantcal.onnx._graph.constants import stored_tensors
from quantcal.onnx._graph.graph import operator_of, subgraphs
from quantcal.onnx._graph.nonstandard_operators import dequantizes
from quantcal.onnx.layer_places import Layer, QuantizedGraph

if TYPE_CHECKING:
    import onnx

_MS = "com.microsoft"
# Kernels that yield codes → the place of the scale of these among their inputs. The zero
# point follows.
_SCALES = {
    "QLinearConv": 6,
    f"{_MS}.QLinearConv": 6,
    "QLinearMatMul": 6,
    f"{_MS}.QGemm": 7,
    f"{_MS}.QLinearAdd": 6,
    f"{_MS}.QLinearMul": 6,
    f"{_MS}.QLinearSigmoid": 3,
    f"{_MS}.QLinearLeakyRelu": 3,
    f"{_MS}.QLinearSoftmax": 3,
    f"{_MS}.QLinearAveragePool": 3,
    f"{_MS}.QLinearGlobalAveragePool": 3,
    f"{_MS}.QLinearConcat": 0,
}


@dataclass(frozen=True, slots=True)
class LocalGraph:
    """Layers that read the float model's tensors, each alone.

    Attributes
    ----------
    nodes
        Copies of nodes of the quantized model.
    inputs
        Name in the graph → tensor of the float model.
    outputs
        Index of a layer → its output. A layer that cannot be taken alone is missing.
    """

    nodes: list[onnx.NodeProto] = field(default_factory=list)
    inputs: dict[str, str] = field(default_factory=dict)
    outputs: dict[int, str] = field(default_factory=dict)


def float_inputs(graph: QuantizedGraph, layer: Layer) -> list[str] | None:
    """Return the float model's tensors that a layer reads; None if they are not known."""
    found = _cut(graph, layer)
    return None if found is None else list(found[1].values())


def local_graph(graph: QuantizedGraph, layers: Mapping[int, Layer]) -> LocalGraph:
    """Return a graph of layers that do not read each other."""
    made = LocalGraph()
    stored: dict[str, onnx.NodeProto] = {}
    for index, layer in layers.items():
        found = _cut(graph, layer)
        if found is None:
            continue
        nodes, cuts = found
        names = {cut: f"float/{name}" for cut, name in cuts.items()}
        made.inputs.update({f"float/{name}": name for name in cuts.values()})
        for node in nodes:
            if graph.constants.issuperset(filter(None, node.output)):
                stored[node.output[0]] = node
                continue
            names |= {name: f"layer{index}/{name}" for name in node.output if name}
        for node in nodes:
            if node.output[0] in stored:
                continue
            copy = type(node)()
            copy.CopyFrom(node)
            copy.name = f"layer{index}/{node.name}"
            for values in (copy.input, copy.output):
                for place, name in enumerate(values):
                    values[place] = names.get(name, name)
            made.nodes.append(copy)
        made.outputs[index] = names[layer.value]
    order = {name: place for place, name in enumerate(graph.maker)}
    constants = sorted(stored.values(), key=lambda node: order[node.output[0]])
    made.nodes[:0] = constants
    return made


def _cut(
    graph: QuantizedGraph, layer: Layer
) -> tuple[list[onnx.NodeProto], dict[str, str]] | None:
    """Walk back from a layer to tensors of the float model.

    Returns
    -------
    The nodes between in graph order, and tensor → its name in the float model; None where
    a subgraph or an input of the quantized model is met.
    """
    members = _members(graph, layer)
    cuts: dict[str, str] = {}
    needed: dict[str, onnx.NodeProto] = {}
    stack = [layer.value]
    while stack:
        name = stack.pop()
        constant = name in graph.constants
        counterpart = None if constant else graph.counterpart(name)
        if counterpart is not None and name not in members:
            cuts[name] = counterpart
            continue
        node = graph.maker.get(name)
        if node is None:
            if not constant:
                return None
            continue
        if any(subgraphs(node)):
            return None
        if node.name not in needed:
            needed[node.name] = node
            stack += [read for read in node.input if read]
    return [node for node in graph.nodes if node.name in needed], cuts


def _members(graph: QuantizedGraph, layer: Layer) -> set[str]:
    """Return the tensors that the layer makes: its result, and those before it."""
    members, name = {layer.value, layer.result}, layer.result
    while (node := graph.maker[name]).name != layer.node and not dequantizes(node):
        name = next(read for read in node.input if read not in graph.constants)
        members.add(name)
    return members


class NativeTaps:
    """What to add to the fused graph, so that it returns the tensors of layers.

    Parameters
    ----------
    fused : GraphProto
    quantized : GraphProto
        The graph that it was made of.
    """

    def __init__(self, fused: onnx.GraphProto, quantized: onnx.GraphProto) -> None:
        self._made = {name for node in fused.node for name in node.output if name}
        self._nodes = {node.name: node for node in fused.node}
        self._known = {tensor.name for tensor in fused.initializer}
        self._stored = stored_tensors(quantized)

    def find(self, index: int, layer: Layer) -> Tap | None:
        """Return how to get a layer's tensor; None where the kernels never make it."""
        decoder, codes = layer.decoder, layer.codes
        if decoder is not None and codes is not None and codes.output[0] in self._made:
            return self._decode(index, decoder, [codes.output[0], *decoder.input[1:]])
        for name in (layer.value, layer.result):
            if name in self._made:
                return Tap(name)
        node = self._nodes.get(layer.node)
        place = None if node is None else _SCALES.get(operator_of(node))
        if node is None or place is None or len(node.input) < place + 2:
            return None
        inputs = [node.output[0], node.input[place], node.input[place + 1]]
        return self._decode(index, None, inputs)

    def _decode(
        self, index: int, like: onnx.NodeProto | None, inputs: Sequence[str]
    ) -> Tap | None:
        import onnx

        output = f"layer{index}/value"
        node = onnx.NodeProto(op_type="DequantizeLinear")
        if like is not None:
            node.CopyFrom(like)
        node.name = f"layer{index}/decode"
        del node.input[:], node.output[:]
        node.input.extend(inputs)
        node.output.append(output)
        grid = []
        for name in filter(None, inputs[1:]):
            if name in self._known or name in self._made:
                continue
            if name not in self._stored:
                return None
            tensor = type(self._stored[name])()
            tensor.CopyFrom(self._stored[name])
            tensor.name = name
            grid.append(tensor)
        return Tap(output, node, tuple(grid))


@dataclass(frozen=True, slots=True)
class Tap:
    """An output of the fused graph, with the node and the constants that it needs."""

    output: str
    node: onnx.NodeProto | None = None
    constants: tuple[onnx.TensorProto, ...] = ()
