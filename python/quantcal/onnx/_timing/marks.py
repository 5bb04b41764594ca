"""Marks in the names of nodes and tensors, which survive onnxruntime's optimizations.

onnxruntime names a fused node after a node or a tensor that it replaces. Names of a user's
model are ambiguous: a tensor may be named like another node. So the measured copy of a model
has a number in each name, and a kernel's name and outputs tell which nodes it computes.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from quantcal.onnx._graph.graph import all_nodes, names_of
from quantcal.onnx._graph.nested_scopes import scopes

if TYPE_CHECKING:
    import onnx


class Marks:
    """Numbers the nodes of a model, its subgraphs included, in their order.

    A name must mean one value in the whole model
    (:func:`quantcal.onnx._graph.nested_scopes.unify_names`).

    Parameters
    ----------
    graph : GraphProto
        The graph to number. It is not changed.
    """

    def __init__(self, graph: onnx.GraphProto) -> None:
        self._sign = "~"
        names = names_of(graph) | {node.name for node in all_nodes(graph)}
        while any(self._sign in name for name in names):
            self._sign += "~"
        self._pattern = re.compile(f"{self._sign}(\\d+){self._sign}")

    def numbers(self, *names: str) -> frozenset[int]:
        """Return the numbers of the nodes that these names were made of."""
        return frozenset(
            int(found) for name in names for found in self._pattern.findall(name)
        )

    def rename(self, graph: onnx.GraphProto) -> None:
        """Write the marks into the names of all nodes, and of the tensors they make.

        Inputs and weights keep their names.
        """
        new: dict[str, str] = {}
        for number, node in enumerate(all_nodes(graph)):
            mark = f"{self._sign}{number}{self._sign}"
            node.name = mark
            for index, name in enumerate(node.output):
                if name:
                    new[name] = f"{mark}{index}"
        for scope in scopes(graph):
            for node in scope.node:
                for listed in (node.input, node.output):
                    for index, name in enumerate(listed):
                        listed[index] = new.get(name, name)
            for value in (*scope.output, *scope.value_info):
                value.name = new.get(value.name, value.name)
            del scope.quantization_annotation[:]
