"""The Add behind a MatMul, which decides whether onnxruntime finds an integer kernel.

Before onnxruntime looks for integer kernels, it fuses a MatMul and the Add behind it into a
Gemm where it knows the shapes. A Gemm has an integer kernel only if its bias has 32-bit
codes. So the constant of such an Add gets 32-bit codes, at the scale of the products: then
every form of the graph has a kernel. What else is added to the product of two matrices is
kept out of the fusion by writing a Gemm in place of the MatMul. Nodes that onnxruntime
removes may stand between the two.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from quantcal.onnx._graph.graph import operator_of
from quantcal.onnx._graph.nested_scopes import scopes
from quantcal.onnx._graph.weights import uses_of

if TYPE_CHECKING:
    import onnx


@dataclass(frozen=True, slots=True)
class Sum:
    """One term of an Add that a MatMul makes.

    Attributes
    ----------
    matmul : str
        The name of the MatMul node.
    other : int
        The index of the Add's other input.
    matrices : bool
        Whether the MatMul is known to multiply two matrices, so that a Gemm does the same.
    """

    matmul: str
    other: int
    matrices: bool


def find_sums(
    graph: onnx.GraphProto,
    nodes: Collection[str],
    ranks: Mapping[str, int],
    removed: Mapping[str, str],
) -> dict[str, tuple[Sum, ...]]:
    """Return the terms of each Add in float that are made by chosen MatMul nodes.

    Parameters
    ----------
    graph : GraphProto
        Names mean one value in the whole model.
    nodes : collection of str
        The chosen nodes.
    ranks : mapping of str to int
        Of tensors, where known.
    removed : mapping of str to str
        Output → input of the nodes that onnxruntime removes.
    """
    used = uses_of(graph)

    def product(name: str) -> str:
        """Return the tensor that an Add reads once onnxruntime has removed nodes."""
        while name in removed and used[name] == 1:
            name = removed[name]
        return name

    known = dict(ranks)
    for scope in scopes(graph):
        known.update((tensor.name, len(tensor.dims)) for tensor in scope.initializer)
    found: dict[str, tuple[Sum, ...]] = {}
    for scope in scopes(graph):
        maker = {
            node.output[0]: node
            for node in scope.node
            if node.name in nodes and operator_of(node) == "MatMul"
        }
        for node in scope.node:
            if node.name in nodes or operator_of(node) != "Add":
                continue
            if node.output[0] in removed:
                continue
            terms = [
                Sum(
                    maker[name].name,
                    1 - index,
                    all(known.get(read) == 2 for read in maker[name].input),
                )
                for index, name in enumerate(map(product, node.input))
                if name in maker and used[name] == 1
            ]
            if terms:
                found[node.name] = tuple(terms)
    return found
