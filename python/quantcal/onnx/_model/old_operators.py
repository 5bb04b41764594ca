"""Finding the operators that onnx's version converter changes or refuses.

The converter lets nodes of other domains through as they are. So these nodes are set
aside under another domain, the rest is converted, and then each takes the form of
:mod:`quantcal.onnx._model.old_forms`. Operators that onnxruntime has added to ONNX's
domain come back as they were.
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
from quantcal.onnx._graph.scopes import scopes
from quantcal.onnx._model.old_forms import FORMS, Old

if TYPE_CHECKING:
    import onnx

    from quantcal.onnx._model.old_forms import Types

_ASIDE = "quantcal.aside"

_FLOAT = 1  # of onnx.TensorProto
# The converter writes these with float32 constants, whatever the tensor is.
_TYPED = ("Clip", "Pad", "Dropout")


@dataclass(slots=True)
class Aside:
    """The nodes of a model that the converter does not see.

    Attributes
    ----------
    version : int
        The opset before the conversion.
    any : bool
        Whether there are such nodes.
    types : dict
        Types and shapes of tensors before the conversion, where they are needed.
    """

    version: int
    any: bool = False
    types: Types = field(default_factory=dict)


def check_convertible(
    proto: onnx.ModelProto, version: int, target: int, label: str
) -> None:
    """Refuse what has no counterpart in newer opsets, and what onnx converts to another.

    Raises
    ------
    CalibrationError
        Names the node.
    """
    for node in all_nodes(proto.graph):
        if operator_of(node) == "Scan" and version == 8:
            raise CalibrationError(
                f"{label} has opset 8; what is asked for needs {target}. The Scan node "
                f"{node.name!r} of opset 8 takes a batch, later ones do not. Export the "
                f"model again with opset {target} or later."
            )


def reason(error: Exception, proto: onnx.ModelProto) -> str:
    """Return what the converter says, and the nodes that it speaks of."""
    told = str(error).rpartition("failed: ")[2].strip().rstrip(".")
    words = set(re.findall(r"\w+", told))
    nodes = [n.name for n in all_nodes(proto.graph) if n.name and n.op_type in words]
    listed = ", ".join(map(repr, nodes[:3])) + (", …" if len(nodes) > 3 else "")
    return f"{told} (node {listed})" if nodes else told


def set_aside(proto: onnx.ModelProto, version: int, target: int) -> Aside:
    """Hide the nodes that the converter must not touch; the model is changed.

    Parameters
    ----------
    proto : ModelProto
    version, target : int
        The opsets before and after the conversion.
    """
    import onnx

    aside = Aside(version)
    present = {operator_of(node) for node in all_nodes(proto.graph)}
    if (version < 11 and present & {*_TYPED}) or "GroupNormalization" in present:
        aside.types = _types(proto)
    captured = {name for node in all_nodes(proto.graph) for name in captured_by(node)}
    for node in all_nodes(proto.graph):
        # onnx puts a Reshape behind some, and cannot where a subgraph reads the result.
        moved = node.op_type in _RESHAPED and version < 13
        moved = moved and not captured.isdisjoint(node.output)
        if node.domain == "" and (moved or _wants(node, version, target, aside.types)):
            node.domain = _ASIDE
            aside.any = True
    if aside.any:
        proto.opset_import.append(onnx.helper.make_opsetid(_ASIDE, 1))
    return aside


def put_back(proto: onnx.ModelProto, aside: Aside) -> None:
    """Give the hidden nodes the form that computes the same in the new opset."""
    if not aside.any:
        return
    domains = [entry.domain for entry in proto.opset_import]
    del proto.opset_import[domains.index(_ASIDE)]
    _put_back(proto.graph, aside, names_of(proto.graph), ChainMap())


def _put_back(
    graph: onnx.GraphProto,
    aside: Aside,
    taken: set[str],
    around: ChainMap[str, onnx.TensorProto],
) -> None:
    constants = around.new_child({t.name: t for t in graph.initializer})
    nodes: list[onnx.NodeProto] = []
    for node in graph.node:
        for inner in subgraphs(node):
            _put_back(inner, aside, taken, constants)
        if operator_of(node) == "Constant" and node.attribute[0].HasField("t"):
            constants[node.output[0]] = node.attribute[0].t
        if node.domain != _ASIDE:
            nodes.append(node)
            continue
        node.domain = ""
        rewrite = FORMS.get(node.op_type)
        old = Old(node, aside.version, aside.types, constants, taken)
        nodes += rewrite(old) if rewrite else [node]
    del graph.node[:]
    graph.node.extend(nodes)


def _wants(node: onnx.NodeProto, version: int, target: int, types: Types) -> bool:
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

# Operator → whether a node of it is rewritten by hand, by the opsets before and after the
# conversion and the element type of the first input.
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


def _types(proto: onnx.ModelProto) -> Types:
    """Return element types and shapes of tensors, as far as onnx can infer them."""
    import onnx

    # Where nothing can be inferred, the tensors are taken for float32.
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
