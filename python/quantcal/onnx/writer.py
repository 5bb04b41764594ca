"""Writing a quantised model with given ranges: QuantizeLinear and DequantizeLinear.

onnxruntime's quantizer rewrites the graph; the scales and zero points of activations
are ours, bit for bit, which is checked in the result. Nothing is written but the
output, and that only after the result has been checked and loaded.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from quantcal import CalibrationError, CalibrationTable, QuantParams
from quantcal.onnx.cpu import WeightBits, weight_bits
from quantcal.onnx.feeds import Feed
from quantcal.onnx.model import load_model, sort_nodes
from quantcal.onnx.names import free_names
from quantcal.onnx.output import check_output, save
from quantcal.onnx.plan import OP_TYPES
from quantcal.onnx.prepare import Prepared, prepare
from quantcal.onnx.saturation import narrow_overrides

if TYPE_CHECKING:
    import onnx

    from quantcal.onnx.model import Model

__all__ = [
    "FORMATS",
    "Written",
    "check_output",
    "check_weight",
    "write",
    "write_prepared",
]

FORMATS = ("int8", "uint8")

_INFERRED = ("onnx.infer", "onnxruntime.quant")  # "the types in the graph are complete"


@dataclass(frozen=True, slots=True)
class Written:
    """What a written model consists of.

    Attributes
    ----------
    output : pathlib.Path
    quantized_nodes : dict of str to int
        Operator type → number of nodes that compute on quantised data.
    quantize_nodes, dequantize_nodes : int
        Numbers of QuantizeLinear and DequantizeLinear nodes.
    left_in_float : dict of str to int
        Reason → number of nodes of the chosen operator types left as they were.
    weight_bits : int
        7 or 8.
    weight_bits_reason : str
        Why.
    """

    output: Path
    quantized_nodes: dict[str, int]
    quantize_nodes: int
    dequantize_nodes: int
    left_in_float: dict[str, int]
    weight_bits: int
    weight_bits_reason: str


def write(
    model: Model,
    output: str | os.PathLike[str],
    table: CalibrationTable | Mapping[str, QuantParams],
    *,
    weight: str = "int8",
    per_channel: bool = True,
    reduce_range: bool | str | Collection[str] = "auto",
    cpu: str = "auto",
    op_types: Sequence[str] = OP_TYPES,
    exclude: Sequence[str] = (),
) -> Written:
    """Write a quantised copy of a model with the ranges of a table.

    Use it when the ranges are there already, from :func:`quantcal.onnx.observe` and
    ``Calibrator.compute`` or from a file; it runs no data.

    Parameters
    ----------
    model : path, bytes or onnx.ModelProto
        Never changed. Opset below 13 is converted in the copy.
    output : path
        Replaced at once when the new model is complete, else left as it was. A model
        beyond 2 GiB keeps its weights in ``<output>.data``.
    table : mapping of str to QuantParams
        Must hold every activation that the chosen nodes read or write; more is ignored.
    weight : "int8" or "uint8"
        Format of the weights.
    per_channel : bool
        One scale for each output channel of a weight (default), or one for all.
    reduce_range : bool, "auto", or collection of str
        7-bit weights in all nodes, or in the named ones; ``"auto"`` takes them in all
        when the CPU needs it (:func:`quantcal.onnx.cpu.weight_bits`).
        :func:`quantcal.onnx.saturations` finds the nodes that need it.
    cpu : "auto", "vnni", "no-vnni" or "arm"
        Where the model will run; ``"auto"`` is this machine.
    op_types, exclude : sequence of str
        Operator types to quantise; node names or patterns (``*``) to leave in float.
        Unnamed nodes go by type and position, such as ``Conv_12``.

    Returns
    -------
    Written

    Raises
    ------
    CalibrationError
        When the model cannot be read, nothing would be quantised, a range is missing,
        or the output cannot be written.
    """
    target = check_output(model, output)
    bits = check_weight(weight, reduce_range, cpu)
    if bits.undecided:
        raise CalibrationError(
            'reduce_range="nodes" needs the histograms, which write() does not have. '
            "Give the names that quantcal.onnx.saturations finds."
        )
    prepared = prepare(load_model(model), op_types=op_types, exclude=exclude)
    return write_prepared(
        prepared, target, table, weight=weight, per_channel=per_channel, bits=bits
    )


def check_weight(
    weight: str, reduce_range: bool | str | Collection[str], cpu: str = "auto"
) -> WeightBits:
    """Refuse unknown weight formats, and choose the bits."""
    if weight not in FORMATS:
        raise CalibrationError(
            f"weight={weight!r} is not known. Known formats: {', '.join(FORMATS)}."
        )
    return weight_bits(reduce_range, weight, cpu)


def write_prepared(
    prepared: Prepared,
    target: Path,
    table: Mapping[str, QuantParams],
    *,
    weight: str,
    per_channel: bool,
    bits: WeightBits,
    sample: Feed | None = None,
) -> Written:
    """Rewrite a prepared model, check the result, and put it in its place.

    With a ``sample`` the check includes a run on it.
    """
    ranges = _needed_ranges(prepared, table)
    proto = _rewrite(prepared, ranges, weight, per_channel, bits)
    _check_params(proto, ranges)
    save(proto, target, prepared.converted.label, sample)
    kinds = Counter(node.op_type for node in proto.graph.node)
    return Written(
        output=target,
        quantized_nodes=dict(Counter(prepared.plan.nodes.values()).most_common()),
        quantize_nodes=kinds["QuantizeLinear"],
        dequantize_nodes=kinds["DequantizeLinear"],
        left_in_float=dict(prepared.plan.left.most_common()),
        weight_bits=bits.bits,
        weight_bits_reason=bits.reason,
    )


def _needed_ranges(
    prepared: Prepared, table: Mapping[str, QuantParams]
) -> dict[str, QuantParams]:
    missing = [name for name in prepared.plan.tensors if name not in table]
    if missing:
        listed = ", ".join(missing[:5]) + (", …" if len(missing) > 5 else "")
        raise CalibrationError(
            f"The table has no range for {len(missing)} of the "
            f"{len(prepared.plan.tensors)} tensors that the chosen nodes of "
            f"{prepared.converted.label} need: {listed}. Observe them, or exclude "
            "their nodes."
        )
    ranges = {name: table[name] for name in prepared.plan.tensors}
    for name, params in ranges.items():
        if params.format not in FORMATS:
            raise CalibrationError(
                f"The range of {name!r} is for {params.format}; models are written "
                f"with {' and '.join(FORMATS)} activations."
            )
        if params.axis is not None:
            raise CalibrationError(
                f"The range of {name!r} is by channel (axis {params.axis}); models are "
                "written with one range for each activation: observe it without axis."
            )
    return ranges


def _rewrite(
    prepared: Prepared,
    ranges: Mapping[str, QuantParams],
    weight: str,
    per_channel: bool,
    bits: WeightBits,
) -> onnx.ModelProto:
    """Let onnxruntime's quantizer insert the nodes."""
    import onnx
    from onnxruntime.quantization import QuantType
    from onnxruntime.quantization.calibrate import (
        CalibrationMethod,
        TensorData,
        TensorsData,
    )
    from onnxruntime.quantization.qdq_quantizer import QDQQuantizer

    kinds = {"int8": QuantType.QInt8, "uint8": QuantType.QUInt8}
    proto = onnx.ModelProto()
    proto.CopyFrom(prepared.proto)
    original = list(proto.graph.value_info)
    _declare_types(proto, prepared.types)
    free_names(proto.graph, prepared.plan.tensors)
    spans = {
        name: TensorData(lowest=np.float32(p.low), highest=np.float32(p.high))
        for name, p in ranges.items()
    }
    overrides: dict[str, list[dict[str, Any]]] = {
        name: [
            {
                "quant_type": kinds[p.format],
                "scale": np.array(p.scale, dtype=np.float32),
                "zero_point": np.array(p.zero_point, dtype=p.format),
            }
        ]
        for name, p in ranges.items()
    }
    overrides |= _whole_tensor_weights(prepared, kinds[weight])
    overrides |= narrow_overrides(
        prepared, bits.nodes, kinds[weight], per_channel=per_channel
    )
    formats = Counter(p.format for p in ranges.values()).most_common(1)
    quantizer = QDQQuantizer(
        proto,
        per_channel,
        bits.reduce,
        kinds[weight],
        kinds[formats[0][0]] if formats else QuantType.QUInt8,
        TensorsData(CalibrationMethod.MinMax, spans),
        list(prepared.plan.nodes),
        [],
        sorted(set(prepared.plan.nodes.values())),
        {
            "TensorQuantOverrides": overrides,
            "QDQOpTypePerChannelSupportToAxis": {"MatMul": -1},
        },
    )
    quantizer.quantize_model()
    done = quantizer.model.model
    sort_nodes(done.graph)
    _restore(done, original)
    return done


def _declare_types(proto: onnx.ModelProto, types: Mapping[str, str]) -> None:
    """Give the quantizer onnxruntime's types, which are complete; onnx's may not be."""
    import onnx

    element = {
        f"tensor({name.lower()})": number
        for name, number in onnx.TensorProto.DataType.items()
    }
    known = {value.name for value in (*proto.graph.input, *proto.graph.output)}
    del proto.graph.value_info[:]
    proto.graph.value_info.extend(
        onnx.helper.make_tensor_value_info(name, element[kind], None)
        for name, kind in types.items()
        if kind in element and name not in known
    )
    key, value = _INFERRED
    proto.metadata_props.add(key=key, value=value)


def _restore(proto: onnx.ModelProto, original: Sequence[onnx.ValueInfoProto]) -> None:
    """Take the help for the quantizer out of the model again."""
    made = {name for node in proto.graph.node for name in node.output}
    made |= {tensor.name for tensor in proto.graph.initializer}
    del proto.graph.value_info[:]
    proto.graph.value_info.extend(value for value in original if value.name in made)
    kept = [p for p in proto.metadata_props if (p.key, p.value) != _INFERRED]
    del proto.metadata_props[:]
    proto.metadata_props.extend(kept)


def _whole_tensor_weights(
    prepared: Prepared, kind: Any
) -> dict[str, list[dict[str, Any]]]:
    """Return overrides for MatMul weights that take one scale for all channels.

    A constant first input and a vector have only the axis that is summed over, and
    onnxruntime's kernel refuses one scale a column for stacks of matrices.
    """
    graph = prepared.proto.graph
    ranks = {tensor.name: len(tensor.dims) for tensor in graph.initializer}
    whole = set()
    for node in graph.node:
        if node.op_type == "MatMul" and node.name in prepared.plan.nodes:
            whole |= {name for name in node.input[:1] if name in ranks}
            whole |= {name for name in node.input[1:] if ranks.get(name, 2) != 2}
    return {name: [{"quant_type": kind}] for name in whole}


def _check_params(proto: onnx.ModelProto, ranges: Mapping[str, QuantParams]) -> None:
    """Make sure that every activation carries exactly the range of the table."""
    from onnx import numpy_helper

    constants = {tensor.name: tensor for tensor in proto.graph.initializer}
    for node in proto.graph.node:
        if node.op_type != "QuantizeLinear" or node.input[1] not in constants:
            continue
        name = node.input[1].removesuffix("_scale")
        if name not in ranges:
            continue
        scale = numpy_helper.to_array(constants[node.input[1]])
        zero = numpy_helper.to_array(constants[node.input[2]])
        found = (scale.tobytes(), int(zero), str(zero.dtype))
        p = ranges[name]
        wanted = (np.float32(p.scale).tobytes(), int(p.zero_point), p.format)
        if found != wanted:
            raise CalibrationError(
                f"onnxruntime's quantizer wrote scale {scale} and zero point {zero} "
                f"for {name!r} instead of {p.scale} and {p.zero_point}. "
                "Please report this with the versions of onnx and onnxruntime."
            )
