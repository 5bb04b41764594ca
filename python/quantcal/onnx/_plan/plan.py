"""Plan which nodes are quantized, which tensors are rounded, and why the rest stays in float.

The plan is made once, on the prepared graph. Both the observer and the writer follow it, so
the observed tensors are those that the written model needs. Nodes inside `If`, `Loop` and
`Scan` are chosen like all others.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from quantcal._core import CalibrationError
from quantcal.onnx._graph.constants import stored_tensors
from quantcal.onnx._graph.graph import all_nodes, constants_of, operator_of
from quantcal.onnx._graph.nested_scopes import owners
from quantcal.onnx._graph.nonstandard_operators import (
    dequantizes,
    standard_operator,
    why_nonstandard,
)
from quantcal.onnx._graph.tied_weights import Tie
from quantcal.onnx._options.names import check_rules
from quantcal.onnx._options.resolved import Options
from quantcal.onnx._options.values import OP_TYPES
from quantcal.onnx._plan.clips import Clipping
from quantcal.onnx._plan.kernels import reads_codes
from quantcal.onnx._plan.node_selection import why_excluded
from quantcal.onnx._plan.placement import Placement, needed
from quantcal.onnx._plan.sums import Sum
from quantcal.onnx._plan.weight_inputs import ALIKE, is_weight_only, weight_positions

if TYPE_CHECKING:
    import onnx

_FLOAT = "tensor(float)"
_FORMATS = ("activation_formats", "weight_formats")
_UNTOUCHED = "without a tensor to round or a weight to code"


@dataclass(frozen=True, slots=True)
class Plan:
    """What will be quantized.

    Attributes
    ----------
    nodes : dict of str to str
        Node name → operator type, in the order of the graph.
    sites : dict of str to (frozenset of str or None)
        Activation that is rounded → the nodes that read it rounded; None for all that
        read it. In the order of the graph.
    sources : dict of str to tuple of str
        Activation that is rounded → the tensors from whose values its range is computed:
        itself, or tensors that contain all its values.
    formats : dict of str to str
        Activation that is rounded → its format.
    beside : dict of str to tuple of str
        Activation that is rounded → the chosen nodes that read or write it.
    left_in_float : Counter of str
        Reason → number of nodes of the chosen operator types that stay in float.
    sums : dict of str to tuple of Sum
        Name of an Add in float → its terms that chosen MatMul nodes make.
    clips : dict of str to Clipping
        Name of a Relu or Clip → how it reads the product of a chosen node in float.
    before_limit : Plan, optional
        The plan before nodes were left in float to limit the size, if any were. Rules may
        name its nodes and tensors.
    """

    nodes: dict[str, str]
    sites: dict[str, frozenset[str] | None]
    sources: dict[str, tuple[str, ...]]
    formats: dict[str, str]
    beside: dict[str, tuple[str, ...]]
    left_in_float: Counter[str] = field(default_factory=Counter)
    sums: dict[str, tuple[Sum, ...]] = field(default_factory=dict)
    clips: dict[str, Clipping] = field(default_factory=dict)
    before_limit: Plan | None = None

    @property
    def tensors(self) -> tuple[str, ...]:
        """The activations that need a range, in the order of the graph."""
        return tuple(self.sites)

    @property
    def observed(self) -> tuple[str, ...]:
        """The tensors that must be observed for these ranges."""
        sources = (name for listed in self.sources.values() for name in listed)
        return tuple(dict.fromkeys(sources))


@dataclass(frozen=True, slots=True)
class PlanRequest:
    """The input of a plan.

    Attributes
    ----------
    proto
        The prepared model; its nodes have names, and names mean one thing each.
    types
        onnxruntime's types of the tensors.
    ranks
        Ranks of tensors, where known.
    label
        Names the model in errors.
    options
        Target, formats, operator types and patterns.
    unsupported
        Nodes that stay in float for other reasons: name → reason.
    ties
        Constants that are derived from another one.
    without
        Tensors that cannot be rounded, because no sample gave them a range. If it is given,
        even empty, an earlier plan has checked the options. So a rule for a tensor that is
        no longer quantized is not an error.
    """

    proto: onnx.ModelProto
    types: Mapping[str, str]
    ranks: Mapping[str, int]
    label: str
    options: Options
    unsupported: Mapping[str, str]
    ties: Mapping[str, Tie]
    without: Collection[str] | None = None


def make_plan(request: PlanRequest) -> Plan:
    """Choose the nodes, and where activations are rounded.

    Raises
    ------
    CalibrationError
        When no node is left to quantize, or a rule matches nothing.
    """
    proto, types, options = request.proto, request.types, request.options
    graph = proto.graph
    constants = constants_of(graph)
    quantized = {
        name for node in all_nodes(graph) if dequantizes(node) for name in node.output
    }
    around = dict(owners(graph))
    left: Counter[str] = Counter()
    nodes: dict[str, str] = {}
    for node in all_nodes(graph):
        operator = operator_of(node)
        if not {operator, standard_operator(node)} & {*options.op_types}:
            continue
        reason = _why_not(node, types, quantized, constants, options)
        reason = reason or request.unsupported.get(node.name)
        if options.minimal:
            reason = reason or _without_kernel(node, constants)
        if reason:
            left[_inside(reason, around[node.name])] += 1
        else:
            nodes[node.name] = operator
    fixed = constants | quantized
    floats = {name for name, kind in types.items() if kind == _FLOAT} - fixed
    floats -= set(request.without or ())
    placement = Placement(graph, nodes, floats, constants, request.ranks, options)
    weights = {name for name in constants if types.get(name) == _FLOAT}
    for name in _untouched(graph, nodes, placement, weights):
        del nodes[name]
        left[_inside(_UNTOUCHED, around[name])] += 1
    if not nodes:
        raise CalibrationError(
            _nothing_to_quantize(proto, request.label, options, left)
        )
    for option in _FORMATS if request.without is None else ():
        rules: Mapping[str, str] = getattr(options, option)
        beside = placement.beside if option == _FORMATS[0] else _weights(graph, nodes)
        check_rules(option, rules, beside, request.label)
    return Plan(
        nodes,
        placement.sites,
        placement.sources(),
        {name: placement.formats[name] for name in placement.sites},
        placement.beside,
        left,
        placement.sums,
        placement.clips,
    )


def _inside(reason: str, owner: str) -> str:
    return f"{reason} (inside {owner})" if owner else reason


def _untouched(
    graph: onnx.GraphProto,
    nodes: Mapping[str, str],
    placement: Placement,
    weights: Collection[str],
) -> list[str]:
    """Return the chosen nodes without a tensor to round or a weight to quantize."""
    touched = {node for beside in placement.beside.values() for node in beside}
    return [
        node.name
        for node in all_nodes(graph)
        if node.name in nodes.keys() - touched
        and not any(node.input[index] in weights for index in weight_positions(node))
    ]


def _weights(
    graph: onnx.GraphProto, nodes: Mapping[str, str]
) -> dict[str, tuple[str, ...]]:
    """Return the weights of the chosen nodes, with the nodes that read them."""
    found = stored_tensors(graph)
    beside: dict[str, tuple[str, ...]] = {}
    for node in all_nodes(graph):
        for name in node.input if node.name in nodes else ():
            if name in found:
                beside[name] = (*beside.get(name, ()), node.name)
    return beside


def _why_not(
    node: onnx.NodeProto,
    types: Mapping[str, str],
    quantized: set[str],
    constants: set[str],
    options: Options,
) -> str | None:
    """Return why a node stays in float; None when it is quantized."""
    reason = why_excluded(node, options)
    if reason:
        return reason
    if operator_of(node) not in options.op_types:
        return why_nonstandard(node)
    if any(name in quantized for name in node.input[:2]):
        return "already quantized"
    kinds = [types.get(name, "") for name in needed(node)]
    if operator_of(node) in OP_TYPES or operator_of(node) == "ConvTranspose":
        odd = next((kind for kind in kinds if kind != _FLOAT), None)
    else:
        odd = None if _FLOAT in kinds else kinds[0] if kinds else ""
    if odd is not None:
        kind = odd.removeprefix("tensor(").removesuffix(")")
        return f"{kind or 'unknown'} tensors, not float32"
    if options.weights_only or is_weight_only(node, constants):
        weights = [node.input[i] for i in weight_positions(node)] or node.input[:2]
        if not any(name in constants for name in weights):
            return "without constant weights"
    return None


def _without_kernel(node: onnx.NodeProto, constants: set[str]) -> str | None:
    """Return why codes do not help a node in onnxruntime; None when they do."""
    operator = operator_of(node)
    weighted = operator not in ALIKE and weight_positions(node)
    if not reads_codes(operator) and not weighted:
        return f"without an integer kernel in onnxruntime ({operator})"
    bias = node.input[2] if len(node.input) > 2 else ""
    if operator == "Gemm" and bias and bias not in constants:
        return (
            "a Gemm with a computed bias, for which onnxruntime has no integer kernel"
        )
    return None


def _nothing_to_quantize(
    proto: onnx.ModelProto, label: str, options: Options, left: Counter[str]
) -> str:
    head = f"Nothing would be quantized in {label}: "
    chosen = "/".join(options.op_types)
    total = sum(left.values())
    if not total:
        present = Counter(operator_of(node) for node in all_nodes(proto.graph))
        listed = ", ".join(f"{name} ×{n}" for name, n in present.most_common(8))
        return (
            f"{head}it has no {chosen} node. It has: {listed}. Name others with op_types= "
            "(--op-type)."
        )
    found = {standard_operator(node) for node in all_nodes(proto.graph)}
    found |= {operator_of(node) for node in all_nodes(proto.graph)}
    chosen = "/".join(sorted(found & {*options.op_types}))
    reasons = "; ".join(_explain(reason, n) for reason, n in left.most_common())
    half = any("float16" in reason for reason in left)
    tail = " Give the float32 model from which it was converted." if half else ""
    if len(left) == 1:
        (reason,) = left
        return f"{head}all {total} {chosen} nodes are {_explain(reason, None)}.{tail}"
    return f"{head}of its {total} {chosen} nodes {reasons}.{tail}"


def _explain(reason: str, count: int | None) -> str:
    text = f"on {reason}" if "tensors" in reason else reason
    return text if count is None else f"{count} are {text}"
