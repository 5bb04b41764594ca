"""Scales of weights with which biases fit into 32 bits.

A bias is stored in 32 bits at the scale of the products, and so is the constant that an Add
after a MatMul adds. If weights are tiny compared with the bias, as those of pruned channels
are, the bias overflows. Then the scale of the weights is raised until the bias fits. If all
weights of a channel are zero, any scale represents them, so the bias alone decides.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from quantcal.onnx._graph.graph import all_nodes, operator_of
from quantcal.onnx._graph.weights import Weights
from quantcal.onnx._plan.weight_inputs import BIASED
from quantcal.onnx._plan.weight_uses import NodeInput, WeightKey, WeightUse
from quantcal.params import QuantParams

if TYPE_CHECKING:
    import onnx

    from quantcal.onnx._plan.plan import Plan

BIAS_MAX = float(2**30)
"""The largest code of a bias: half of the range of 32 bits, since products are added to it."""

Scales: TypeAlias = dict[WeightKey, NDArray[np.float32]]
_TINY, _LARGEST = np.finfo(np.float32).tiny, np.finfo(np.float32).max


def scales_for_biases(
    graph: onnx.GraphProto,
    plan: Plan,
    uses: Mapping[NodeInput, WeightUse],
    ranges: Mapping[str, QuantParams],
    weights: Weights,
) -> tuple[Scales, Scales]:
    """Return by key the minimum scales of weights, and the scales of weights that are zero.

    Minimum scales serve biases only: the constant of an Add stays in float if it does not
    fit. onnxruntime converts float biases to integers by itself, whatever the format of the
    weights, and lets them overflow.

    Parameters
    ----------
    graph : GraphProto
        The prepared graph.
    plan : Plan
    uses : mapping of (str, int) to WeightUse
    ranges : mapping of str to QuantParams
        Of activations.
    weights : Weights
    """
    units: dict[WeightKey, float] = {}
    for use in uses.values():
        units.setdefault(use.key, use.factor)
    least: Scales = {}
    zero: Scales = {}
    for node, name, bias in _addends(graph, plan):
        data, place = node.input[0], (node.name, 1)
        if data not in plan.sites or place not in uses or not weights.is_float(name):
            continue
        use = uses[place]
        if use.key.block_size:  # the products of a channel have several scales
            continue
        unit = float(np.float32(ranges[data].scale)) * use.factor / units[use.key]
        floor = _floor(weights.array(name), unit, use, weights)
        for kept in (least, zero) if bias else (zero,):
            before = kept.get(use.key)
            kept[use.key] = floor if before is None else np.maximum(floor, before)
    return least, zero


def _addends(
    graph: onnx.GraphProto, plan: Plan
) -> Iterator[tuple[onnx.NodeProto, str, bool]]:
    """Yield chosen nodes, the constant added to their products, and whether it is a bias."""
    nodes = {node.name: node for node in all_nodes(graph)}
    for node in nodes.values():
        if node.name in plan.nodes and operator_of(node) in BIASED:
            yield from ((node, name, True) for name in node.input[2:3] if name)
        for term in plan.sums.get(node.name, ()):
            yield nodes[term.matmul], node.input[term.other], False


def _floor(
    addend: NDArray[np.float32], unit: float, use: WeightUse, weights: Weights
) -> NDArray[np.float32]:
    """Return the scale at which the largest value added in each channel still fits."""
    size = np.abs(addend.astype(np.float64))
    size = np.where(np.isfinite(size), size, 0)
    rows = size.reshape(-1, size.shape[-1] if size.ndim else 1)
    largest = rows.max(axis=0, initial=0) / (unit * BIAS_MAX)
    axis = (
        use.perm.index(use.key.axis) if use.perm and use.key.axis >= 0 else use.key.axis
    )
    channels = 1 if axis < 0 else weights.shape(use.name)[axis]
    if channels == 1:  # many values may be added to one product
        largest = largest.max(keepdims=True)
    elif largest.size == 1:
        largest = np.repeat(largest, channels)
    floor: NDArray[np.float32] = largest.clip(0, _LARGEST).astype(np.float32)
    return floor


def replace_zero_scales(
    array: NDArray[np.float32],
    scale: NDArray[np.float32],
    axis: int | None,
    zero: NDArray[np.float32],
) -> NDArray[np.float32]:
    """Return the scales of a weight; channels of zeros take the scale that their bias needs."""
    others = tuple(k for k in range(array.ndim) if k != axis)
    empty = ~array.any(axis=None if axis is None else others)
    if axis is None:
        zero = zero.max(initial=0)
    given = np.asarray(zero >= _TINY)
    chosen: NDArray[Any] = np.where(empty & given, zero, scale)
    return chosen.astype(np.float32)
