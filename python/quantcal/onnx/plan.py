"""Which nodes are to be quantised, which tensors that takes, and why the rest stays.

The choice is made once, on the prepared graph, and both the observer and the writer
follow it; so what is observed is what the written model needs.
"""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from quantcal import CalibrationError
from quantcal.onnx.model import all_nodes, constants_of, subgraphs

if TYPE_CHECKING:
    import onnx

OP_TYPES = ("Conv", "MatMul", "Gemm")
"""The operators that are quantised by default: where the arithmetic is."""

# Inputs beyond these are biases, which are quantised with the other inputs' scales.
_BIASED = {"Conv": 2, "ConvTranspose": 2, "Gemm": 2}
_FLOAT = "tensor(float)"


@dataclass(frozen=True, slots=True)
class Plan:
    """What will be quantised.

    Attributes
    ----------
    nodes : dict of str to str
        Node name → operator type, in the order of the graph.
    tensors : tuple of str
        The activations that need a range, in the order of the graph.
    left : Counter of str
        Reason → number of nodes of the chosen operator types that stay in float.
    """

    nodes: dict[str, str]
    tensors: tuple[str, ...]
    left: Counter[str] = field(default_factory=Counter)


def make_plan(
    proto: onnx.ModelProto,
    types: Mapping[str, str],
    label: str,
    *,
    op_types: Sequence[str],
    exclude: Sequence[str],
    odd: Mapping[str, str],
) -> Plan:
    """Choose the nodes.

    Parameters
    ----------
    proto : ModelProto
        The prepared model; its nodes have names.
    types : mapping of str to str
        onnxruntime's types of the tensors.
    label : str
        Names the model in errors.
    op_types, exclude : sequence of str
        Operator types to quantise; node names or patterns (``*``) to leave in float.
    odd : mapping of str to str
        Nodes that stay in float for other reasons: name → reason.

    Raises
    ------
    CalibrationError
        When no node is left to quantise.
    """
    constants = constants_of(proto.graph)
    quantised = {
        name
        for node in proto.graph.node
        if node.op_type == "DequantizeLinear"
        for name in node.output
    }
    left: Counter[str] = Counter()
    nodes: dict[str, str] = {}
    tensors: dict[str, None] = {}
    for node in proto.graph.node:
        if node.op_type not in op_types:
            continue
        reason = _why_not(node, types, quantised, exclude) or odd.get(node.name)
        if reason:
            left[reason] += 1
            continue
        nodes[node.name] = node.op_type
        for name in _needed(node):
            if types.get(name) == _FLOAT and name not in constants | quantised:
                tensors[name] = None
    inner = _inner_nodes(proto.graph, op_types)
    left.update({f"inside {owner} subgraphs": n for owner, n in inner.items()})
    if not nodes:
        raise CalibrationError(_nothing(proto, label, op_types, left))
    return Plan(nodes, _in_order(proto.graph, tensors), left)


def check_names(
    proto: onnx.ModelProto, label: str, op_types: Sequence[str], exclude: Sequence[str]
) -> None:
    """Refuse operator types and patterns that match nothing, and list near ones."""
    present = {node.op_type for node in all_nodes(proto.graph)}
    if tuple(op_types) != OP_TYPES:
        for op_type in op_types:
            if op_type not in present:
                raise CalibrationError(
                    f"{label} has no {op_type!r} node. {_near(op_type, present)}"
                )
    names = [node.name for node in proto.graph.node if node.name]
    for pattern in exclude:
        if not any(matches(name, [pattern]) for name in names):
            raise CalibrationError(
                f"exclude={pattern!r} matches no node of {label}. "
                f"{_near(pattern, names)}"
            )


def matches(name: str, patterns: Iterable[str]) -> bool:
    """Whether a node name equals one of the patterns, or matches it as a glob."""
    return any(name == p or fnmatchcase(name, p) for p in patterns)


def _near(name: str, names: Iterable[str]) -> str:
    known = sorted(set(names))
    near = difflib.get_close_matches(name, known, n=5, cutoff=0.4)
    if near:
        return f"Near names: {', '.join(near)}."
    more = ", …" if len(known) > 12 else ""
    return f"It has: {', '.join(known[:12])}{more}."


def _needed(node: onnx.NodeProto) -> list[str]:
    inputs = list(node.input)[: _BIASED.get(node.op_type)]
    return [name for name in (*inputs, *node.output) if name]


def _why_not(
    node: onnx.NodeProto,
    types: Mapping[str, str],
    quantised: set[str],
    exclude: Sequence[str],
) -> str | None:
    """Return why a node stays in float; None when it is to be quantised."""
    if matches(node.name, exclude):
        return "excluded"
    needed = _needed(node)
    if node.input and node.input[0] in quantised:
        return "quantised already"
    kinds = [types.get(name, "") for name in needed]
    if node.op_type in OP_TYPES or node.op_type in _BIASED:
        odd = next((kind for kind in kinds if kind != _FLOAT), None)
    else:
        odd = None if _FLOAT in kinds else kinds[0] if kinds else ""
    if odd is not None:
        kind = odd.removeprefix("tensor(").removesuffix(")")
        return f"{kind or 'unknown'} tensors, not float32"
    return None


def _inner_nodes(graph: onnx.GraphProto, op_types: Sequence[str]) -> Counter[str]:
    """Count the chosen operators inside control-flow nodes, by the outermost one."""
    counts: Counter[str] = Counter()
    for node in graph.node:
        for inner in subgraphs(node):
            found = [n for n in all_nodes(inner) if n.op_type in op_types]
            counts[node.op_type] += len(found)
    return +counts


def _nothing(
    proto: onnx.ModelProto, label: str, op_types: Sequence[str], left: Counter[str]
) -> str:
    head = f"Nothing would be quantised in {label}: "
    chosen = "/".join(op_types)
    total = sum(left.values())
    if not total:
        present = Counter(node.op_type for node in all_nodes(proto.graph))
        listed = ", ".join(f"{name} ×{n}" for name, n in present.most_common(8))
        return f"{head}it has no {chosen} node. It has: {listed}. Give op_types=."
    found = Counter(n.op_type for n in all_nodes(proto.graph) if n.op_type in op_types)
    chosen = "/".join(sorted(found))
    reasons = "; ".join(_explain(reason, n) for reason, n in left.most_common())
    if len(left) == 1:
        (reason,) = left
        return f"{head}all {total} {chosen} nodes are {_explain(reason, None)}."
    return f"{head}of its {total} {chosen} nodes {reasons}."


def _explain(reason: str, count: int | None) -> str:
    text = reason
    if reason.startswith("inside "):
        text += ", which onnxruntime's quantizer does not enter"
    elif "tensors" in reason:
        text = f"on {reason}"
    return text if count is None else f"{count} are {text}"


def _in_order(graph: onnx.GraphProto, names: Iterable[str]) -> tuple[str, ...]:
    wanted = set(names)
    order = [value.name for value in graph.input]
    order += [name for node in graph.node for name in node.output]
    return tuple(name for name in dict.fromkeys(order) if name in wanted)
