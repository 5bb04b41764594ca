"""Bringing a model into a form that onnxruntime's quantizer handles rightly.

Values keep their names, and the float model computes what it did. In order:

1. unnamed or equally named nodes get names of their own (the quantizer finds nodes by
   name);
2. opset below 13 becomes 13, the first with per-channel QuantizeLinear;
3. weights that come from Constant, Identity, Transpose… nodes become initializers;
4. BatchNormalization is folded into the Conv before it: otherwise its factor would be
   applied to rounded values, and at inference time;
5. weights and biases get the one form that is quantised rightly: not shared with what
   stays in float, biases as vectors, the Gemm's alpha and beta multiplied in.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from quantcal import CalibrationError
from quantcal.onnx.fold import fold_batch_norms, fold_constants
from quantcal.onnx.model import Loaded, Workspace, opset_of, tensors_of, unique_name
from quantcal.onnx.operands import shape_operands
from quantcal.onnx.plan import Plan, check_names, make_plan, matches

if TYPE_CHECKING:
    import onnx

_OPSET = 13
_IR = 7  # the format version that came with opset 12; 4 lets weights be no inputs


@dataclass(frozen=True, slots=True)
class Prepared:
    """A model ready for the quantizer.

    Attributes
    ----------
    converted : Loaded
        Only steps 1 and 2: the graph to observe, whose values are the float model's.
    proto : ModelProto
        All steps: the graph to rewrite.
    types : dict of str to str
        onnxruntime's types of all tensors in ``converted``.
    plan : Plan
    """

    converted: Loaded
    proto: onnx.ModelProto
    types: dict[str, str]
    plan: Plan


def prepare(
    loaded: Loaded, *, op_types: Sequence[str], exclude: Sequence[str]
) -> Prepared:
    """Do all steps and choose the nodes; ``loaded`` is changed.

    Raises
    ------
    CalibrationError
        When the model cannot be converted or loaded, or nothing would be quantised.
    """
    import onnx

    for text, name in ((op_types, "op_types"), (exclude, "exclude")):
        if isinstance(text, str):
            raise CalibrationError(f"{name} is the string {text!r}. Give a list.")
    name_nodes(loaded.proto.graph)
    check_names(loaded.proto, loaded.label, op_types, exclude)
    converted = convert_opset(loaded)
    chosen = {
        node.name
        for node in converted.proto.graph.node
        if node.op_type in op_types and not matches(node.name, exclude)
    }
    _drop_weight_inputs(converted.proto, chosen)
    with Workspace(converted) as work:
        types = work.types(tensors_of(converted.proto.graph))
    types |= declared_types(converted.proto.graph)
    proto = onnx.ModelProto()
    proto.CopyFrom(converted.proto)
    fold_constants(proto, chosen, types)
    if "BatchNormalization" not in op_types:
        fold_batch_norms(proto.graph, chosen)
    odd = shape_operands(proto.graph, chosen)
    types |= declared_types(proto.graph)
    plan = make_plan(
        proto, types, loaded.label, op_types=op_types, exclude=exclude, odd=odd
    )
    return Prepared(converted, proto, types, plan)


def name_nodes(graph: onnx.GraphProto) -> None:
    """Give unnamed and equally named nodes names of their own, such as ``Conv_12``."""
    taken = {node.name for node in graph.node}
    seen = {""}
    for index, node in enumerate(graph.node):
        if node.name in seen:
            node.name = unique_name(node.name or f"{node.op_type}_{index}", taken)
        seen.add(node.name)


def convert_opset(loaded: Loaded) -> Loaded:
    """Return the model in opset 13 when it is older, else the same model."""
    from onnx import version_converter

    version = opset_of(loaded.proto)
    if not 0 < version < _OPSET:
        return loaded
    try:
        proto = version_converter.convert_version(loaded.proto, _OPSET)
    except Exception as error:  # the converter raises RuntimeError and its own
        raise CalibrationError(
            f"{loaded.label} has opset {version}; per-channel quantisation needs "
            f"{_OPSET}, and onnx cannot convert it: {error}. Export the model again "
            f"with opset {_OPSET} or later."
        ) from error
    name_nodes(proto.graph)
    return Loaded(proto, loaded.label)


def _drop_weight_inputs(proto: onnx.ModelProto, chosen: set[str]) -> None:
    """Make weights that are also inputs of the model constants.

    Before format version 4 every weight had to be an input; a quantised one cannot be
    replaced from outside.
    """
    graph = proto.graph
    weights = {tensor.name for tensor in graph.initializer}
    if proto.ir_version >= 4:
        read = [n for node in graph.node if node.name in chosen for n in node.input]
        weights &= set(read)
    kept = [value for value in graph.input if value.name not in weights]
    if len(kept) < len(graph.input):
        del graph.input[:]
        graph.input.extend(kept)
    proto.ir_version = max(proto.ir_version, _IR)


def declared_types(graph: onnx.GraphProto) -> dict[str, str]:
    """Return the types of inputs and initializers, in onnxruntime's words."""
    import onnx

    def text(elem_type: int) -> str:
        name = onnx.TensorProto.DataType.Name(elem_type).lower()
        return f"tensor({name})"

    found = {tensor.name: text(tensor.data_type) for tensor in graph.initializer}
    for value in graph.input:
        if value.type.HasField("tensor_type"):
            found[value.name] = text(value.type.tensor_type.elem_type)
    return found
