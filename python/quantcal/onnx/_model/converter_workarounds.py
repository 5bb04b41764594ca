"""Workarounds for operators that onnx's version converter changes or refuses.

The converter does not touch nodes of other domains. So these nodes are hidden in another
domain, the rest is converted, and then each hidden node is rewritten
(:mod:`quantcal.onnx._model.opset_rewrites`). Operators that onnxruntime has added to ONNX's
domain only get their domain back.
"""

from __future__ import annotations

import contextlib
import re
from collections import ChainMap
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from quantcal._core import CalibrationError
from quantcal.onnx._graph.graph import (
    all_nodes,
    captured_by,
    names_of,
    operator_of,
    subgraphs,
)
from quantcal.onnx._graph.nested_scopes import scopes
from quantcal.onnx._model.opset_rewrites import REWRITES, OldNode

if TYPE_CHECKING:
    import onnx

    from quantcal.onnx._model.opset_rewrites import Types

_HIDDEN = "quantcal.hidden"

_FLOAT = 1  # of onnx.TensorProto
# The converter adds float32 constants to these, whatever the type of the tensor.
_TYPED = ("Clip", "Pad", "Dropout")


@dataclass(slots=True)
class HiddenNodes:
    """The nodes that are hidden from the converter.

    Attributes
    ----------
    version : int
        The opset before the conversion.
    any : bool
        Whether there are such nodes.
    types : dict
        Types and shapes of tensors before the conversion, if a rewrite needs them.
    """

    version: int
    any: bool = False
    types: Types = field(default_factory=dict)


def check_convertible(
    proto: onnx.ModelProto, version: int, target: int, label: str
) -> None:
    """Refuse operators that newer opsets do not have.

    Raises
    ------
    CalibrationError
        Names the node.
    """
    for node in all_nodes(proto.graph):
        if operator_of(node) == "Scan" and version == 8:
            raise CalibrationError(
                f"{label} has opset 8, but the requested formats need {target}. The Scan "
                f"node {node.name!r} of opset 8 takes a batch, which later opsets do not "
                f"support. Export the model again with opset {target} or later."
            )


def explain_failure(error: Exception, proto: onnx.ModelProto) -> str:
    """Return the converter's message with the names of the nodes that it may mean."""
    message = str(error).rpartition("failed: ")[2].strip().rstrip(".")
    words = set(re.findall(r"\w+", message))
    nodes = [n.name for n in all_nodes(proto.graph) if n.name and n.op_type in words]
    listed = ", ".join(map(repr, nodes[:3])) + (", …" if len(nodes) > 3 else "")
    return f"{message} (node {listed})" if nodes else message


def hide_nodes(proto: onnx.ModelProto, version: int, target: int) -> HiddenNodes:
    """Hide the nodes that the converter must not touch, by changing their domain.

    Parameters
    ----------
    proto : ModelProto
    version, target : int
        The opsets before and after the conversion.
    """
    import onnx

    hidden = HiddenNodes(version)
    present = {operator_of(node) for node in all_nodes(proto.graph)}
    if (version < 11 and present & {*_TYPED}) or "GroupNormalization" in present:
        hidden.types = _infer_types(proto)
    captured = {name for node in all_nodes(proto.graph) for name in captured_by(node)}
    for node in all_nodes(proto.graph):
        # The converter adds a Reshape after these. It fails where a subgraph reads the
        # result.
        fails = node.op_type in _RESHAPED and version < 13
        fails = fails and not captured.isdisjoint(node.output)
        if node.domain == "" and (
            fails or _needs_rewrite(node, version, target, hidden.types)
        ):
            node.domain = _HIDDEN
            hidden.any = True
    if hidden.any:
        proto.opset_import.append(onnx.helper.make_opsetid(_HIDDEN, 1))
    return hidden


def rewrite_hidden(proto: onnx.ModelProto, hidden: HiddenNodes) -> None:
    """Replace the hidden nodes by nodes of the new opset that compute the same."""
    if not hidden.any:
        return
    domains = [entry.domain for entry in proto.opset_import]
    del proto.opset_import[domains.index(_HIDDEN)]
    _rewrite_graph(proto.graph, hidden, names_of(proto.graph), ChainMap())


def _rewrite_graph(
    graph: onnx.GraphProto,
    hidden: HiddenNodes,
    taken: set[str],
    around: ChainMap[str, onnx.TensorProto],
) -> None:
    constants = around.new_child({t.name: t for t in graph.initializer})
    nodes: list[onnx.NodeProto] = []
    for node in graph.node:
        for inner in subgraphs(node):
            _rewrite_graph(inner, hidden, taken, constants)
        if operator_of(node) == "Constant" and node.attribute[0].HasField("t"):
            constants[node.output[0]] = node.attribute[0].t
        if node.domain != _HIDDEN:
            nodes.append(node)
            continue
        node.domain = ""
        rewrite = REWRITES.get(node.op_type)
        old = OldNode(node, hidden.version, hidden.types, constants, taken)
        nodes += rewrite(old) if rewrite else [node]
    del graph.node[:]
    graph.node.extend(nodes)


def _needs_rewrite(
    node: onnx.NodeProto, version: int, target: int, types: Types
) -> bool:
    """Whether the converter changes what a node computes, or cannot convert it."""
    import onnx

    rule = _RULES.get(node.op_type)
    if rule is not None:
        kind = types.get(node.input[0], (_FLOAT, None))[0]
        return rule(node, version, target, kind)
    try:
        onnx.defs.get_schema(node.op_type, version, "")
    except onnx.defs.SchemaError:
        return True
    return False


def _has_mask(node: onnx.NodeProto) -> bool:
    return len(node.output) > 1 and bool(node.output[1])


def _by_element(node: onnx.NodeProto) -> bool:
    return any(a.name == "spatial" and not a.i for a in node.attribute)


_RESHAPED = frozenset({"Softmax", "LogSoftmax"})

# Operator → whether one of its nodes needs a rewrite. Arguments: the node, the opsets
# before and after the conversion, and the element type of the first input.
_RULES: dict[str, Callable[[onnx.NodeProto, int, int, int], bool]] = {
    "BatchNormalization": lambda node, *_: _by_element(node),
    "Clip": lambda node, version, target, kind: version < 11 and kind != _FLOAT,
    "Dropout": lambda node, version, *_: version < 12 and _has_mask(node),
    "GroupNormalization": lambda node, version, target, _: 18 <= version < 21 <= target,
    "Hardmax": lambda node, version, *_: version < 13,
    "Pad": lambda node, version, target, kind: version < 11 and kind != _FLOAT,
    "Resize": lambda node, version, *_: version == 10,
    "Upsample": lambda node, version, *_: 7 <= version < 10,
}


def _infer_types(proto: onnx.ModelProto) -> Types:
    """Return the element types and shapes of tensors that onnx can infer."""
    import onnx

    # Tensors of unknown type count as float32.
    with contextlib.suppress(Exception):
        proto = onnx.shape_inference.infer_shapes(proto)
    found: Types = {}
    for scope in scopes(proto.graph):
        for value in (*scope.input, *scope.output, *scope.value_info):
            tensor = value.type.tensor_type
            if tensor.elem_type:
                sizes = [dim.dim_value or None for dim in tensor.shape.dim]
                shape = sizes if tensor.HasField("shape") else None
                found[value.name] = tensor.elem_type, shape
    return found
