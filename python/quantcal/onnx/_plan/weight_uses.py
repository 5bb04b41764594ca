"""How nodes read the stored codes of weights: which copy, with which axis and scale."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from quantcal.onnx._graph.graph import all_nodes, operator_of
from quantcal.onnx._graph.nested_scopes import scopes
from quantcal.onnx._graph.tied_weights import Tie, tie_of

if TYPE_CHECKING:
    import onnx

NodeInput: TypeAlias = tuple[str, int]
"""The name of a node and the position of one of its inputs."""


@dataclass(frozen=True, slots=True)
class WeightKey:
    """Identifies one stored copy of codes.

    Attributes
    ----------
    root : str
        The weight, or the weight that it is tied to.
    axis : int
        The channel axis, in the stored order of axes; -1 for one scale.
    format : str
    block_size : int
        0 without blocks.
    alone : bool
        Whether ``root`` is the constant itself and no tied constant can share the copy.
    """

    root: str
    axis: int
    format: str
    block_size: int = 0
    alone: bool = False


@dataclass(frozen=True, slots=True)
class WeightUse:
    """How an input reads stored codes.

    Attributes
    ----------
    key : WeightKey
    name : str
        The constant that the codes represent.
    perm : tuple of int
        The stored axes in the order of this constant; empty when the order is the same.
    factor : float
        The factor of the tie; scales are proportional to it.
    """

    key: WeightKey
    name: str
    perm: tuple[int, ...] = ()
    factor: float = 1.0


def find_shared_keys(
    graph: onnx.GraphProto,
    found: Mapping[NodeInput, WeightUse],
    formats: Mapping[str, str],
) -> set[WeightKey]:
    """Return the keys that several graphs read and whose codes can lie in the main graph.

    onnxruntime turns a MatMul or Gemm without an integer kernel into a MatMulNBits, and
    fails if the codes lie in an outer graph. It does so if the first input has no 8-bit
    codes. ``formats`` has the formats of the rounded tensors.
    """
    readers: dict[WeightKey, set[int]] = {}
    fixed: set[WeightKey] = set()
    for index, scope in enumerate(scopes(graph)):
        for node in scope.node:
            for position in range(len(node.input)):
                use = found.get((node.name, position))
                if use is None:
                    continue
                readers.setdefault(use.key, set()).add(index)
                matrix = operator_of(node) in ("MatMul", "Gemm")
                coded = formats.get(node.input[0]) in ("uint8", "int8")
                if use.key.block_size or (matrix and not coded):
                    fixed.add(use.key)
    return {key for key, graphs in readers.items() if len(graphs) > 1} - fixed


def roots_read_in_float(
    graph: onnx.GraphProto,
    found: Mapping[NodeInput, WeightUse],
    ties: Mapping[str, Tie],
) -> set[str]:
    """Return the roots that some node or an output still reads in float."""
    names = {
        name
        for node in all_nodes(graph)
        for index, name in enumerate(node.input)
        if (node.name, index) not in found
    }
    names |= {value.name for scope in scopes(graph) for value in scope.output}
    return {tie_of(ties, name).root for name in names}
