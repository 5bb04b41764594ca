"""The error of each weight that a quantized model stores as codes."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from quantcal.onnx._graph.attributes import attribute
from quantcal.onnx._graph.element_types import name_of
from quantcal.onnx._graph.graph import all_nodes, operator_of
from quantcal.onnx._graph.nested_scopes import name_nodes
from quantcal.onnx._graph.weights import Weights
from quantcal.onnx._model.functions import inline_functions
from quantcal.onnx._model.model import load_light

if TYPE_CHECKING:
    import onnx

    from quantcal.onnx._model.model import Model

_SCALE = "_scale"  # what the name of a scale has behind that of its weight
_CHANGED = (
    4.0  # this many times less error by factors of channels: they were scaled before
)
_LOST = 0.5  # a larger share of error: the float weight is another one

_ASIDE = ("Transpose", "Reshape", "Identity")


@dataclass(frozen=True, slots=True)
class WeightError:
    """What rounding did to one weight.

    Attributes
    ----------
    name
        The weight, by the float model's name.
    node, operator
        The first node that reads it.
    format
        The type of the codes.
    shape
    axis
        The axis of the scales; None for one scale of the whole weight.
    sqnr_db
        Signal to quantization noise ratio; None where the float model has no such weight. Of
        a weight whose channels were scaled before, as by a folded BatchNormalization, it is
        that of the scaled weight.
    scaled
        Whether its channels were scaled before.
    maxima
        The largest magnitude of each channel of the dequantized weight; of the whole weight
        without an axis.
    """

    name: str
    node: str
    operator: str
    format: str
    shape: tuple[int, ...]
    axis: int | None
    sqnr_db: float | None
    scaled: bool
    maxima: NDArray[np.float64]


def measure_weights(
    quantized: Model, float_model: Model | None = None
) -> tuple[WeightError, ...]:
    """Compare the weights of a quantized model with those of its float original.

    Parameters
    ----------
    quantized
        A model with DequantizeLinear nodes on stored codes, as
        :func:`quantcal.onnx.quantize` writes it.
    float_model
        Its original; without one no error is known.

    Returns
    -------
    In the order of the graph. Biases, which have codes of 32 bits, are left out.

    Raises
    ------
    CalibrationError
        When a model cannot be read.
    """
    loaded = inline_functions(load_light(quantized))
    graph = loaded.proto.graph
    name_nodes(graph)
    codes = Weights(graph, loaded.folder)
    source = None
    if float_model is not None:
        original = inline_functions(load_light(float_model))
        source = Weights(original.proto.graph, original.folder)
    found = [
        _measure(node, reader, codes, source)
        for node, reader in _decoders(graph, codes)
    ]
    return tuple(found)


def _decoders(
    graph: onnx.GraphProto, codes: Weights
) -> Iterator[tuple[onnx.NodeProto, onnx.NodeProto | None]]:
    """Yield the nodes that dequantize stored weights, each once, with a reader."""
    nodes = list(all_nodes(graph))
    readers: dict[str, onnx.NodeProto] = {}
    for node in reversed(nodes):
        readers.update(dict.fromkeys(filter(None, node.input), node))
    seen = set()
    for node in nodes:
        if operator_of(node) != "DequantizeLinear" or node.input[0] in seen:
            continue
        stored = codes.found.get(node.input[0])
        if stored is None or node.input[1] not in codes.found:
            continue
        if name_of(stored.data_type) == "INT32":
            continue
        seen.add(node.input[0])
        reader = readers.get(node.output[0])
        while reader is not None and operator_of(reader) in _ASIDE:
            reader = readers.get(reader.output[0])
        yield node, reader


def _measure(
    node: onnx.NodeProto,
    reader: onnx.NodeProto | None,
    codes: Weights,
    source: Weights | None,
) -> WeightError:
    name = node.input[1].removesuffix(_SCALE)
    real, axis = _dequantize(node, codes)
    sqnr, scaled = None, False
    if source is not None and source.is_float(name):
        want = source.array(name).astype(np.float64)
        if want.shape == real.shape:
            sqnr, scaled = _sqnr(want, real, axis)
    others = tuple(i for i in range(real.ndim) if i != axis)
    maxima = np.abs(real).max(axis=others if axis is not None else None, initial=0)
    return WeightError(
        name=name,
        node="" if reader is None else reader.name,
        operator="" if reader is None else operator_of(reader),
        format=name_of(codes.found[node.input[0]].data_type).lower(),
        shape=real.shape,
        axis=axis,
        sqnr_db=sqnr,
        scaled=scaled,
        maxima=np.atleast_1d(maxima),
    )


def _dequantize(
    node: onnx.NodeProto, codes: Weights
) -> tuple[NDArray[np.float64], int | None]:
    """Return the values of stored codes, and the axis of their scales."""
    values = codes.array(node.input[0]).astype(np.float64)
    parts = [codes.array(name).astype(np.float64) for name in node.input[1:] if name]
    if parts[0].size == 1:
        scale, *zero = (part.reshape(()) for part in parts)
        return (values - zero[0] if zero else values) * scale, None
    axis = int(attribute(node, "axis", 1)) % values.ndim
    block = int(attribute(node, "block_size", 0))
    if block:
        spread = [_repeat(part, block, axis, values.shape[axis]) for part in parts]
    else:
        shape = [-1 if i == axis else 1 for i in range(values.ndim)]
        spread = [part.reshape(shape) for part in parts]
    scale, *zero = spread
    return (values - zero[0] if zero else values) * scale, axis


def _repeat(
    array: NDArray[np.float64], block: int, axis: int, length: int
) -> NDArray[np.float64]:
    return np.take(array.repeat(block, axis), range(length), axis)


def _sqnr(
    want: NDArray[np.float64], got: NDArray[np.float64], axis: int | None
) -> tuple[float | None, bool]:
    """Return the SQNR, and whether channels were scaled before they were rounded."""
    along = 0 if axis is None else axis
    x, y = (_rows(array, along) for array in (want, got))
    power = (x * x).sum(axis=1)
    factor = np.divide((x * y).sum(axis=1), power, out=np.ones(len(x)), where=power > 0)
    changed = x * factor[:, None]
    noise = float(((x - y) ** 2).sum())
    rest = float(((changed - y) ** 2).sum())
    # Rounding alone leaves factors near 1, which explain next to nothing of the error.
    scaled = rest * _CHANGED < noise
    if scaled:
        x, noise = changed, rest
    signal = float((x * x).sum())
    if noise == 0:
        return math.inf, scaled
    if noise > _LOST * signal:
        return None, False
    return 10 * math.log10(signal / noise), scaled


def _rows(array: NDArray[np.float64], axis: int) -> NDArray[np.float64]:
    """Return the channels of an array as rows of a matrix."""
    whole = np.atleast_1d(array)
    return np.moveaxis(whole, axis, 0).reshape(whole.shape[axis], -1)
