"""Walking a graph and its subgraphs: nodes, names, constants, and the order of nodes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx


STANDARD_DOMAINS = frozenset({"", "ai.onnx"})
"""The two names of ONNX's standard domain."""


def subgraphs(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    """Yield the graphs that a control-flow node holds (If, Loop, Scan)."""
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs


def operator_of(node: onnx.NodeProto) -> str:
    """Return the operator of a node, with its domain unless that is the standard one.

    ``Conv`` is the standard operator, ``com.microsoft.FusedConv`` is not. A bare
    ``op_type`` is ambiguous: a ``Transpose`` of another domain may compute anything.
    """
    if node.domain in STANDARD_DOMAINS:
        return str(node.op_type)
    return f"{node.domain}.{node.op_type}"


def inputs_of(node: onnx.NodeProto) -> list[str]:
    """Return all tensors that a node reads: its inputs and what its subgraphs capture."""
    names = [name for name in node.input if name]
    for graph in subgraphs(node):
        made = {value.name for value in graph.input}
        made |= {tensor.name for tensor in graph.initializer}
        made |= {name for inner in graph.node for name in inner.output}
        read = [name for inner in graph.node for name in inputs_of(inner)]
        read += [value.name for value in graph.output]
        names += [name for name in read if name not in made]
    return names


def captured_by(node: onnx.NodeProto) -> list[str]:
    """Return the tensors that the subgraphs of a node read from outer graphs."""
    names = inputs_of(node)[sum(1 for name in node.input if name) :]
    return list(dict.fromkeys(names))


def all_nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    """Yield the nodes of a graph and of all its subgraphs."""
    for node in graph.node:
        yield node
        for inner in subgraphs(node):
            yield from all_nodes(inner)


def constants_of(graph: onnx.GraphProto) -> set[str]:
    """Return the tensors that do not depend on the inputs, including those of subgraphs.

    Random generators, control flow and operators of other domains count as variable. An
    initializer that is also an input counts as constant, because a quantized weight can no
    longer be overridden.
    """
    fixed: set[str] = set()
    _add_constants(graph, fixed)
    return fixed


def _add_constants(graph: onnx.GraphProto, fixed: set[str]) -> None:
    fixed |= {tensor.name for tensor in graph.initializer}
    fixed |= {tensor.values.name for tensor in graph.sparse_initializer}
    for node in graph.node:
        inside = list(subgraphs(node))
        for inner in inside:
            _add_constants(inner, fixed)
        variable = (
            bool(inside)
            or node.domain not in STANDARD_DOMAINS
            or node.op_type.startswith(
                ("Random", "Multinomial", "Bernoulli", "Dropout")
            )
        )
        if not variable and all(name in fixed for name in node.input if name):
            fixed.update(name for name in node.output if name)


def sort_nodes(graph: onnx.GraphProto) -> None:
    """Sort the nodes topologically; otherwise keep their order."""
    # onnxruntime sorts too, but it overlooks what subgraphs capture. The stack replaces
    # recursion, which deep models exceed.
    nodes = list(graph.node)
    maker = {name: i for i, node in enumerate(nodes) for name in node.output if name}
    done = [False] * len(nodes)
    order: list[int] = []
    for root in range(len(nodes)):
        stack = [root]
        while stack:
            i = stack[-1]
            needs = [maker[n] for n in inputs_of(nodes[i]) if n in maker]
            waiting = [] if done[i] else [j for j in needs if not done[j] and j != i]
            if waiting:
                stack.extend(waiting)
                continue
            stack.pop()
            if not done[i]:
                done[i] = True
                order.append(i)
    ordered = [nodes[i] for i in order]
    del graph.node[:]
    graph.node.extend(ordered)


def tensors_of(graph: onnx.GraphProto) -> list[str]:
    """Return the outputs of all nodes, in graph order."""
    return [name for node in graph.node for name in node.output if name]


def unique_name(base: str, taken: set[str]) -> str:
    """Return ``base``, with a number if it is taken, and add it to ``taken``."""
    name, number = base, 1
    while name in taken:
        number += 1
        name = f"{base}_{number}"
    taken.add(name)
    return name


def names_of(graph: onnx.GraphProto) -> set[str]:
    """Return every tensor name in the graph and its subgraphs."""
    names = {value.name for value in (*graph.input, *graph.output, *graph.initializer)}
    for node in graph.node:
        names.update(name for name in (*node.input, *node.output) if name)
        for inner in subgraphs(node):
            names |= names_of(inner)
    return names
