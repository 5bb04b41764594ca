"""Insert Q/DQ pairs around the chosen nodes, and replace their weights by codes.

A pair on a tensor lies in the graph of its readers, and so do the codes of weights:
onnxruntime fuses only what lies in one graph. Names follow onnxruntime's quantizer:
``x_QuantizeLinear_Output``, ``w_quantized``, ``w_scale``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from quantcal.formats import QuantFormat
from quantcal.onnx._graph.external_data import embed_weights
from quantcal.onnx._graph.graph import captured_by, operator_of, sort_nodes, subgraphs
from quantcal.onnx._graph.tied_weights import compute_from_root
from quantcal.onnx._graph.weights import drop_unread, uses_of
from quantcal.onnx._options.cpu import WeightBits
from quantcal.onnx._write.clip_forms import in_other_form
from quantcal.onnx._write.initializers import Initializers
from quantcal.onnx._write.ort_workarounds import make_loadable
from quantcal.onnx._write.weight_nodes import Scope, WeightNodes
from quantcal.params import QuantParams

if TYPE_CHECKING:
    import onnx

    from quantcal.onnx._plan.preparation import Prepared


RENAMED = "_QuantizeLinear_Input"
"""What is added to the name of an output before it is rounded."""

# onnxruntime moves a DequantizeLinear to after these nodes; it removes an Identity earlier.
_MOVED_BEHIND = frozenset(
    {
        *("Transpose", "Reshape", "Squeeze", "Unsqueeze", "Slice", "MaxPool"),
        *("Identity", "Flatten", "Gather", "Expand", "Split", "Resize"),
        *("DepthToSpace", "SpaceToDepth"),
    }
)


@dataclass(frozen=True, slots=True)
class Insertion:
    """A model with Q/DQ pairs.

    Attributes
    ----------
    proto : ModelProto
    weights : Counter of str
        Format → number of weights.
    grids : dict of str to tuple of str
        Activation → the names of the scale and the zero point that its pairs read.
    """

    proto: onnx.ModelProto
    weights: Counter[str]
    grids: dict[str, tuple[str, ...]]


def insert_qdq(
    prepared: Prepared,
    ranges: Mapping[str, QuantParams],
    bits: WeightBits,
    *,
    float_weights: bool = False,
) -> Insertion:
    """Return a quantized copy of the prepared model.

    Parameters
    ----------
    prepared : Prepared
    ranges : mapping of str to QuantParams
        The ranges of all tensors that the plan rounds.
    bits : WeightBits
        Which nodes store 8-bit weights with 7 bits.
    float_weights : bool
        Leave weights and biases in float, and round activations only.

    Returns
    -------
    Insertion
    """
    import onnx

    proto = onnx.ModelProto()
    proto.CopyFrom(prepared.proto)
    sort_nodes(proto.graph)
    work = _QdqInserter(prepared, proto, ranges, bits, float_weights=float_weights)
    work.scope(proto.graph, {})
    make_loadable(proto, work.name, relus=prepared.options.target == "onnxruntime")
    drop_unread(proto.graph, uses_of(prepared.proto.graph))
    compute_from_root(proto.graph, prepared.ties)
    if prepared.converted.folder is not None:
        embed_weights(proto, prepared.converted.folder)  # what stays in float
    return Insertion(proto, work.weights, work.grids)


class _QdqInserter:
    """Rewrites one model, from the main graph inwards."""

    def __init__(
        self,
        prepared: Prepared,
        proto: onnx.ModelProto,
        ranges: Mapping[str, QuantParams],
        bits: WeightBits,
        *,
        float_weights: bool,
    ) -> None:
        self._plan = prepared.plan
        self._ranges = ranges
        self._graph = proto.graph
        self._initializers = Initializers(proto.graph)
        self._weights = WeightNodes(
            prepared, proto.graph, self._initializers, ranges, bits
        )
        self._float_weights = float_weights
        self._grids: dict[str, list[str]] = {}
        self._again: dict[str, str] = {}

    @property
    def weights(self) -> Counter[str]:
        """Format → number of weights."""
        return self._weights.formats

    @property
    def grids(self) -> dict[str, tuple[str, ...]]:
        """Activation → the names of its scale and zero point."""
        return {name: tuple(grid) for name, grid in self._grids.items()}

    def scope(self, graph: onnx.GraphProto, around: Mapping[str, str]) -> None:
        """Rewrite one graph, and those inside it.

        ``around`` maps tensors of the outer graphs to what is read instead of them.
        """
        names = dict(around)
        pairs: dict[str, str] = {}  # tensors that only some nodes read rounded
        outputs = {value.name for value in graph.output}
        scope = Scope(graph)
        nodes = scope.nodes
        for node in graph.node:
            inside = {**names, **self._captured(node, nodes, names)}
            for index, name in enumerate(node.input):
                if self._rounds(node, name, around):
                    if name not in pairs:
                        source = names.get(name, name)
                        pairs[name] = self._pair(nodes, name, source)
                    node.input[index] = pairs[name]
                elif name in names:
                    node.input[index] = names[name]
            if not self._float_weights:
                self._weights.decode(node, scope)
                if node.name in self._plan.sums:
                    self._weights.decode_sum(node, self._plan.sums[node.name], scope)
            nodes.extend(self._kept_apart(node))
            for index, name in enumerate(node.output):
                if self._plan.sites.get(name, frozenset()) is not None:
                    continue
                source = name
                if name in outputs:
                    source = self.name(f"{name}{RENAMED}")
                    node.output[index] = source
                names[name] = self._pair(nodes, name, source, keep=name in outputs)
            for inner in subgraphs(node):
                self.scope(inner, inside)
        del graph.node[:]
        graph.node.extend(nodes)
        made = {name for node in graph.node for name in node.output}
        made |= {value.name for value in graph.input}
        kept = [value for value in graph.value_info if value.name in made]
        del graph.value_info[:]
        graph.value_info.extend(kept)

    def _kept_apart(self, node: onnx.NodeProto) -> Iterable[onnx.NodeProto]:
        """Return a node, in another form if it would take a product its integer kernel."""
        clipping = self._plan.clips.get(node.name)
        if clipping is None or clipping.is_merged(self._ranges):
            return [node]
        return in_other_form(node, self.name)

    def _rounds(
        self, node: onnx.NodeProto, name: str, around: Mapping[str, str]
    ) -> bool:
        """Whether a node reads a rounded tensor through a pair in its graph.

        A tensor that is rounded after its producer needs no second pair, unless the
        producer lies in an outer graph: onnxruntime does not fuse across graphs.
        """
        readers = self._plan.sites.get(name, frozenset())
        if readers is None:
            return name in around and node.name in self._plan.nodes
        return node.name in readers

    def _captured(
        self,
        node: onnx.NodeProto,
        nodes: list[onnx.NodeProto],
        names: Mapping[str, str],
    ) -> dict[str, str]:
        """Return what subgraphs read in place of rounded tensors that were moved.

        onnxruntime moves a DequantizeLinear to after a Transpose or Reshape, and aborts
        if only a subgraph reads the result. A second rounding with the same grid prevents
        that, and changes no value.
        """
        captured = captured_by(node)
        if not captured:
            return {}
        maker = {name: made for made in nodes for name in made.output}
        again = {}
        for name in captured:
            source = names.get(name, name)
            grid = _moved_grid(source, maker)
            if grid and name not in self._again:
                self._again[name] = self._append_pair(nodes, name, source, grid)
            if grid:
                again[name] = self._again[name]
        return again

    def name(self, base: str) -> str:
        """Return ``base``, or an unused name like it."""
        return self._initializers.name(base)

    def _pair(
        self,
        nodes: list[onnx.NodeProto],
        name: str,
        source: str,
        *,
        keep: bool = False,
    ) -> str:
        """Append Q and DQ of a tensor; return the output of DQ (``name`` itself if kept)."""
        if name not in self._grids:
            self._grids[name] = self._grid(name)
        return self._append_pair(nodes, name, source, self._grids[name], keep=keep)

    def _append_pair(
        self,
        nodes: list[onnx.NodeProto],
        name: str,
        source: str,
        grid: Sequence[str],
        *,
        keep: bool = False,
    ) -> str:
        import onnx

        coded = self.name(f"{name}_QuantizeLinear_Output")
        real = name if keep else self.name(f"{name}_DequantizeLinear_Output")
        for op_type, given, gives in (
            ("QuantizeLinear", source, coded),
            ("DequantizeLinear", coded, real),
        ):
            inputs = [given, *grid]
            title = self.name(f"{name}_{op_type}")
            nodes.append(onnx.helper.make_node(op_type, inputs, [gives], title))
        return real

    def _grid(self, name: str) -> list[str]:
        """Store the scale and zero point of an activation; return their names."""
        params = self._ranges[name]
        scale = np.asarray(params.scale, dtype=np.float32)
        zero = np.asarray(params.zero_point).astype(QuantFormat(params.format).storage)
        return self._initializers.grid(self._graph, name, scale, zero, params.format)


def _moved_grid(name: str, maker: Mapping[str, onnx.NodeProto]) -> list[str]:
    """Return the scale and zero point of a rounded tensor that was moved; else nothing."""
    node, moved = maker.get(name), False
    while node is not None and operator_of(node) in _MOVED_BEHIND:
        node, moved = maker.get(node.input[0]), True
    if node is None or not moved or node.op_type != "DequantizeLinear":
        return []
    rounded = node.input[0] in maker  # not a constant
    return list(node.input[1:]) if rounded else []
