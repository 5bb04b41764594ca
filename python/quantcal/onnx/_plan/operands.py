"""Normalize the weights and biases of a node to the form that is quantized correctly.

The float model's results stay the same. :mod:`quantcal.onnx._plan.preparation` calls this.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from quantcal.onnx._graph.graph import all_nodes, operator_of
from quantcal.onnx._graph.tied_weights import Tie, tie_of
from quantcal.onnx._graph.weights import Weights

if TYPE_CHECKING:
    import onnx

_CHANNEL_AXIS = {"Conv": 0, "ConvTranspose": 1, "Gemm": 1, "MatMul": -1}


def normalize_operands(
    graph: onnx.GraphProto,
    chosen: set[str],
    folder: Path | None = None,
    ties: dict[str, Tie] | None = None,
) -> dict[str, str]:
    """Bring constant weights and biases of chosen nodes into one form.

    * A bias becomes a vector with one value for each channel, since ``[1, N]`` and scalars
      fail with scales per channel. Only one node reads it, since its scale is that node's.
    * A Gemm's alpha and beta are multiplied into weight and bias. Quantizing
      would lose beta, and some kernels apply alpha to the bias.

    Parameters
    ----------
    graph : GraphProto
        Changed in place.
    chosen : set of str
        Names of the nodes to quantize.
    folder : Path, optional
        The folder of external data, which is read only for weights that must change.
    ties : dict of str to Tie, optional
        Ties of the constants. A weight multiplied by alpha is tied to the original.

    Returns
    -------
    dict of str to str
        Nodes that must stay in float: name → reason.
    """
    weights = Weights(graph, folder)
    ties = {} if ties is None else ties
    unsupported: dict[str, str] = {}
    own: dict[tuple[str, float], str] = {}
    for node in all_nodes(graph):
        if node.name not in chosen or operator_of(node) not in _CHANNEL_AXIS:
            continue
        if len(node.input) < 2 or not weights.is_float(node.input[1]):
            continue
        reason = _why_odd(node, weights)
        if reason:
            unsupported[node.name] = reason
            continue
        _shape_weight(node, weights, own, ties)
        _shape_bias(node, weights)
    return unsupported


def channel_axis(node: onnx.NodeProto, rank: int) -> int:
    """Return the axis of a weight that is the channel axis of the output."""
    transposed = any(a.name == "transB" and a.i for a in node.attribute)
    return 0 if transposed else _CHANNEL_AXIS[operator_of(node)] % max(rank, 1)


def _take_factor(node: onnx.NodeProto, name: str) -> float:
    """Return a Gemm's alpha or beta, and set it to 1."""
    for attribute in node.attribute:
        if operator_of(node) == "Gemm" and attribute.name == name:
            factor, attribute.f = attribute.f, 1.0
            return float(factor)
    return 1.0


def _why_odd(node: onnx.NodeProto, weights: Weights) -> str | None:
    if 0 in weights.shape(node.input[1]):
        return "a weight without values"
    if len(node.input) < 3 or not weights.is_float(node.input[2]):
        return None
    groups = next((a.i for a in node.attribute if a.name == "group"), 1)
    if operator_of(node) == "ConvTranspose" and groups > 1:
        return "a grouped ConvTranspose with a bias"
    bias, kernel = weights.shape(node.input[2]), weights.shape(node.input[1])
    channels, size = kernel[channel_axis(node, len(kernel))], math.prod(bias)
    if size > channels or (size > 1 and bias[-1] != channels):
        return "a bias that differs from row to row"
    return None


def _shape_weight(
    node: onnx.NodeProto,
    weights: Weights,
    own: dict[tuple[str, float], str],
    ties: dict[str, Tie],
) -> None:
    name, factor = node.input[1], _take_factor(node, "alpha")
    if factor == 1.0:
        return
    if (name, factor) not in own:
        made = weights.add(f"{name}_copy", weights.array(name) * np.float32(factor))
        own[name, factor] = made
        tie = tie_of(ties, name)
        ties[made] = Tie(tie.root, tie.perm, tie.factor * factor)
    node.input[1] = own[name, factor]


def _shape_bias(node: onnx.NodeProto, weights: Weights) -> None:
    if len(node.input) < 3 or not weights.is_float(node.input[2]):
        return
    kernel, bias = weights.shape(node.input[1]), weights.shape(node.input[2])
    factor = _take_factor(node, "beta")
    shape = (kernel[channel_axis(node, len(kernel))],)
    if weights.used[node.input[2]] > 1 or factor != 1.0 or bias != shape:
        values: np.ndarray[Any, Any] = weights.array(node.input[2])
        vector = np.broadcast_to(values.reshape(-1) * np.float32(factor), shape)
        node.input[2] = weights.put(node.input[2], vector)
