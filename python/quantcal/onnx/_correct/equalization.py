"""Cross-layer equalization: the channels between two layers get equal ranges.

A factor s_i divides the rows of the first layer and multiplies the columns of the second.
With s_i = sqrt(r1_i r2_i) / r2_i both have the range sqrt(r1_i r2_i) in channel i, where r
are the largest magnitudes of the weights. This is equation 11 of Nagel et al., "Data-Free
Quantization through Weight Equalization and Bias Correction", ICCV 2019.

A row of small weights may have a large bias, which its factor would enlarge. The paper moves
such biases into the next layer, which is not exact where that layer pads. Here no bias
becomes larger than the largest one of its layer: the factor of that channel is limited.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from quantcal.onnx._correct.channels import Vector, scale_constant
from quantcal.onnx._correct.equalization_pairs import Pair, find_pairs
from quantcal.onnx._correct.float_check import check_same_outputs, random_samples
from quantcal.onnx._correct.float_copy import FloatCopy
from quantcal.onnx._correct.report import CorrectedNodes, Correction

if TYPE_CHECKING:
    from quantcal.onnx._graph.inputs import Feed
    from quantcal.onnx._model.model import LoadedModel, Model

EQUAL = 1e-4
"""Ranges of both sides of a channel that differ by less count as equal."""

# Chains of layers converge: each sweep moves ranges by one layer.
_SWEEPS = 100
# Smaller weights of a channel are rounding: dividing by them would magnify its bias.
_EMPTY = 1e-6


def equalize(
    model: Model | LoadedModel, samples: Iterable[Feed] | None = None
) -> tuple[LoadedModel, Correction]:
    """Return a copy of a model with equal ranges between its layers, and what was changed.

    Pairs are a Conv, ConvTranspose, Gemm or MatMul and the layer that alone reads it. The
    outputs of both models are compared on the first samples.

    Parameters
    ----------
    model : path, bytes, ModelProto or LoadedModel
    samples : iterable of feed, optional
        Without samples, random numbers if all inputs are floats of a fixed shape.

    Raises
    ------
    CalibrationError
        When the float outputs differ by more than rounding, or there is nothing to compare
        them on.
    """
    copy = FloatCopy(model)
    pairs, skipped = find_pairs(copy)
    factors = equal_factors(pairs, copy)
    if not pairs:
        return copy.given, Correction("equalize", (), skipped)
    _apply(pairs, factors, copy)
    changed = copy.finish()
    feeds = random_samples(copy.given) if samples is None else samples
    check_same_outputs(copy.given, changed, feeds, "equalize")
    largest = [float(np.maximum(s, 1 / s).max(initial=1.0)) for s in factors]
    done = tuple(
        CorrectedNodes(pair.names, size)
        for pair, size in zip(pairs, largest, strict=True)
    )
    return changed, Correction("equalize", done, skipped)


def equal_factors(pairs: list[Pair], copy: FloatCopy) -> list[Vector]:
    """Return for each pair the divisor of its channels, after sweeps until they converge.

    Channels without weights on one side keep the factor 1.
    """
    ranges: dict[str, Vector] = {}
    for pair in pairs:
        layers = (pair.first, pair.second)
        for node, view, gain in zip(layers, pair.views, pair.folded, strict=True):
            if node.name not in ranges:
                array = copy.weights.array(node.input[1])
                by_row = gain.reshape(view.groups, -1, 1)
                ranges[node.name] = view.magnitudes(array) * by_row
    factors = [np.ones(len(pair.gain)) for pair in pairs]
    floors = [_smallest_divisor(pair.offset) for pair in pairs]
    for _ in range(_SWEEPS):
        largest = 1.0
        for index, pair in enumerate(pairs):
            step = _step(pair, ranges, floors[index] / factors[index])
            factors[index] *= step
            largest = max(largest, float(np.maximum(step, 1 / step).max(initial=1.0)))
        if largest**2 < 1 + EQUAL:
            break
    return factors


def _smallest_divisor(offset: Vector) -> Vector:
    """Return the divisor with which each bias becomes as large as the largest one."""
    size = np.abs(offset)
    largest = size.max(initial=0.0)
    smallest: Vector = size / largest if 0 < largest < np.inf else np.zeros(len(size))
    return smallest


def _step(pair: Pair, ranges: Mapping[str, Vector], smallest: Vector) -> Vector:
    """Scale the ranges of both layers by equation 11; return the divisor."""
    first, second = ranges[pair.first.name], ranges[pair.second.name]
    rows = first.max(axis=2).reshape(-1)
    columns = second.max(axis=1).reshape(-1)
    made = rows * pair.gain
    used = _is_used(made) & _is_used(columns)
    step = np.ones(len(rows))
    step[used] = np.sqrt(made[used] / columns[used])
    step[used] = np.maximum(step[used], np.minimum(smallest[used], 1.0))
    first /= step.reshape(first.shape[0], -1, 1)
    second *= step.reshape(second.shape[0], 1, -1)
    return step


def _is_used(ranges: Vector) -> NDArray[np.bool_]:
    finite = np.isfinite(ranges)
    largest = ranges[finite].max(initial=0.0)
    used: NDArray[np.bool_] = finite & (ranges > _EMPTY * largest)
    return used


def _apply(pairs: list[Pair], factors: list[Vector], copy: FloatCopy) -> None:
    """Scale the weights of all pairs; each weight is rounded once."""
    weights = copy.weights
    rows: dict[str, Vector] = {}
    columns: dict[str, Vector] = {}
    layers: dict[str, tuple[Pair, int]] = {}
    for pair, factor in zip(pairs, factors, strict=True):
        layers[pair.first.name] = (pair, 0)
        layers[pair.second.name] = (pair, 1)
        columns[pair.second.name] = factor
        if pair.norm is None:
            rows[pair.first.name] = 1 / factor
        else:
            gain = weights.array(pair.norm.input[1])
            pair.norm.input[1] = weights.put(
                pair.norm.input[1], scale_constant(gain, 1 / factor, -1)
            )
        for shift in pair.shifts:
            name = shift.node.input[shift.index]
            array = scale_constant(weights.array(name), 1 / factor, shift.axis)
            shift.node.input[shift.index] = weights.put(name, array)
    for name, (pair, side) in layers.items():
        node, view = (pair.first, pair.second)[side], pair.views[side]
        scaled = view.scaled(
            weights.array(node.input[1]),
            rows.get(name, np.ones(view.rows)),
            columns.get(name, np.ones(view.columns)),
        )
        node.input[1] = weights.put(node.input[1], scaled)
