"""Workarounds for quantized graphs that onnxruntime 1.32 cannot load or computes wrongly.

Its optimizer moves QuantizeLinear nodes. Two of its rewrites fail with an error, and one
changes results:

* It adds QuantizeLinear nodes after a Transpose or Reshape, with the signed type as an
  attribute from opset 21 on. On x86 it then changes the codes to unsigned, but not the
  attribute. It adds no such node where the graph already rounds there with the same grid.
* It merges a Clip into the QuantizeLinear after it, which fails for small floats. A Max and
  a Min compute the same.
* It removes a Relu before the QuantizeLinear of small floats, whose zero point it takes for
  the lowest code. They have negative codes. A ThresholdedRelu computes the same and stays.

No workaround changes a value.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from quantcal.onnx._graph.graph import inputs_of, operator_of
from quantcal.onnx._graph.nested_scopes import scopes
from quantcal.onnx._model.model import opset_of
from quantcal.onnx._write.clip_forms import in_other_form

if TYPE_CHECKING:
    import onnx

    Nodes = list[onnx.NodeProto]

# The first opset whose QuantizeLinear has the attribute for the type of the codes.
_FIRST_MARKED = 21
# After these onnxruntime adds a QuantizeLinear.
_ADDED_BEHIND = frozenset(
    {"Transpose", "Reshape", "Squeeze", "Unsqueeze", "Slice", "MaxPool"}
)
# onnxruntime removes these, or moves the DequantizeLinear to after them.
_SEEN_THROUGH = frozenset(
    {"Identity", "Dropout", "Flatten", "Gather", "Expand", "Split"}
)


def marks_signed_codes(proto: onnx.ModelProto) -> bool:
    """Whether onnxruntime adds signed QuantizeLinear nodes that it cannot load."""
    return opset_of(proto) >= _FIRST_MARKED


def make_loadable(
    proto: onnx.ModelProto, name: Callable[[str], str], *, relus: bool
) -> None:
    """Change a quantized model to forms that onnxruntime loads, in place.

    Parameters
    ----------
    proto : ModelProto
    name : callable
        Returns an unused name like the given one.
    relus : bool
        Whether a Relu may be written in another form. TensorRT takes a Relu into the node
        before it.
    """
    kinds = ("Relu", "Clip") if relus else ("Clip",)
    zeros = _Zeros(proto)
    marked = marks_signed_codes(proto)
    for graph in scopes(proto.graph):
        nodes = list(graph.node)
        if marked:
            nodes = list(_round_behind(graph, nodes, zeros, name))
        nodes = list(_without_clips(nodes, zeros.small_floats, name, kinds))
        if marked or zeros.small_floats:
            del graph.node[:]
            graph.node.extend(nodes)


class _Zeros:
    """The single zero points of a model, by the type of the codes, and all constants."""

    def __init__(self, proto: onnx.ModelProto) -> None:
        import onnx

        stored = [t for graph in scopes(proto.graph) for t in graph.initializer]
        self.constants = {tensor.name for tensor in stored}
        types = {
            tensor.name: onnx.TensorProto.DataType.Name(tensor.data_type)
            for tensor in stored
            if not tensor.dims
        }
        self.signed = {name for name, kind in types.items() if kind == "INT8"}
        self.small_floats = {
            n for n, kind in types.items() if kind.startswith("FLOAT8")
        }


def _round_behind(
    graph: onnx.GraphProto, nodes: Nodes, zeros: _Zeros, name: Callable[[str], str]
) -> Iterator[onnx.NodeProto]:
    """Round signed codes again after nodes that move them, with the same grid.

    Nodes of constants do not need it: onnxruntime folds these before it moves anything.
    """
    import onnx

    grids: dict[str, list[str]] = {}  # of dequantized tensors, also after moves
    float_readers = {value.name for value in graph.output}
    constants = set(zeros.constants)
    for node in nodes:
        if operator_of(node) != "QuantizeLinear":
            float_readers.update(inputs_of(node))
    for node in nodes:
        operator = operator_of(node)
        if (
            operator == "DequantizeLinear"
            and [*node.input][2:3]
            and node.input[2] in zeros.signed
        ):
            grids[node.output[0]] = list(node.input[1:])
        grid = grids.get(node.input[0]) if node.input else None
        constant = all(read in constants for read in inputs_of(node))
        if constant:
            constants.update(node.output)
        seen = operator in _SEEN_THROUGH or (constant and operator in _ADDED_BEHIND)
        if grid is not None and seen:
            grids.update((made, grid) for made in node.output)
        yield node
        moved = node.output[0]
        if grid is None or operator not in _ADDED_BEHIND or moved not in float_readers:
            continue
        if constant:
            continue
        node.output[0] = name(f"{moved}_QuantizeLinear_Input")
        coded = name(f"{moved}_QuantizeLinear_Output")
        for op_type, given, gives in (
            ("QuantizeLinear", node.output[0], coded),
            ("DequantizeLinear", coded, moved),
        ):
            title = name(f"{moved}_{op_type}")
            yield onnx.helper.make_node(op_type, [given, *grid], [gives], title)
        grids[moved] = grid


def _without_clips(
    nodes: Nodes,
    small_floats: set[str],
    name: Callable[[str], str],
    kinds: tuple[str, ...],
) -> Iterator[onnx.NodeProto]:
    """Write Relu and Clip in other forms where activations are small floats."""
    rounded = any(
        operator_of(node) == "QuantizeLinear" and small_floats & {*node.input[2:]}
        for node in nodes
    )
    for node in nodes:
        if rounded and operator_of(node) in kinds:
            yield from in_other_form(node, name)
        else:
            yield node
