"""Bias correction: the mean error of each output channel goes into the bias.

Quantization shifts the mean of a channel. The bias takes that shift back: equation 17 of
Nagel et al., "Data-Free Quantization through Weight Equalization and Bias Correction",
ICCV 2019. The shift is measured on samples, as in appendix D of the paper.

It is measured in the order of the graph, with all biases before corrected already. Otherwise
the shift of one layer would be taken out again in each layer behind it. Measured at once, the
loss of a text detector rose from 0.035 to 0.44. In order it fell to 0.026
(docs/measurements/corrections.md).

A channel whose mean error comes from few of its values keeps its bias
(:mod:`quantcal.onnx._correct.sampled_rows`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np

from quantcal._core import CalibrationError
from quantcal.onnx._correct.bias_targets import Target, find_targets
from quantcal.onnx._correct.mean_errors import Vector, float_means
from quantcal.onnx._correct.report import CorrectedNodes, Correction
from quantcal.onnx._correct.sampled_rows import RowStore, places_of
from quantcal.onnx._correct.staged_run import StagedRun
from quantcal.onnx._graph.graph import all_nodes, unique_name
from quantcal.onnx._graph.weights import Weights
from quantcal.onnx._model.model import LoadedModel
from quantcal.onnx._plan.sums import Sum
from quantcal.onnx._runtime.session import Workspace
from quantcal.onnx._write.qdq_insertion import insert_qdq

if TYPE_CHECKING:
    import onnx

    from quantcal.onnx._graph.inputs import Feed
    from quantcal.onnx._options.cpu import WeightBits
    from quantcal.onnx._plan.preparation import Prepared
    from quantcal.params import QuantParams

BIAS_SAMPLES = 64
"""The mean of more samples hardly differs, and their tensors are in memory together."""


def correct_biases(
    prepared: Prepared,
    ranges: Mapping[str, QuantParams],
    bits: WeightBits,
    samples: Iterable[Feed],
) -> tuple[Prepared, Correction]:
    """Return a prepared model with corrected biases, and what was changed.

    Parameters
    ----------
    prepared : Prepared
        The float model, whose plan decides what is quantized. It is not changed.
    ranges : mapping of str to QuantParams
        Of all activations that are rounded.
    bits : WeightBits
        Which nodes store 7-bit weights.
    samples : iterable of feed
        The first 64 are run, or fewer where their tensors exceed 1 GiB together.

    Raises
    ------
    CalibrationError
        When a model fails on a sample, or there are no samples.
    """
    import onnx

    proto = onnx.ModelProto()
    proto.CopyFrom(prepared.proto)
    weights = Weights(proto.graph, prepared.converted.folder)
    # A constant that others are computed from keeps its value; the bias gets a copy.
    weights.used.update(list(prepared.ties))
    weights.used.update(tie.root for tie in prepared.ties.values())
    targets, skipped = find_targets(prepared, weights)
    if not targets:
        return prepared, Correction("bias", (), skipped)
    feeds = list(islice(samples, BIAS_SAMPLES))
    if not feeds:
        raise CalibrationError(
            'There are no samples for the correction "bias". Give samples that can be '
            "read again."
        )
    shifts = _measure(prepared, ranges, bits, feeds, targets)
    done: list[CorrectedNodes] = []
    sums = dict(prepared.plan.sums)
    for target in targets:
        name, shift = target.node.name, shifts.get(target.node.name)
        if shift is None:
            skipped[name] = "products without a finite mean"
            continue
        if not shift.any():
            skipped[name] = "products whose mean error few values make"
            continue
        if target.holder is None:
            sums |= _add_bias(target, shift, weights, prepared)
        else:
            _shift_bias(target.holder, target, shift, weights)
        done.append(CorrectedNodes((name,), float(np.abs(shift).max())))
    changed = replace(prepared, proto=proto, plan=replace(prepared.plan, sums=sums))
    return changed, Correction("bias", tuple(done), skipped)


def _measure(
    prepared: Prepared,
    ranges: Mapping[str, QuantParams],
    bits: WeightBits,
    samples: Sequence[Feed],
    targets: Sequence[Target],
) -> dict[str, Vector]:
    """Return by node what each bias lacks, measured in the order of the graph.

    Nodes whose products are not finite are missing.
    """
    label = prepared.converted.label
    before = replace(prepared.converted, proto=prepared.proto)
    rows = RowStore()
    try:
        with Workspace(before) as work:
            wanted = float_means(work, targets, samples, rows)
        coded = insert_qdq(prepared, ranges, bits).proto
        with Workspace(LoadedModel(coded, f"the quantized copy of {label}")) as work:
            staged = StagedRun(work, targets, places_of(len(samples)))
            return staged(samples, wanted, rows) if staged.can_run else {}
    finally:
        rows.close()


def _shift_bias(
    holder: onnx.NodeProto, target: Target, shift: Vector, weights: Weights
) -> None:
    """Add a shift to a bias, which is made where there is none."""
    inputs, index = holder.input, target.index
    name = inputs[index] if len(inputs) > index else ""
    if name:
        shifted = weights.array(name).astype(np.float64) + shift
        inputs[index] = weights.put(name, shifted)
        return
    made = _new_bias(target, shift, weights)
    if len(inputs) > index:
        inputs[index] = made
    else:
        inputs.append(made)


def _new_bias(target: Target, shift: Vector, weights: Weights) -> str:
    made = weights.add(f"{target.node.name}_bias", shift)
    weights.used[made] = 1
    return made


def _add_bias(
    target: Target, shift: Vector, weights: Weights, prepared: Prepared
) -> dict[str, tuple[Sum, ...]]:
    """Put an Add behind a MatMul; return its place in the plan, by the name of the node."""
    import onnx

    node, graph = target.node, weights.graph
    output = node.output[0]
    product = unique_name(f"{output}_product", weights.taken)
    taken = {each.name for each in all_nodes(graph)}
    title = unique_name(f"{node.name}_add_bias", taken)
    node.output[0] = product
    bias = _new_bias(target, shift, weights)
    add = onnx.helper.make_node("Add", [product, bias], [output], title)
    graph.node.insert(list(graph.node).index(node) + 1, add)
    ranks = prepared.ranks
    known = {tensor.name: len(tensor.dims) for tensor in graph.initializer}
    matrices = all({**ranks, **known}.get(name) == 2 for name in node.input)
    return {title: (Sum(node.name, 1, matrices),)}
