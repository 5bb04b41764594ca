"""Gather codes instead of floats: move DequantizeLinear from before a Gather to after it.

onnxruntime runs a DequantizeLinear before a Gather on the whole table, in each inference.
For 30,522 rows of 384 values that takes 2.5 to 35 ms on one core. To gather 128 rows of codes
and dequantize only these takes 0.03 to 0.09 ms; a float table takes 0.02 ms. The values are
the same, to the bit.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from quantcal.onnx._graph.attributes import attribute
from quantcal.onnx._graph.graph import all_nodes, names_of, operator_of, unique_name
from quantcal.onnx._graph.nested_scopes import remove_nodes, scopes
from quantcal.onnx._graph.weights import drop_unread, uses_of

if TYPE_CHECKING:
    import onnx


def gather_codes(graph: onnx.GraphProto) -> None:
    """Let each Gather of a dequantized constant read its codes.

    Parameters
    ----------
    graph : GraphProto
        A written graph, changed in place, subgraphs too. The Gather kernel takes neither
        4-bit codes nor small floats, so these are still dequantized before it.
    """
    constants = {t.name: t for scope in scopes(graph) for t in scope.initializer}
    taken = names_of(graph) | {node.name for node in all_nodes(graph)}
    before = uses_of(graph)
    for scope in scopes(graph):
        _GatherRewriter(scope, constants, taken).move()
    used = uses_of(graph)
    for scope in scopes(graph):
        remove_nodes(
            scope,
            lambda node: (
                operator_of(node) == "DequantizeLinear"
                and before[node.output[0]] > 0
                and not used[node.output[0]]
            ),
        )
    drop_unread(graph, before)


class _GatherRewriter:
    """The Gather nodes of one graph."""

    def __init__(
        self,
        graph: onnx.GraphProto,
        constants: dict[str, onnx.TensorProto],
        taken: set[str],
    ) -> None:
        self._graph = graph
        self._constants = constants
        self._taken = taken
        self._nodes: list[onnx.NodeProto] = []
        self._decoders = {
            node.output[0]: node for node in graph.node if self._decodes(node)
        }

    def move(self) -> None:
        found = False
        for node in self._graph.node:
            decoder = self._decoders.get(node.input[0] if node.input else "")
            if operator_of(node) == "Gather" and decoder is not None:
                self._gather(node, decoder)
                found = True
            else:
                self._nodes.append(node)
        if found:
            del self._graph.node[:]
            self._graph.node.extend(self._nodes)

    def _decodes(self, node: onnx.NodeProto) -> bool:
        """Whether a node dequantizes constant codes that a Gather can read.

        Nodes of the original model may have other forms; these are not changed.
        """
        import onnx

        kinds = onnx.TensorProto
        if operator_of(node) != "DequantizeLinear" or len(node.input) != 3:
            return False
        if any(name not in self._constants for name in node.input):
            return False
        if self._constants[node.input[1]].data_type != kinds.FLOAT:
            return False
        kind = self._constants[node.input[0]].data_type
        whole = kind in (kinds.INT8, kinds.UINT8, kinds.INT16, kinds.UINT16)
        return whole and not attribute(node, "block_size", 0)

    def _gather(self, node: onnx.NodeProto, decoder: onnx.NodeProto) -> None:
        codes, scale, zero = decoder.input
        rank = len(self._constants[codes].dims)
        axis = int(attribute(node, "axis", 0)) % rank
        rows = node.input[1]
        result = node.output[0]
        title = unique_name(f"{result}_DequantizeLinear", self._taken)
        picked = unique_name(f"{result}_quantized", self._taken)
        self._last("Gather", [codes, rows], picked, node.name, {"axis": axis})
        scales = self._constants[scale].dims
        channel = int(attribute(decoder, "axis", 1)) % rank if scales else -1
        if channel != axis:
            # The indices may add or remove axes at the gathered axis. So an axis after it
            # is counted from the end.
            where = channel if channel < axis else channel - rank
            options = {} if channel < 0 else {"axis": where}
            self._last(
                "DequantizeLinear", [picked, scale, zero], result, title, options
            )
            return
        # One scale for each row: which scales apply depends on the indices. So the scales
        # are gathered like the rows, and Cast, Sub and Mul replace DequantizeLinear.
        shape = [-1 if k == axis else 1 for k in range(rank)]
        real = self._add("Cast", [picked], f"{result}_cast", to=1)
        if np.any(self._values(zero)):
            centers = self._rows(zero, rows, shape, axis)
            centers = self._add("Cast", [centers], f"{zero}_cast", to=1)
            real = self._add("Sub", [real, centers], f"{result}_centered")
        scales = self._rows(scale, rows, shape, axis)
        self._last("Mul", [real, scales], result, title, {})

    def _values(self, name: str) -> Any:
        import onnx

        return onnx.numpy_helper.to_array(self._constants[name])

    def _rows(self, name: str, rows: str, shape: Sequence[int], axis: int) -> str:
        """Append the nodes that gather the scales of the rows, in a shape to multiply with."""
        import onnx

        wanted = onnx.numpy_helper.from_array(np.asarray(shape, np.int64))
        wanted.name = unique_name(f"{name}_shape", self._taken)
        self._graph.initializer.append(wanted)
        column = self._add("Reshape", [name, wanted.name], f"{name}_column")
        return self._add("Gather", [column, rows], f"{name}_rows", axis=axis)

    def _add(self, kind: str, inputs: Sequence[str], base: str, **options: int) -> str:
        result = unique_name(base, self._taken)
        self._last(kind, inputs, result, unique_name(base, self._taken), options)
        return result

    def _last(
        self,
        kind: str,
        inputs: Sequence[str],
        result: str,
        title: str,
        options: dict[str, int],
    ) -> None:
        import onnx

        self._nodes.append(
            onnx.helper.make_node(kind, inputs, [result], title, **options)
        )
