"""Which nodes overflow in kernels that add pairs of products in 16 bits, and what that costs.

x86 processors without VNNI multiply unsigned codes of activations by signed codes of
weights and add two neighbouring products in a 16-bit integer that saturates. A node
overflows where large codes meet large weights, so it can be foreseen: from the histogram of
the activation and the weights alone. A node in which the overflow costs more than the lost
bit of its weights should take 7-bit weights, and only such a node.

The two codes of a pair are taken as independent draws from the histogram of the whole
tensor. Neighbouring channels are not quite that, so the figures are estimates; tests count
the overflows of a real network beside them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from quantcal import CalibrationError, Calibrator, QuantParams, _core
from quantcal.onnx.attributes import attribute
from quantcal.onnx.coding import code
from quantcal.onnx.external import values_of
from quantcal.onnx.graph import all_nodes, operator_of
from quantcal.onnx.model import load_light
from quantcal.onnx.options import OP_TYPES, Options
from quantcal.onnx.prepare import Prepared, prepare
from quantcal.onnx.scopes import scopes

if TYPE_CHECKING:
    import onnx

    from quantcal.onnx.model import Model

Floats = NDArray[np.float64]

_ABOVE, _BELOW = 32767, 32768  # what 16 bits hold on either side of zero
_LEAST = 129  # 255 · (|a| + |b|) exceeds the lesser of them from here on
_KEYS = 129 << 9  # of pairs: the larger magnitude, the smaller one, and the sign
_CHUNK = 1024  # distinct pairs of weights at a time: 256 rows of them take 2 MB


@dataclass(frozen=True, slots=True)
class Saturation:
    """What adding pairs of products in 16 bits does to a node with 8-bit weights.

    Attributes
    ----------
    share : float
        The expected share of the pair sums that saturate, 0 to 1.
    error : float
        The expected squared error of an output of the node because of them, in its real unit
        squared; the mean over its channels.
    rounding : float
        What rounding the weights to 7 bits instead of 8 would add, in the same unit.
    """

    share: float
    error: float
    rounding: float

    @property
    def needs_bit(self) -> bool:
        """Whether 7-bit weights are expected to be the lesser evil."""
        return self.error > self.rounding


def saturations(
    model: Model,
    calibrator: Calibrator,
    table: Mapping[str, QuantParams],
    *,
    per_channel: bool = True,
    weight_strategy: str = "minmax",
    op_types: Sequence[str] = OP_TYPES,
    exclude: Sequence[str] = (),
) -> dict[str, Saturation]:
    """Estimate what kernels without VNNI would do to each node with 8-bit weights.

    Milliseconds a node; runs no data. :func:`quantcal.onnx.quantize` does it by itself when
    ``reduce_range="nodes"``.

    Parameters
    ----------
    model : path, bytes or onnx.ModelProto
    calibrator : Calibrator
        The histograms of the model's activations.
    table : mapping of str to QuantParams
        Their ranges; tensors that lack a histogram or a range leave their nodes out.
    per_channel, weight_strategy, op_types, exclude
        As for :func:`quantcal.onnx.write`.

    Returns
    -------
    dict of str to Saturation
        By node name, in the order of the graph. Depthwise Conv nodes are not in it: their
        kernels add in 32 bits. Nor are nodes whose weights are not constant: the kernels
        widen those codes first.

    Raises
    ------
    CalibrationError
        If the model cannot be read, or nothing would be quantised.

    Examples
    --------
    >>> cal = qc.onnx.observe("model.onnx", "calibration/")
    >>> table = cal.compute("mse", format="uint8")
    >>> found = qc.onnx.saturations("model.onnx", cal, table)
    >>> names = [name for name, s in found.items() if s.needs_bit]
    >>> written = qc.onnx.write("model.onnx", "out.onnx", table, reduce_range=names)
    """
    options = Options.of(
        op_types=op_types, exclude=exclude, weight_strategy=weight_strategy
    )
    prepared = prepare(load_light(model), options)
    return estimate(prepared, calibrator, table, per_channel=per_channel)


def estimate(
    prepared: Prepared,
    calibrator: Calibrator,
    table: Mapping[str, QuantParams],
    *,
    per_channel: bool,
) -> dict[str, Saturation]:
    """Do the same for a prepared model."""
    found, strategy = {}, prepared.options.weight_strategy
    for node, weights in weighted_nodes(prepared):
        name = node.input[0]
        if name in calibrator and name in table and calibrator[name].finite:
            shares, zero = code_shares(calibrator[name], table[name])
            codes, steps = weight_codes(weights, per_channel, strategy)
            unit = steps * float(table[name].scale)
            found[node.name] = estimate_pairs(shares, zero, codes, unit)
    return found


def weighted_nodes(prepared: Prepared) -> Iterator[tuple[onnx.NodeProto, Floats]]:
    """Yield the nodes that add pairs, with their weights [K, N] in the order of the kernel.

    K runs over what is summed: the kernel multiplies rows 2i and 2i + 1 of a column
    together with two codes of the activation and adds them. Of a Conv it runs over the
    positions of the kernel and, inside, over the input channels, which lie side by side in
    memory.
    """
    for node, tensor in _weighted(prepared):
        matrix = _as_matrix(node, values_of(tensor, prepared.converted.folder))
        if matrix is not None:
            yield node, matrix


def _weighted(
    prepared: Prepared,
) -> Iterator[tuple[onnx.NodeProto, onnx.TensorProto]]:
    """Yield the quantised nodes with constant weights, inside subgraphs too."""
    graph = prepared.proto.graph
    constants = {t.name: t for scope in scopes(graph) for t in scope.initializer}
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
    if operator_of(node) == "MatMul" and weights.ndim > 1:
        return np.moveaxis(weights, -2, 0).reshape(weights.shape[-2], -1)
    return None


def weight_codes(
    weights: Floats, per_channel: bool, strategy: str = "minmax"
) -> tuple[NDArray[Any], Floats]:
    """Return the int8 codes [K, N] that are written, and the scale of each column."""
    values = np.ascontiguousarray(weights, dtype=np.float32)
    coded = code(values, "int8", strategy, 1 if per_channel else None)
    steps = np.broadcast_to(coded.scale.astype(np.float64), weights.shape[1:])
    return coded.codes, steps


def code_shares(histogram: _core.Histogram, params: QuantParams) -> tuple[Floats, int]:
    """Return the share of each unsigned code 0 to 255, and the code of zero.

    Signed codes are moved by 128, as the kernels do.
    """
    low, high, counts = histogram.bins()
    zero = int(params.zero_point) + (128 if params.format == "int8" else 0)
    scale = float(params.scale)
    points = low == high
    codes = np.clip(np.rint(low[points] / scale) + zero, 0, 255).astype(np.int64)
    shares = np.bincount(
        codes, counts[points].astype(np.float64), minlength=256
    ).astype(np.float64)
    if not points.all():
        ends = np.stack([low[~points], high[~points]], axis=1).reshape(-1)
        below = np.concatenate([[0], np.cumsum(counts[~points].astype(np.float64))])
        heights = np.stack([below[:-1], below[1:]], axis=1).reshape(-1)
        cuts = (np.arange(255) + 0.5 - zero) * scale
        inner = np.interp(cuts, ends, heights)
        shares += np.diff(np.concatenate([[0], inner, [below[-1]]]))
    return shares / shares.sum(), zero


def estimate_pairs(
    shares: Floats, zero: int, codes: NDArray[Any], unit: Floats
) -> Saturation:
    """Sum over all pairs of weights; `unit` is the real value of 1 in each column."""
    even, odd = codes[0 : len(codes) - 1 : 2], codes[1::2]
    # Weights of different signs never come near: their sum is the difference of two codes.
    sums = np.add(even, odd, dtype=np.int16)
    rows, columns = np.nonzero(np.abs(sums) >= _LEAST)
    one, other = (part[rows, columns].astype(np.int64) for part in (even, odd))
    positive = one > 0
    a, b = np.abs(one), np.abs(other)
    keys = np.maximum(a, b) << 9 | np.minimum(a, b) << 1 | positive
    found = np.zeros(_KEYS, dtype=bool)
    found[keys] = True
    distinct = np.flatnonzero(found)
    place = (np.cumsum(found) - 1)[keys]
    pairs = np.stack([distinct >> 9, distinct >> 1 & 255, distinct & 1])
    chance, mean, square = _excess(shares, pairs)
    sign = np.where(positive, 1.0, -1.0)
    width = codes.shape[1]
    bias = np.bincount(columns, sign * mean[place], minlength=width)
    spread = np.bincount(columns, (square - mean**2)[place], minlength=width)
    away = float(shares @ (np.arange(256) - zero) ** 2.0)
    # A step of a 7-bit weight is twice as long: its rounding error has 4 times the variance.
    lost = 3 / 12 * len(codes) * away
    return Saturation(
        share=float(chance[place].sum()) / max(even.size, 1),
        error=float(np.mean(unit**2 * (bias**2 + spread))),
        rounding=float(np.mean(unit**2)) * lost,
    )


def _excess(shares: Floats, pairs: NDArray[Any]) -> tuple[Floats, Floats, Floats]:
    """Return the chance of an overflow, and the mean and mean square of what it cuts off.

    `pairs` are columns of a larger weight, a smaller one, and whether they are positive.
    For each first code the overflow needs a second code from some least one on, so tail
    sums of the shares answer for all of them.
    """
    code = np.arange(256, dtype=np.float64)
    tails = [_tail(shares * code**power) for power in (0, 1, 2)]
    results = np.zeros((3, pairs.shape[1]))
    for start in range(0, pairs.shape[1], _CHUNK):
        part = slice(start, start + _CHUNK)
        a, b, positive = pairs[:, part].astype(np.float64)
        limit = np.where(positive > 0, _ABOVE, _BELOW)
        over = code[:, None] * a - limit
        least = np.clip(np.floor(-over / b) + 1, 0, 256).astype(np.int64)
        zeroth, first, second = (tail[least] for tail in tails)
        results[0, part] = shares @ zeroth
        results[1, part] = shares @ (over * zeroth + b * first)
        squares = over**2 * zeroth + 2 * over * b * first + b**2 * second
        results[2, part] = shares @ squares
    return results[0], results[1], results[2]


def _tail(values: Floats) -> Floats:
    """Return the sums from each index to the end; 0 behind it."""
    return np.append(np.cumsum(values[::-1])[::-1], 0.0)


def check_narrow(prepared: Prepared, nodes: frozenset[str]) -> None:
    """Refuse names of nodes that cannot take 7-bit weights.

    Raises
    ------
    CalibrationError
        If a node is not quantised, or has no constant weights.
    """
    unknown = nodes - {node.name for node, _ in _weighted(prepared)}
    if unknown:
        raise CalibrationError(
            f"reduce_range names {min(unknown)!r}, which is no quantised node of "
            f"{prepared.converted.label} with constant weights."
        )
