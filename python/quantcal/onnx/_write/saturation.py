"""Estimate which nodes overflow in kernels that add pairs of products in 16 bits.

x86 processors without VNNI multiply unsigned codes of activations by signed codes of
weights. They add two neighboring products in a 16-bit integer that saturates. A node
overflows where large codes meet large weights. The histogram of the activation and the
weights predict it, without running the model. A node should take 7-bit weights only if the
overflow costs more than the eighth bit of its weights.

The two codes of a pair count as independent draws from the histogram of the whole tensor.
Neighboring channels are not fully independent, so the figures are estimates. Tests compare
them with the overflows of a real network. The cost of the eighth bit is computed from the
weights themselves: zeros, constants and weights on a coarse grid lose nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from quantcal._core import CalibrationError
from quantcal._notebook import Shown
from quantcal.calibrator import Calibrator
from quantcal.onnx._graph.attributes import attribute
from quantcal.onnx._graph.constants import stored_tensors
from quantcal.onnx._graph.external_data import values_of
from quantcal.onnx._graph.graph import all_nodes, operator_of
from quantcal.onnx._model.model import load_light
from quantcal.onnx._options.keywords import takes_options, with_changes
from quantcal.onnx._options.names import rule_for
from quantcal.onnx._options.quantize_options import QuantizeOptions, WriteKeywords
from quantcal.onnx._options.resolved import Options
from quantcal.onnx._plan.preparation import Prepared, prepare
from quantcal.onnx._runtime.child_process import shared_child
from quantcal.onnx._write.pair_sums import (
    Floats,
    code_shares,
    pair_overflow,
    rounding_error,
)
from quantcal.onnx._write.weight_quantization import QuantizedWeight, quantize_weight
from quantcal.params import QuantParams

if TYPE_CHECKING:
    import onnx
    from typing_extensions import Unpack

    from quantcal.onnx._model.model import Model

_SUMMED = ("uint8", "int8")  # formats of activations that take these kernels


@dataclass(frozen=True, slots=True)
class Saturation(Shown):
    """The effect of 16-bit sums of pairs on a node with 8-bit weights.

    Attributes
    ----------
    share : float
        The expected share of the pair sums that saturate, 0 to 1.
    error : float
        The mean squared error that they are expected to cause in the node's output, as the
        mean over its channels.
    rounding : float
        The mean squared error that 7-bit weights would add to that of 8-bit weights. It is
        negative if these weights happen to lie nearer to the 7-bit codes.
    """

    share: float
    error: float
    rounding: float

    @property
    def needs_bit(self) -> bool:
        """Whether sums overflow, and 7-bit weights are expected to lose less accuracy."""
        return self.error > max(self.rounding, 0.0)


@takes_options(WriteKeywords)
@shared_child()
def find_saturation(
    model: Model,
    calibrator: Calibrator,
    table: Mapping[str, QuantParams],
    *,
    options: QuantizeOptions | None = None,
    **changes: Unpack[WriteKeywords],
) -> dict[str, Saturation]:
    """Estimate how much each node with 8-bit weights overflows in kernels without VNNI.

    It takes milliseconds per node and runs no samples. :func:`quantcal.onnx.quantize` calls
    it with ``reduce_range="nodes"``.

    Parameters
    ----------
    model
        A path, bytes or ``onnx.ModelProto``.
    calibrator
        The histograms of the model's activations.
    table
        Their ranges. Nodes whose tensor lacks a histogram or a range are left out.
    options
        All options as one object; the keywords below replace its fields.
    <options>

    Returns
    -------
    dict of str to Saturation
        By node name, in the order of the graph. Three kinds of nodes are not in it:
        depthwise Conv, whose kernels add in 32 bits; ConvTranspose, which has no integer
        kernel; and nodes without constant weights, whose codes the kernels widen first.

    Raises
    ------
    CalibrationError
        If the model cannot be read, or nothing would be quantized.

    Examples
    --------
    >>> cal = qc.onnx.observe("model.onnx", "calibration/")
    >>> table = cal.compute("mse", format="uint8")
    >>> found = qc.onnx.find_saturation("model.onnx", cal, table)
    >>> names = [name for name, s in found.items() if s.needs_bit]
    >>> written = qc.onnx.write("model.onnx", "out.onnx", table, reduce_range=names)
    """
    asked = with_changes("find_saturation", WriteKeywords, options, changes)
    prepared = prepare(load_light(model), Options.of(asked))
    return estimate_saturation(prepared, calibrator, table)


def estimate_saturation(
    prepared: Prepared,
    calibrator: Calibrator,
    table: Mapping[str, QuantParams],
) -> dict[str, Saturation]:
    """Estimate the saturation of the nodes of a prepared model."""
    options = prepared.options
    found = {}
    for node, weights, channels in weighted_nodes(prepared):
        name = node.input[0]
        if name not in calibrator or name not in table or not calibrator[name].finite:
            continue
        stored = rule_for(
            options.weight_formats, node.input[1], [node.name], options.weight_type
        )
        # Other formats have other kernels.
        if stored != "int8" or table[name].format not in _SUMMED:
            continue
        shares, zero = code_shares(calibrator[name], table[name])
        lost = {}
        for format in ("int7", "int8"):
            strategy = options.weight_strategy
            coded = weight_codes(
                weights, options.per_channel and channels, strategy, format
            )
            unit = column_scales(coded, weights) * float(table[name].scale)
            exact = weights / coded.scale
            lost[format] = rounding_error(shares, zero, exact, coded.codes, unit)
        share, error = pair_overflow(shares, coded.codes, unit)
        found[node.name] = Saturation(share, error, lost["int7"] - lost["int8"])
    return found


def weighted_nodes(
    prepared: Prepared,
) -> Iterator[tuple[onnx.NodeProto, NDArray[np.float32], bool]]:
    """Yield the nodes that add pairs, with their weights [K, N] in the order of the kernel.

    K is the axis of the sum: the kernel multiplies rows 2i and 2i + 1 of a column by two
    codes of the activation and adds the products. For a Conv, K runs over the positions of
    the kernel, then over the input channels of the group, which are contiguous in memory.
    The last value says whether columns may have separate scales.
    """
    for node, tensor in _weighted(prepared):
        matrix = _as_matrix(node, values_of(tensor, prepared.converted.folder))
        if matrix is not None:
            # As in the written model: vectors and stacks of matrices have one scale.
            yield node, matrix, operator_of(node) != "MatMul" or len(tensor.dims) == 2


def _weighted(
    prepared: Prepared,
) -> Iterator[tuple[onnx.NodeProto, onnx.TensorProto]]:
    """Yield the quantized nodes with constant weights, inside subgraphs too."""
    graph = prepared.proto.graph
    constants = stored_tensors(graph)
    for node in all_nodes(graph):
        if node.name in prepared.plan.nodes and len(node.input) > 1:
            tensor = constants.get(node.input[1])
            if tensor is not None and tensor.data_type == tensor.FLOAT:
                yield node, tensor


def _as_matrix(node: onnx.NodeProto, weights: Any) -> Any:
    if operator_of(node) == "Conv":
        if weights.shape[1] == 1 and attribute(node, "group", 1) == weights.shape[0]:
            return None
        axes = (*range(2, weights.ndim), 1, 0)
        return weights.transpose(axes).reshape(-1, weights.shape[0])
    if operator_of(node) == "Gemm":
        return weights.T if attribute(node, "transB", 0) else weights
    if operator_of(node) == "MatMul":
        if weights.ndim < 2:
            return weights.reshape(-1, 1)
        return np.moveaxis(weights, -2, 0).reshape(weights.shape[-2], -1)
    return None


def weight_codes(
    weights: NDArray[Any],
    per_channel: bool,
    strategy: str = "minmax",
    format: str = "int8",
) -> QuantizedWeight:
    """Return the codes [K, N] as they are written, and their scales."""
    values = np.ascontiguousarray(weights, dtype=np.float32)
    return quantize_weight(values, format, strategy, 1 if per_channel else None)


def column_scales(coded: QuantizedWeight, weights: NDArray[Any]) -> Floats:
    """Return the scale of each column, shape (N,)."""
    return np.broadcast_to(coded.scale.astype(np.float64), weights.shape[1:])


def check_reducible(prepared: Prepared, nodes: frozenset[str]) -> None:
    """Refuse names of nodes that cannot take 7-bit weights.

    Raises
    ------
    CalibrationError
        If a node is not quantized, or has no constant weights.
    """
    unknown = nodes - {node.name for node, _ in _weighted(prepared)}
    if unknown:
        raise CalibrationError(
            f"reduce_range names {min(unknown)!r}, which is no quantized node of "
            f"{prepared.converted.label} with constant weights."
        )
