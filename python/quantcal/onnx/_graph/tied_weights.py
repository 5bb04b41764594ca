"""Tied weights: constants that equal another constant, transposed or times a factor.

Preparing a model computes such constants. Storing each of them would enlarge the file.
Instead, tied weights share one quantized copy, and one float copy for nodes in float.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from quantcal.onnx._graph.graph import all_nodes, names_of, operator_of, unique_name

if TYPE_CHECKING:
    import onnx


@dataclass(frozen=True, slots=True)
class Tie:
    """How to compute a constant from another one.

    Attributes
    ----------
    root : str
        The other constant. It is removed from the graph when nothing else reads it.
    perm : tuple of int
        The axes of the root in the order of this constant. Empty when they are the same.
    factor : float
        Each value is multiplied by it.
    """

    root: str
    perm: tuple[int, ...] = ()
    factor: float = 1.0

    def order(self, rank: int) -> tuple[int, ...]:
        """Return ``perm``, spelled out when it is empty."""
        return self.perm or tuple(range(rank))


def tie_of(ties: Mapping[str, Tie], name: str) -> Tie:
    """Return the tie of a constant, by default to itself."""
    return ties.get(name, Tie(name))


def find_ties(
    graph: onnx.GraphProto, names: Sequence[str], fixed: set[str]
) -> dict[str, Tie]:
    """Return the ties of constants that Identity and Transpose nodes compute.

    Parameters
    ----------
    graph : GraphProto
        The graph before these nodes are folded.
    names : sequence of str
        The constants to be folded.
    fixed : set of str
        All constants.
    """
    maker = {name: node for node in all_nodes(graph) for name in node.output if name}
    ties: dict[str, Tie] = {}
    for name in names:
        moves: list[onnx.NodeProto] = []
        root = name
        while root in maker and operator_of(maker[root]) in ("Identity", "Transpose"):
            moves.append(maker[root])
            root = moves[-1].input[0]
        source = maker.get(root)
        if moves and root in fixed and (source is None or not source.input):
            perm = _order(moves)
            if perm is not None:
                ties[name] = Tie(root, perm)
    return ties


def _order(moves: Sequence[onnx.NodeProto]) -> tuple[int, ...] | None:
    """Return the permutation of all moves together; the last move comes first.

    None when a Transpose has no ``perm``, so that the order depends on an unknown rank.
    """
    order: tuple[int, ...] = ()
    for node in reversed(moves):
        if operator_of(node) == "Transpose":
            perm = next((tuple(a.ints) for a in node.attribute if a.name == "perm"), ())
            if not perm:
                return None
            order = tuple(order[axis] for axis in perm) if order else perm
    return () if order == tuple(range(len(order))) else order


def compute_from_root(graph: onnx.GraphProto, ties: Mapping[str, Tie]) -> None:
    """Replace tied float constants by nodes that compute them from their root.

    The file then has one copy, as the original model had. Ties whose root is no longer
    stored in float are skipped.

    Parameters
    ----------
    graph : GraphProto
        The quantized graph without unread constants. It is changed in place.
    ties : mapping of str to Tie
    """
    found = {tensor.name for tensor in graph.initializer}
    kept = {name: t for name, t in ties.items() if {name, t.root} <= found}
    if not kept:
        return
    taken = names_of(graph) | {node.name for node in all_nodes(graph)}
    made: list[onnx.NodeProto] = []
    for name, tie in kept.items():
        made += _computed(graph, name, tie, taken)
    for index in reversed(range(len(graph.initializer))):
        if graph.initializer[index].name in kept:
            del graph.initializer[index]
    nodes = [*made, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)


def _computed(
    graph: onnx.GraphProto, name: str, tie: Tie, taken: set[str]
) -> list[onnx.NodeProto]:
    """Return the nodes that compute a tied constant; a factor is added to the graph."""
    import onnx

    made: list[onnx.NodeProto] = []
    steps: list[tuple[str, list[str], dict[str, tuple[int, ...]]]] = []
    if tie.factor != 1.0:
        factor = unique_name(f"{name}_factor", taken)
        value = np.asarray(tie.factor, np.float32)
        graph.initializer.append(onnx.numpy_helper.from_array(value, factor))
        steps.append(("Mul", [factor], {}))
    if tie.perm or not steps:
        kind = "Transpose" if tie.perm else "Identity"
        steps.append((kind, [], {"perm": tie.perm} if tie.perm else {}))
    source = tie.root
    for index, (kind, more, options) in enumerate(steps):
        last = index == len(steps) - 1
        result = name if last else unique_name(f"{name}_{kind}_Output", taken)
        title = unique_name(f"{name}_{kind}", taken)
        node = onnx.helper.make_node(kind, [source, *more], [result], title, **options)
        made.append(node)
        source = result
    return made
