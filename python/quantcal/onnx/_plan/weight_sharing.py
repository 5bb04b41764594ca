"""Plan which codes each reader of a weight takes: readers share one stored copy if possible.

Readers share the codes of a weight if they need one format and one axis of scales. If they
need different axes, as a Gemm with transB and a MatMul do, the weight gets a single scale,
since a second copy would double the codes. A Gather works with any axis, so it takes the
codes that a quantized node has of its table.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from quantcal.formats import QuantFormat
from quantcal.onnx._graph.graph import all_nodes, operator_of
from quantcal.onnx._graph.nested_scopes import scopes
from quantcal.onnx._graph.tied_weights import Tie, tie_of
from quantcal.onnx._graph.weights import Weights
from quantcal.onnx._options.names import matches, rule_for
from quantcal.onnx._options.resolved import Options
from quantcal.onnx._options.values import is_float
from quantcal.onnx._plan.weight_inputs import (
    ALIKE,
    BIASED,
    channel_axis,
    factor_axis,
    weight_positions,
)
from quantcal.onnx._plan.weight_uses import NodeInput, WeightKey, WeightUse

if TYPE_CHECKING:
    import onnx

    from quantcal.onnx._options.cpu import WeightBits

ROWS = "int8"
"""The format of a table's rows if Gather cannot read the format of the weights."""


def plan_weight_uses(
    graph: onnx.GraphProto,
    nodes: Collection[str],
    ties: Mapping[str, Tie],
    options: Options,
    bits: WeightBits,
) -> dict[NodeInput, WeightUse]:
    """Return the inputs that read codes, and the codes that each reads.

    Parameters
    ----------
    graph : GraphProto
        The prepared graph.
    nodes : collection of str
        The chosen nodes.
    ties : mapping of str to Tie
    options : Options
    bits : WeightBits
        Which nodes take 7 bits instead of 8.

    Returns
    -------
    dict of (str, int) to WeightUse
        By node name and position of the input, in the order of the graph. It includes Gather
        nodes that were not chosen, if another node reads codes of their table and no other
        kind of node reads it in float.
    """
    return _Readers(graph, nodes, ties, options, bits).uses()


class _Readers:
    """Assigns all readers of weights to as few stored copies as possible."""

    def __init__(
        self,
        graph: onnx.GraphProto,
        nodes: Collection[str],
        ties: Mapping[str, Tie],
        options: Options,
        bits: WeightBits,
    ) -> None:
        self._graph = graph
        self._ties = ties
        self._options = options
        self._bits = bits
        self._weights = Weights(graph)
        self._first: dict[str, tuple[int, ...]] = {}
        self._nodes = {node.name: node for node in all_nodes(graph)}
        self._chosen = [n for n in self._nodes.values() if n.name in nodes]

    def uses(self) -> dict[NodeInput, WeightUse]:
        tables = self._tables()
        self._lay_out([node for node, _ in tables])
        found: dict[NodeInput, WeightUse] = {}
        for node in self._chosen:
            for index in weight_positions(node):
                if self._weights.is_float(node.input[index]):
                    found[node.name, index] = self._wanted(node, index)
        found = _one_axis(_one_width(found, self._nodes), self._nodes)
        self._share_rows(found, tables)
        return {place: found[place] for place in self._places() if place in found}

    def _places(self) -> list[NodeInput]:
        return [(n.name, i) for n in self._nodes.values() for i in range(len(n.input))]

    def _lay_out(self, tables: list[onnx.NodeProto]) -> None:
        """Choose the order of axes in which each root is stored.

        A table decides first, since its codes are gathered before they are dequantized.
        Otherwise the root is stored untransposed if some node reads it so, else in the
        order of its first reader.
        """
        perms: dict[str, list[tuple[int, ...]]] = {}
        for node in (*tables, *self._chosen):
            for index in weight_positions(node):
                name = node.input[index]
                if self._weights.is_float(name):
                    tie = tie_of(self._ties, name)
                    perm = tie.order(len(self._weights.shape(name)))
                    perms.setdefault(tie.root, []).append(perm)
        fixed = {tie_of(self._ties, node.input[0]).root for node in tables}
        for root, found in perms.items():
            plain = tuple(range(len(found[0])))
            keep = root in fixed or plain not in found
            self._first[root] = found[0] if keep else plain

    def _wanted(self, node: onnx.NodeProto, index: int) -> WeightUse:
        """Return what a chosen node would read if it were the only reader."""
        name, options = node.input[index], self._options
        operator = operator_of(node)
        shape = self._weights.shape(name)
        default = options.weight_type
        format = rule_for(options.weight_formats, name, [node.name], default)
        axis = channel_axis(node, index, shape) if options.per_channel else -1
        if operator in ALIKE and not options.weights_only:
            format = options.activation_type
        if operator == "Gather" and not _gatherable(format):
            format = ROWS
        if index == 0 and operator in ("MatMul", "Gemm") and options.minimal:
            format = _as_first_factor(format, options.activation_type)
        few = QuantFormat(format).bits <= 4
        if few and options.per_channel and operator in ("MatMul", "Gemm"):
            axis = factor_axis(node, index, len(shape))
        narrow = self._bits.reduce or node.name in self._bits.nodes
        if narrow and operator in (*BIASED, "MatMul"):
            format = _narrow(format)
        if (
            operator in ("MatMul", "Gemm")
            and (index, len(shape)) == (1, 2)
            and options.block_size
            and axis >= 0
            and few
        ):
            use = self._use(name, 1 - axis, format)
            if use.perm:  # blocks along an axis do not survive a transposition
                key = WeightKey(name, 1 - axis, format, options.block_size, alone=True)
                return WeightUse(key, name)
            key = replace(use.key, block_size=options.block_size)
            return replace(use, key=key)
        return self._use(name, axis, format)

    def _use(self, name: str, axis: int, format: str) -> WeightUse:
        """Return a use of a constant with scales along one of its axes."""
        tie = tie_of(self._ties, name)
        if tie.factor <= 0:  # a scale cannot be negative
            return WeightUse(WeightKey(name, axis, format, alone=True), name)
        order = tie.order(len(self._weights.shape(name)))
        first = self._first[tie.root]
        perm = tuple(first.index(axis) for axis in order)
        stored = perm[axis] if axis >= 0 else -1
        plain = perm == tuple(range(len(perm)))
        key = WeightKey(tie.root, stored, format)
        return WeightUse(key, name, () if plain else perm, tie.factor)

    def _tables(self) -> list[tuple[onnx.NodeProto, bool]]:
        """Return the Gather nodes of constant tables, and whether they are chosen."""
        chosen = {node.name for node in self._chosen}
        return [
            (node, node.name in chosen)
            for node in self._nodes.values()
            if operator_of(node) == "Gather"
            and self._weights.is_float(node.input[0])
            and not matches(node.name, self._options.exclude)
            and not any(matches(n, self._options.exclude) for n in node.output)
        ]

    def _share_rows(
        self,
        found: dict[NodeInput, WeightUse],
        tables: list[tuple[onnx.NodeProto, bool]],
    ) -> None:
        """Let Gather nodes read the codes that other nodes have of their tables."""
        readers: dict[str, list[WeightUse]] = {}
        for (name, _), use in found.items():
            if operator_of(self._nodes[name]) != "Gather":
                root = tie_of(self._ties, use.name).root
                readers.setdefault(root, []).append(use)
        kept = self._float_roots(found, tables)
        for node, chosen in tables:
            name = node.input[0]
            tie = tie_of(self._ties, name)
            others = readers.get(tie.root, [])
            if not chosen and (not others or tie.root in kept):
                continue
            same = [use.key for use in others if _gatherable(use.key.format)]
            same = [key for key in same if not (key.block_size or key.alone)]
            axis = channel_axis(node, 0, self._weights.shape(name))
            axis = axis if self._options.per_channel else -1
            format = ROWS if not chosen else found[node.name, 0].key.format
            use = self._use(name, axis, format)
            if use.perm and not chosen:
                continue  # its rows could only be gathered after dequantizing all
            found[node.name, 0] = replace(use, key=same[0]) if same else use

    def _float_roots(
        self,
        found: Mapping[NodeInput, WeightUse],
        tables: list[tuple[onnx.NodeProto, bool]],
    ) -> set[str]:
        """Return the roots that some node can only read in float."""
        able = {(node.name, 0) for node, _ in tables} | found.keys()
        kept = {
            node.input[index]
            for node in self._nodes.values()
            for index in range(len(node.input))
            if (node.name, index) not in able
        }
        kept |= {value.name for s in scopes(self._graph) for value in s.output}
        return {tie_of(self._ties, name).root for name in kept}


def _gatherable(format: str) -> bool:
    """Whether onnxruntime's Gather reads such codes: integers of whole bytes."""
    return not is_float(format) and QuantFormat(format).bits > 4


def _as_first_factor(format: str, activation: str) -> str:
    """Return a format for a first factor that a kernel multiplies by an activation.

    No kernel multiplies signed by unsigned codes.
    """
    signed = format in ("int8", "int7") and activation == "uint8"
    return "uint8" if signed else format


def _narrow(format: str) -> str:
    return format.replace("8", "7") if format in ("int8", "uint8") else format


def _one_width(
    found: dict[NodeInput, WeightUse], nodes: Mapping[str, onnx.NodeProto]
) -> dict[NodeInput, WeightUse]:
    """Let all readers of a weight take 7 bits if one does: both widths fill a byte."""
    narrow = {
        use.key.root for use in found.values() if use.key.format in ("int7", "uint7")
    }
    return {
        place: replace(use, key=replace(use.key, format=_narrow(use.key.format)))
        if use.key.root in narrow and _sums(nodes[place[0]])
        else use
        for place, use in found.items()
    }


def _one_axis(
    found: dict[NodeInput, WeightUse], nodes: Mapping[str, onnx.NodeProto]
) -> dict[NodeInput, WeightUse]:
    """Let readers that need one format with different axes share a single scale."""
    axes: dict[tuple[str, str], set[int]] = {}
    for place, use in found.items():
        if not use.key.block_size and _sums(nodes[place[0]]):
            axes.setdefault((use.key.root, use.key.format), set()).add(use.key.axis)
    return {
        place: replace(use, key=replace(use.key, axis=-1))
        if len(axes.get((use.key.root, use.key.format), ())) > 1
        and not use.key.block_size
        and _sums(nodes[place[0]])
        else use
        for place, use in found.items()
    }


def _sums(node: onnx.NodeProto) -> bool:
    """Whether a node is not a Gather, which reads the codes of others."""
    return operator_of(node) != "Gather"
