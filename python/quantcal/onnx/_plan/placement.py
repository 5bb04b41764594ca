"""Where activations are rounded: which tensors get a QuantizeLinear/DequantizeLinear pair.

For onnxruntime, the inputs of its integer kernels are rounded. Results are rounded only where
the kernel returns codes (:mod:`quantcal.onnx._plan.kernels`). So the result of a MatMul or Gemm
stays in float, unless a quantized node reads it directly. Nodes that onnxruntime removes, such
as an Identity, do not count as readers. With unsigned codes, the result of a Conv is rounded
behind its ReLU: codes that start at zero clip as the ReLU does, so onnxruntime removes it.
``placement="stock"`` rounds every result, as onnxruntime's own quantizer does.

For TensorRT, the rules are NVIDIA's ("Explicit Quantization", Q/DQ placement). All inputs of
the chosen nodes are rounded. Their outputs are not: bias, ReLU and residual sum are fused into
the node, which needs the sums unrounded. If only a Conv feeds one input of a sum, the other
input is rounded, so that the sum is fused too.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

from quantcal.onnx._graph.graph import all_nodes, operator_of
from quantcal.onnx._graph.nested_scopes import scopes
from quantcal.onnx._graph.weights import Weights, uses_of
from quantcal.onnx._options.names import rule_for
from quantcal.onnx._options.resolved import Options
from quantcal.onnx._plan.clips import Clipping, find_clips
from quantcal.onnx._plan.kernels import (
    FLOAT_RESULT,
    has_integer_sums,
    needs_rounded_result,
    reads_codes,
    removed_nodes,
)
from quantcal.onnx._plan.range_groups import RangeGroups
from quantcal.onnx._plan.sums import find_sums
from quantcal.onnx._plan.weight_inputs import is_weight_only

if TYPE_CHECKING:
    import onnx

# Inputs beyond these are biases, which are quantized with the other inputs' scales.
_BIASED = {"Conv": 2, "ConvTranspose": 2, "Gemm": 2}
_FUSED_SUMS = frozenset({"Conv", "ConvTranspose"})


def needed(node: onnx.NodeProto) -> list[str]:
    """Return what a node reads and writes, without its bias."""
    return [name for name in (*_read(node), *node.output) if name]


def _read(node: onnx.NodeProto) -> list[str]:
    return [name for name in node.input[: _BIASED.get(operator_of(node))] if name]


class Placement:
    """The places for chosen nodes.

    Parameters
    ----------
    graph : GraphProto
    nodes : mapping of str to str
        The chosen nodes.
    floats : set of str
        float32 tensors that are not constant.
    constants : set of str
    ranks : mapping of str to int
        Of tensors, where known.
    options : Options

    Attributes
    ----------
    sites, beside, formats, sums, clips
        As in :class:`quantcal.onnx._plan.plan.Plan`; the formats of more tensors.
    """

    def __init__(
        self,
        graph: onnx.GraphProto,
        nodes: Mapping[str, str],
        floats: set[str],
        constants: set[str],
        ranks: Mapping[str, int],
        options: Options,
    ) -> None:
        self._graph = graph
        self._nodes = nodes
        self._floats = floats
        self._constants = constants
        self._options = options
        self._used = uses_of(graph)
        self._weights = Weights(graph)
        # For each rounded tensor, the nodes that read it rounded. The others read it in float.
        self._readers: dict[str, set[str]] = {}
        # Those that all of their readers read rounded.
        self._rounded_for_all: set[str] = set()
        # The quantized nodes that read or make each rounded tensor; their rules are for it.
        self._beside: dict[str, list[str]] = {}
        self.formats: dict[str, str] = {}
        self._zero_clips = self._find_zero_clips()
        self._removed = removed_nodes(graph, nodes, ranks, self._weights)
        self._behind: dict[str, list[str]] = {}
        for name, source in self._removed.items():
            self._behind.setdefault(source, []).append(name)
        fused = options.minimal or options.target == "tensorrt"
        self.sums = find_sums(graph, nodes, ranks, self._removed) if fused else {}
        self._added = {
            term.matmul: node.output[0]
            for node in all_nodes(graph)
            for term in self.sums.get(node.name, ())
        }
        self._biased = {
            term.matmul
            for node in all_nodes(graph)
            for term in self.sums.get(node.name, ())
            if self._weights.is_float(node.input[term.other])
        }
        if not options.weights_only:
            self._place()
        self.sites = self._ordered()
        self.beside = {name: tuple(self._beside[name]) for name in self.sites}
        for name in self.sites:
            self._format(name)
        self.clips = self._find_clips() if options.minimal else {}

    def sources(self) -> dict[str, tuple[str, ...]]:
        """Return the tensors to observe for each that is rounded."""
        sharing = RangeGroups(
            self._graph, self.sites, self._constants, self._zero_clips, self._removed
        )
        return sharing.sources()

    def _place(self) -> None:
        minimal = self._options.minimal
        chosen = [node for node in all_nodes(self._graph) if node.name in self._nodes]
        for node in chosen:
            operator = operator_of(node)
            if is_weight_only(node, self._constants):
                continue
            if minimal and not reads_codes(operator):
                continue
            for name in _read(node):
                self._add_site(name, node.name).add(node.name)
            if minimal and not needs_rounded_result(operator):
                continue
            if self._options.rounds_outputs:
                self._round_for_all(node.output, node.name)
        if minimal:
            for node in chosen:
                if operator_of(node) in FLOAT_RESULT:
                    self._round_if_read(node)
        if self._options.rounds_outputs:
            self._move_behind_relu()
        else:
            self._add_residuals()

    def _round_for_all(self, names: Iterable[str], node: str) -> None:
        """Round these tensors beside a node, for all of their readers."""
        for name in names:
            self._add_site(name, node)
            self._rounded_for_all.add(name)

    def _round_if_read(self, node: onnx.NodeProto) -> None:
        """Round a float result for all readers if a quantized node is among them.

        With a QuantizeLinear for that node and float readers beside it, onnxruntime finds
        no integer kernel at all.
        """
        for name in self._results(node):
            if any(self._readers.get(same) for same in self._aliases(name)):
                self._round_for_all([self._last(name)], node.name)

    def _find_clips(self) -> dict[str, Clipping]:
        products = {}
        for node in all_nodes(self._graph):
            if node.name not in self._nodes or operator_of(node) not in FLOAT_RESULT:
                continue
            formats = [self.formats[name] for name in _read(node) if name in self.sites]
            if not formats or not all(map(has_integer_sums, formats)):
                continue
            same = {
                same for made in self._products(node) for same in self._aliases(made)
            }
            if not same & self._rounded_for_all:
                products[node.name] = same
        return find_clips(
            self._graph, products, self.sites, self._removed, self._weights
        )

    def _products(self, node: onnx.NodeProto) -> Iterator[str]:
        """Yield what a node makes, and the sum with a constant in its kernel."""
        yield from node.output
        if node.name in self._biased:
            yield self._added[node.name]

    def _results(self, node: onnx.NodeProto) -> Iterator[str]:
        """Yield what a node makes, and the sum that onnxruntime takes into it."""
        yield from node.output
        if node.name in self._added:
            yield self._added[node.name]

    def _aliases(self, name: str) -> Iterator[str]:
        """Yield a tensor, and those that are the same one to onnxruntime."""
        waiting = [name]
        while waiting:
            yield (name := waiting.pop())
            waiting += self._behind.get(name, ())

    def _last(self, name: str) -> str:
        """Return the last tensor on the way from this one to all of its readers."""
        while self._used[name] == 1 and name in self._behind:
            (name,) = self._behind[name]
        return name

    def _add_site(self, name: str, node: str) -> set[str]:
        """Round a tensor beside a node. Return the readers of the rounded tensor, to add to."""
        beside = self._beside.setdefault(name, [])
        if node not in beside:
            beside.append(node)
        return self._readers.setdefault(name, set())

    def _find_zero_clips(self) -> dict[str, str]:
        """Return tensor → output of the ReLU or Clip from 0 on that alone reads it."""
        return {
            node.input[0]: node.output[0]
            for node in all_nodes(self._graph)
            if self._used[node.input[0] if node.input else ""] == 1
            and (operator_of(node) == "Relu" or self._clips_at_zero(node))
        }

    def _clips_at_zero(self, node: onnx.NodeProto) -> bool:
        if operator_of(node) != "Clip" or len(node.input) < 2:
            return False
        low = node.input[1]
        return self._weights.is_float(low) and float(self._weights.array(low)) >= 0

    def _move_behind_relu(self) -> None:
        """Round behind a ReLU instead of before it, where codes cannot be negative.

        onnxruntime then takes the ReLU into the node, and no code is spent on what it
        cuts off.
        """
        chosen = {
            node.input[0]: node.name in self._nodes
            for node in all_nodes(self._graph)
            if operator_of(node) == "Relu"
        }
        for before, behind in self._zero_clips.items():
            if before not in self._rounded_for_all or chosen.get(before, True):
                continue
            makers = self._beside[before]
            beside = self._beside.setdefault(behind, [])
            beside += [name for name in makers if name not in beside]
            if self._format(behind).startswith("u"):
                self._readers.setdefault(behind, set())
                self._rounded_for_all.add(behind)
                self._rounded_for_all.discard(before)
                del self._readers[before]

    def _add_residuals(self) -> None:
        maker = {n: node for node in all_nodes(self._graph) for n in node.output if n}

        def fused(name: str) -> bool:
            node = maker.get(name)
            return (
                node is not None
                and node.name in self._nodes
                and operator_of(node) in _FUSED_SUMS
                and self._used[name] == 1
            )

        for node in all_nodes(self._graph):
            if operator_of(node) != "Add" or node.name in self._nodes:
                continue
            if not all(name in self._floats for name in node.input):
                continue
            first, second = node.input
            if first != second and (fused(first) or fused(second)):
                other = second if fused(first) else first
                self._add_site(other, node.name).add(node.name)

    def _format(self, name: str) -> str:
        if name not in self.formats:
            rules, default = (
                self._options.activation_formats,
                self._options.activation_type,
            )
            nodes = self._beside.get(name, ())
            ruled = rule_for(rules, name, nodes, default)
            self.formats[name] = self._options.given.get(name, ruled)
        return self.formats[name]

    def _ordered(self) -> dict[str, frozenset[str] | None]:
        order = []
        for scope in scopes(self._graph):
            order += [value.name for value in scope.input]
            order += [name for node in scope.node for name in node.output]
        return {
            name: None
            if name in self._rounded_for_all
            else frozenset(self._readers[name])
            for name in dict.fromkeys(order)
            if name in self._readers and name in self._floats
        }
