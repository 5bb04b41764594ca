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

# A rounding does the work of these.
_BOUNDS = frozenset({"Relu", "Clip", "Min", "Max"})
# Kernels of products compute these on their results.
_EPILOGUES = _BOUNDS | {
    *("Add", "BatchNormalization", "Sigmoid", "Tanh", "LeakyRelu", "HardSigmoid"),
}


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

    def has_product(self, name: str) -> bool:
        """Whether a node's group has a product."""
        return self.first(name) in self._products

    def join_if_alone(self, one: str, other: str) -> None:
        """Join unless both groups have a product."""
        if not (self.has_product(one) and self.has_product(other)):
            self.join(one, other)


def group_nodes(graph: FloatGraph, *models: Claims) -> dict[str, str]:
    """Return node → the first node of its group.

    Nodes of one kernel, in either model, are one group. A node that has a kernel in one
    model only is inside another kernel of the other model, but nothing says in which. An
    Add, a Relu and the like join the product before them, others the single kernel that
    reads them. Two products are never joined so.
    """
    groups = _Groups(graph)
    for claims in models:
        for nodes in claims.values():
            first, *others = sorted(nodes) or [""]
            for other in others:
                groups.join(first, other)
    claimed = [frozenset[str]().union(*claims.values()) for claims in models]
    everywhere = frozenset(graph.order).intersection(*claimed)
    lone = frozenset[str]().union(*claimed) - everywhere
    ordered = [name for name in graph.order if name in lone]
    rest = [name for name in ordered if not graph.is_product(name)]
    rest = [name for name in rest if not _join_before(name, graph, groups)]
    for name in reversed(rest):
        ends = {groups.first(each) for each in graph.after[name]} - {groups.first(name)}
        if len(ends) == 1:
            groups.join_if_alone(name, ends.pop())
    return {name: groups.first(name) for name in graph.order}


def _join_before(name: str, graph: FloatGraph, groups: _Groups) -> bool:
    """Join a node to what it completes: a product, or what only it bounds."""
    kind = graph.operators[name]
    before = [each for each in graph.before[name] if graph.after[each] == [name]]
    products = [each for each in before if groups.has_product(each)]
    if kind in _EPILOGUES and products:
        before = products
    elif kind not in _BOUNDS or not before:
        return False
    # Of two products, onnxruntime adds to the later one.
    groups.join_if_alone(name, max(before, key=graph.order.__getitem__))
    return True
