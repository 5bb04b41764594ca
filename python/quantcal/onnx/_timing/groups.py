"""Nodes that a kernel computes together, in the float or in the quantized model.

A float kernel may compute a Conv, a sum and a Relu, where integers have a kernel for the
Conv alone. Times can be compared for all three together only, so they are one group.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from quantcal.onnx._graph.graph import all_nodes, inputs_of, operator_of

if TYPE_CHECKING:
    import onnx

    from quantcal.onnx._timing.profile import Kernel

Claims = dict[str, frozenset[str]]
"""Kernel → the nodes of the float model that it computes; none for added kernels."""

_PRODUCTS = ("Conv", "MatMul", "Gemm")
_BOUNDS = ("Relu", "Clip", "Min", "Max")


class FloatGraph:
    """The nodes of the float model, and what each reads and feeds."""

    def __init__(self, graph: onnx.GraphProto, counts: Mapping[str, int]) -> None:
        nodes = list(all_nodes(graph))
        makers = {name: node.name for node in nodes for name in node.output if name}
        self.operators = {node.name: operator_of(node) for node in nodes}
        self.counts = counts
        self.order = {node.name: place for place, node in enumerate(nodes)}
        self.before = {
            node.name: [makers[name] for name in inputs_of(node) if name in makers]
            for node in nodes
        }
        self.after: dict[str, list[str]] = {node.name: [] for node in nodes}
        for name, before in self.before.items():
            for each in before:
                self.after[each].append(name)

    def is_product(self, name: str) -> bool:
        """Whether a node multiplies matrices or filters."""
        return self.counts.get(name, 0) > 0 or self.operators[name] in _PRODUCTS


def claim_products(
    kernels: Mapping[str, Kernel], claims: Claims, graph: FloatGraph
) -> Claims:
    """Add the product to kernels that are named after what follows it.

    onnxruntime names a fused convolution after its output, so only the Relu behind it may
    have left its mark. The Conv is found on the way back over nodes without a kernel.
    """
    taken = frozenset[str]().union(*claims.values())
    result = dict(claims)
    for name, nodes in claims.items():
        kind = kernels[name].op_type
        multiplies = any(part in kind for part in _PRODUCTS)
        if multiplies and nodes and not any(map(graph.is_product, nodes)):
            result[name] = nodes | _way_to_product(nodes, graph, taken)
    return result


def _way_to_product(
    nodes: frozenset[str], graph: FloatGraph, taken: frozenset[str]
) -> frozenset[str]:
    ways = [[name] for name in nodes]
    seen = set(nodes)
    while ways:
        way = ways.pop(0)
        for name in graph.before[way[-1]]:
            if name in taken or name in seen:
                continue
            seen.add(name)
            if graph.is_product(name):
                return frozenset([*way, name])
            ways.append([*way, name])
    return frozenset()


class _Groups:
    """Sets of nodes that are joined; each has the node that comes first in the graph."""

    def __init__(self, graph: FloatGraph) -> None:
        self._graph = graph
        self._parents = {name: name for name in graph.order}
        self._products = set(filter(graph.is_product, graph.order))

    def first(self, name: str) -> str:
        while self._parents[name] != name:
            self._parents[name] = self._parents[self._parents[name]]
            name = self._parents[name]
        return name

    def join(self, one: str, other: str) -> None:
        ends = {self.first(one), self.first(other)}
        first, *rest = sorted(ends, key=self._graph.order.__getitem__)
        for each in rest:
            self._parents[each] = first
            if each in self._products:
                self._products.add(first)

    def join_if_alone(self, one: str, other: str) -> None:
        """Join unless both groups have a product."""
        if not {self.first(one), self.first(other)} <= self._products:
            self.join(one, other)


def group_nodes(graph: FloatGraph, *models: Claims) -> dict[str, str]:
    """Return node → the first node of its group.

    Nodes of one kernel, in either model, are one group. A node that has a kernel in one
    model only joins the product that it bounds, because a rounding does that work. Other
    such nodes join the single kernel that reads them. Two products are never joined so.
    """
    groups = _Groups(graph)
    for claims in models:
        for nodes in claims.values():
            first, *others = sorted(nodes) or [""]
            for other in others:
                groups.join(first, other)
    claimed = [frozenset[str]().union(*claims.values()) for claims in models]
    lone = frozenset[str]().union(*claimed) - frozenset(graph.order).intersection(
        *claimed
    )
    for name in sorted(lone, key=graph.order.__getitem__, reverse=True):
        if graph.is_product(name):
            continue
        around = graph.after[name]
        if graph.operators[name] in _BOUNDS:
            around = [n for n in graph.before[name] if graph.is_product(n)] or around
        ends = {groups.first(each) for each in around} - {groups.first(name)}
        if len(ends) == 1:
            groups.join_if_alone(name, ends.pop())
    return {name: groups.first(name) for name in graph.order}
