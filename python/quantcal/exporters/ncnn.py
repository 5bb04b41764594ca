"""Writes ncnn's table of scales, as `ncnn2int8` reads it.

A scale there is a factor, 127 / amax, not a step. The table names layers, not tensors. A line
`LAYER_param_0` has a factor for each channel or group of the layer's weights, and a line
`LAYER` has the factor of its input.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from quantcal import _core
from quantcal._io.files import Used, write_text
from quantcal._names import check_name
from quantcal.exporters.tensorrt import largest
from quantcal.onnx.graphs import (
    attribute,
    operator_of,
    standard_operator,
    why_nonstandard,
)
from quantcal.params import QuantParams

if TYPE_CHECKING:
    import onnx

    from quantcal.onnx.graphs import Model

__all__ = ["Layer", "layers_of", "read_layers", "write_table"]

# The size of the reader's buffer for a name, in bytes.
_NAME_LENGTH = 255


@dataclass(frozen=True, slots=True)
class Layer:
    """A layer that computes in int8.

    Parameters
    ----------
    tensor
        The name of its input in the table of ranges.
    magnitudes
        Floats, shape (channels,): the largest magnitude of the weights of each output channel,
        or of each group.
    levels
        127, or 31 where the kernel adds weights before it multiplies.
    """

    tensor: str
    magnitudes: Any
    levels: int = 127


def layers_of(model: Model) -> dict[str, Layer]:
    """Return the layers that ncnn makes of an ONNX model's Conv, Gemm and MatMul nodes.

    The names are those of ncnn's converters: the name of the node, or of its output if the
    node has none. As in `ncnn2table`, a 3×3 Conv of stride 1 and dilation 1 without groups
    gets 6-bit weights. ncnn computes it with Winograd's transform, which adds weights.

    Parameters
    ----------
    model
        The observed model as a path, bytes or a ModelProto. ncnn's optimizer renames layers,
        so give the model before it.

    Raises
    ------
    CalibrationError
        If it cannot be read.
    """
    return read_layers(model)[0]


def read_layers(model: Model) -> tuple[dict[str, Layer], dict[str, str]]:
    """Return the layers, and why other Conv, Gemm and MatMul nodes are skipped.

    Parameters
    ----------
    model
        As for `layers_of`.

    Returns
    -------
    The layers as from `layers_of`, and the reasons by node.

    Raises
    ------
    CalibrationError
        If the model cannot be read.
    """
    from quantcal.onnx.graphs import all_nodes, load_model, stored_tensors, unify_names

    graph = load_model(model).proto.graph
    unify_names(graph)
    weights = stored_tensors(graph)
    outside = {node.output[0] for node in graph.node if node.output}
    layers: dict[str, Layer] = {}
    skipped: dict[str, str] = {}
    for node in all_nodes(graph):
        if standard_operator(node) not in _MAGNITUDES or not node.output:
            continue
        found = _layer(node, weights)
        if node.output[0] not in outside:
            found = "inside a subgraph, which ncnn does not have"
        name = node.name or node.output[0]
        if isinstance(found, Layer):
            layers[name] = found
        else:
            skipped[name] = found
    return layers, skipped


def _layer(
    node: onnx.NodeProto, weights: Mapping[str, onnx.TensorProto]
) -> Layer | str:
    """Return the layer of a node, or why it is skipped."""
    from onnx import TensorProto, numpy_helper

    foreign = why_nonstandard(node)
    if foreign:
        return foreign
    found = weights.get(node.input[1]) if len(node.input) > 1 else None
    if found is None:
        return "its weights are not constant"
    if found.data_type != TensorProto.FLOAT:
        kind = TensorProto.DataType.Name(found.data_type).lower()
        return f"its weights are {kind}, not float32"
    layer = _MAGNITUDES[operator_of(node)](node, np.abs(numpy_helper.to_array(found)))
    return layer or f"its weights have {len(found.dims)} dimensions, not 2"


def _conv(node: onnx.NodeProto, weights: Any) -> Layer | None:
    groups = attribute(node, "group", 1)
    parts = weights.reshape(weights.shape[0] if groups == 1 else groups, -1)
    winograd = (
        groups == 1
        and weights.shape[2:] == (3, 3)
        and set(attribute(node, "strides", [1])) == {1}
        and set(attribute(node, "dilations", [1])) == {1}
    )
    return Layer(node.input[0], parts.max(axis=1), 31 if winograd else 127)


def _gemm(node: onnx.NodeProto, weights: Any) -> Layer | None:
    axis = 1 if attribute(node, "transB", 0) else 0
    return Layer(node.input[0], weights.max(axis=axis))


def _matmul(node: onnx.NodeProto, weights: Any) -> Layer | None:
    return Layer(node.input[0], weights.max(axis=0)) if weights.ndim == 2 else None


_MAGNITUDES = {"Conv": _conv, "Gemm": _gemm, "MatMul": _matmul}


def write_table(
    table: Mapping[str, QuantParams],
    path: str | Path,
    layers: Mapping[str, Layer],
    used: Iterable[Used] = (),
) -> int:
    """Write the scales of the layers whose input has a range, atomically.

    Layers without a range are skipped, and `ncnn2int8` keeps them in float. It would refuse a
    layer with only one of its two lines.

    Parameters
    ----------
    table
        Ranges of activations. The larger magnitude is used, since ncnn has no zero points.
    path
        The file.
    layers
        Layers by their names in the .param file. `layers_of` finds them in an ONNX
        model.
    used
        Files that must not be replaced, such as the model's.

    Returns
    -------
    The number of layers that were written.

    Raises
    ------
    CalibrationError
        If no layer's input has a range, ncnn cannot read a layer's name, or the file cannot be
        written.
    """
    chosen = {name: layer for name, layer in layers.items() if layer.tensor in table}
    if not chosen:
        wanted = ", ".join(sorted({layer.tensor for layer in layers.values()})[:5])
        msg = (
            f"the table has the input of none of the {len(layers)} layers; they read "
            f"{wanted or 'nothing'}: give the observed model"
        )
        raise _core.CalibrationError(msg)
    lines = [*_weight_lines(chosen), *_input_lines(chosen, table)]
    write_text(path, "".join(f"{line}\n" for line in lines), used)
    return len(chosen)


def _weight_lines(layers: Mapping[str, Layer]) -> Iterator[str]:
    for name, layer in layers.items():
        check_name(name)
        if len(name.encode()) + len("_param_0") > _NAME_LENGTH or {*name} & {
            *" \r\n\t"
        }:
            msg = (
                f"ncnn cannot read the layer name {name!r}: it takes at most "
                f"{_NAME_LENGTH} bytes without blanks; rename the node"
            )
            raise _core.CalibrationError(msg)
        if "_param_" in name:
            msg = f"ncnn reads a layer named {name!r} as weights: rename the node"
            raise _core.CalibrationError(msg)
        scales = (_factor(layer.levels, m) for m in np.atleast_1d(layer.magnitudes))
        yield f"{name}_param_0 {' '.join(scales)}"


def _input_lines(
    layers: Mapping[str, Layer], table: Mapping[str, QuantParams]
) -> Iterator[str]:
    for name, layer in layers.items():
        yield f"{name} {_factor(127, largest(table[layer.tensor]))}"


def _factor(levels: int, magnitude: float) -> str:
    """Return levels / magnitude with all digits of a float32; 1 if all values are zero.

    ncnn's writer has six decimals, which leave two digits of a magnitude of 10,000, and it
    writes infinity for 0.
    """
    with np.errstate(over="ignore", divide="ignore"):
        factor = (
            np.float32(levels / np.float64(magnitude)) if magnitude else np.float32(1)
        )
    return f"{factor:.9g}" if np.isfinite(factor) else "1"


def __dir__() -> list[str]:
    return sorted(__all__)
