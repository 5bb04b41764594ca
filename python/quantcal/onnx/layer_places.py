"""The layers of a quantized model: its quantized nodes, and the tensor of each to compare.

A layer is a node of the main graph that reads codes through DequantizeLinear: its weights, or
all its float inputs if its result is rounded or there are two of them. Nodes that only move
values add no error and are left out. The tensor of a layer is its result. onnxruntime computes
a Relu or Clip behind it, or the Add of a constant behind a MatMul, in the same kernel, so the
result is that behind them. If it is rounded, the rounded values are compared.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from quantcal.onnx._graph.graph import constants_of, inputs_of, operator_of, subgraphs
from quantcal.onnx._graph.nonstandard_operators import dequantizes
from quantcal.onnx._runtime.memory_groups import OBSERVABLE

if TYPE_CHECKING:
    import onnx

_QUANTIZERS = frozenset({"QuantizeLinear", "com.microsoft.QuantizeLinear"})
_MOVING = frozenset(
    {
        *("Reshape", "Transpose", "Squeeze", "Unsqueeze", "Flatten", "Identity"),
        *("Split", "Slice", "MaxPool", "Expand", "DepthToSpace", "SpaceToDepth"),
        *("Shape", "Cast"),
    }
)
_IN_KERNEL = frozenset({"Relu", "Clip"})
_MOVED = "_QuantizeLinear_Input"
_DECODED = "_DequantizeLinear_Output"


@dataclass(frozen=True, slots=True)
class Layer:
    """A quantized node and its tensor in both models.

    Attributes
    ----------
    node, operator
        The name and operator of the node in the quantized model.
    tensor
        The name of the result in the float model.
    result
        The result in the quantized model before it is rounded.
    codes
        The QuantizeLinear behind it, or None.
    decoder
        The DequantizeLinear that decodes these, or None.
    inputs
        The nodes of the layers that it reads, directly or through other nodes.
    """

    node: str
    operator: str
    tensor: str
    result: str
    codes: onnx.NodeProto | None
    decoder: onnx.NodeProto | None
    inputs: tuple[str, ...]

    @property
    def value(self) -> str:
        """What the readers of the layer get in the quantized model."""
        return self.result if self.decoder is None else self.decoder.output[0]


class QuantizedGraph:
    """The main graph of a quantized model, with the counterparts of its tensors.

    Parameters
    ----------
    graph : GraphProto
        Its nodes have unique names.
    types : mapping of str to str
        onnxruntime's types of its tensors, inputs and initializers.
    counterparts : mapping of str to str
        The float tensors of the float model, with the operators that make them. Its inputs,
        without one.
    """

    def __init__(
        self,
        graph: onnx.GraphProto,
        types: Mapping[str, str],
        counterparts: Mapping[str, str],
    ) -> None:
        self.nodes = list(graph.node)
        self.constants = constants_of(graph)
        for node in filter(dequantizes, self.nodes):  # of onnxruntime's domain too
            if self.constants.issuperset(node.input):
                self.constants.update(node.output)
        self.maker = {name: n for n in self.nodes for name in n.output if name}
        self._outputs = {value.name for value in graph.output}
        self._counterparts = counterparts
        self._readers: dict[str, list[onnx.NodeProto]] = {}
        for node in self.nodes:
            for name in dict.fromkeys(inputs_of(node)):
                self._readers.setdefault(name, []).append(node)
        self._floats = {name for name, kind in types.items() if kind in OBSERVABLE}
        self._order = {node.name: index for index, node in enumerate(self.nodes)}

    def counterpart(self, name: str) -> str | None:
        """Return the float model's name of a tensor that is not rounded; None without one."""
        maker = self.maker.get(name)
        if maker is not None and dequantizes(maker):
            return None
        for known in (name, name.removesuffix(_MOVED)):
            if known in self._counterparts:
                return known
        return None

    def layers(self) -> tuple[list[Layer], list[str]]:
        """Return the layers in graph order, and quantized nodes without a counterpart."""
        found: list[Layer] = []
        lost: list[str] = []
        taken: set[str] = set()  # nodes of earlier layers
        reached: dict[str, frozenset[str]] = {}
        for node in self.nodes:
            sources = frozenset[str]().union(
                *(reached.get(name, frozenset()) for name in inputs_of(node))
            )
            if node.name not in taken and self._is_layer(node):
                result, inside = self._result(node)
                taken |= inside
                layer = self._layer(node, result, sources)
                if layer is None:
                    lost.append(node.name)
                else:
                    found.append(layer)
                    sources = frozenset({layer.node})
            for name in node.output:
                reached[name] = sources
        return found, lost

    def _is_layer(self, node: onnx.NodeProto) -> bool:
        operator = operator_of(node)
        if set(filter(None, node.output)) <= self.constants or any(subgraphs(node)):
            return False
        if self._decodes_rows(node):
            return True
        if dequantizes(node) or operator in _QUANTIZERS or operator in _MOVING:
            return False
        decoded = [name for name in node.input if self._is_decoded(name)]
        if any(name in self.constants for name in decoded):
            return True
        floats = [name for name in node.input if name in self._floats]
        rounded = any(self._quantizer(name) for name in node.output)
        return (
            bool(decoded)
            and set(floats) <= set(decoded)
            and (rounded or len(decoded) > 1)
        )

    def _decodes_rows(self, node: onnx.NodeProto) -> bool:
        """Return whether a node decodes what a Gather took of a table of codes.

        The last node of the decoding makes the tensor that a Gather makes in float.
        """
        gathers = operator_of(node) == "Gather"
        return not gathers and self._counterparts.get(node.output[0]) == "Gather"

    def _is_decoded(self, name: str) -> bool:
        return name in self.maker and dequantizes(self.maker[name])

    def _quantizer(self, name: str) -> onnx.NodeProto | None:
        readers = self._readers.get(name, ())
        return next((n for n in readers if operator_of(n) in _QUANTIZERS), None)

    def _result(self, node: onnx.NodeProto) -> tuple[str, set[str]]:
        """Follow a node's result through what its kernel computes too."""
        name, inside = next(filter(None, node.output)), {node.name}
        while name not in self._outputs and len(self._readers.get(name, ())) == 1:
            (reader,) = self._readers[name]
            operator = operator_of(reader)
            bias = (
                operator == "Add"
                and operator_of(node) == "MatMul"
                and len(inside) == 1
                and any(other in self.constants for other in reader.input)
            )
            if not bias and operator not in _IN_KERNEL:
                break
            name = reader.output[0]
            inside.add(reader.name)
        return name, inside

    def _layer(
        self, node: onnx.NodeProto, result: str, sources: frozenset[str]
    ) -> Layer | None:
        codes = self._quantizer(result)
        readers = self._readers.get(codes.output[0], ()) if codes is not None else ()
        decoder = next(filter(dequantizes, readers), None)
        value = decoder.output[0] if decoder is not None else result
        names = (
            value,
            result,
            result.removesuffix(_MOVED),
            value.removesuffix(_DECODED),
        )
        tensor = next((name for name in names if name in self._counterparts), None)
        if tensor is None:
            return None
        shown = node
        if self._decodes_rows(node):
            while operator_of(shown) != "Gather":
                shown = self.maker[shown.input[0]]
        return Layer(
            shown.name,
            str(shown.op_type),
            tensor,
            result,
            codes if decoder is not None else None,
            decoder,
            tuple(sorted(sources, key=self._order.__getitem__)),
        )
