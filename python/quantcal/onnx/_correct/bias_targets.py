"""Finding the biases that take the mean error of a quantized node.

A Conv, ConvTranspose or Gemm has a bias, or gets one. The bias of a MatMul is the constant
of the Add behind it. A MatMul without one gets an Add where its product stays in float and
feeds no other sum: onnxruntime then keeps its integer kernel (:mod:`quantcal.onnx._plan.sums`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from quantcal.onnx._correct.channels import CONVS, LAYERS, ChannelView, is_by_channel
from quantcal.onnx._correct.float_copy import Wiring
from quantcal.onnx._graph.attributes import attribute
from quantcal.onnx._graph.graph import all_nodes, operator_of
from quantcal.onnx._graph.weights import Weights

if TYPE_CHECKING:
    import onnx

    from quantcal.onnx._plan.preparation import Prepared

NO_BIAS = "a MatMul without a bias, whose kernel an Add would cost"


@dataclass(frozen=True, slots=True)
class Target:
    """A quantized node and its bias.

    Attributes
    ----------
    node : NodeProto
        The node whose products are measured.
    holder : NodeProto, optional
        The node that reads the bias: the same, or the Add behind a MatMul. None when an
        Add must be made.
    index : int
        The input of the holder.
    channels : int
    axis : int
        The axis of the channels in the products, from the end.
    """

    node: onnx.NodeProto
    holder: onnx.NodeProto | None
    index: int
    channels: int
    axis: int


def find_targets(
    prepared: Prepared, weights: Weights
) -> tuple[list[Target], dict[str, str]]:
    """Return the biases in the order of the graph, and why other nodes have none.

    Parameters
    ----------
    prepared : Prepared
    weights : Weights
        Of the graph to change, a copy of the prepared one.
    """
    graph = weights.graph
    wiring = Wiring(graph, weights)
    outer = {node.name for node in graph.node}
    targets: list[Target] = []
    skipped: dict[str, str] = {}
    for node in _quantized(graph, prepared):
        if node.name not in outer:
            skipped[node.name] = "a node inside a subgraph"
            continue
        found = _target(node, prepared, weights, wiring)
        if isinstance(found, str):
            skipped[node.name] = found
        else:
            targets.append(found)
    return targets, skipped


def _quantized(graph: onnx.GraphProto, prepared: Prepared) -> Iterator[onnx.NodeProto]:
    for node in all_nodes(graph):
        if node.name in prepared.plan.nodes and operator_of(node) in LAYERS:
            yield node


def _target(
    node: onnx.NodeProto, prepared: Prepared, weights: Weights, wiring: Wiring
) -> Target | str:
    if not weights.is_float(node.input[1]):
        return "a product of two activations"
    view = ChannelView.of(node, weights.shape(node.input[1]))
    if view is None or view.is_split:
        return "weights without a row for each channel"
    if operator_of(node) == "MatMul":
        return _behind_product(node, view.rows, prepared, weights, wiring)
    name = node.input[2] if len(node.input) > 2 else ""
    factor = float(attribute(node, "beta", 1.0)) if node.op_type == "Gemm" else 1.0
    if name:
        own = weights.is_float(name) and weights.shape(name) == (view.rows,)
        if not own or factor != 1.0:
            return "a bias that is no constant by channel"
    axis = 1 - len(view.shape) if operator_of(node) in CONVS else -1
    return Target(node, node, 2, view.rows, axis)


def _behind_product(
    node: onnx.NodeProto,
    rows: int,
    prepared: Prepared,
    weights: Weights,
    wiring: Wiring,
) -> Target | str:
    """Return the constant of the Add behind a MatMul."""
    add = wiring.only_reader(node.output[0])
    if add is not None and operator_of(add) == "Add":
        index = 1 - list(add.input).index(node.output[0])
        name = add.input[index]
        fits = weights.is_float(name) and is_by_channel(weights.shape(name), rows, -1)
        if fits and add.name in prepared.plan.nodes:
            return "a bias in an Add that is quantized itself"
        if fits:
            return Target(node, add, index, rows, -1)
    if _keeps_kernel(node, prepared):
        return Target(node, None, 1, rows, -1)
    return NO_BIAS


def _keeps_kernel(node: onnx.NodeProto, prepared: Prepared) -> bool:
    """Whether an Add behind a MatMul leaves its kernel and all roundings as they are."""
    plan = prepared.plan
    summed = any(
        term.matmul == node.name for each in plan.sums.values() for term in each
    )
    clipped = any(clip.product == node.name for clip in plan.clips.values())
    free = not summed and not clipped and node.output[0] not in plan.sites
    options = prepared.options
    return options.weights_only or (options.minimal and free)
