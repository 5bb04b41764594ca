"""The same model through onnxruntime's own ``quantize_static``, to compare with."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from pathlib import Path
from typing import Any

import onnx
import onnxruntime as ort
from fuzz.cases import Feed
from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    QuantFormat,
    QuantType,
    quantize_static,
)

TYPES = {
    "uint8": QuantType.QUInt8,
    "int8": QuantType.QInt8,
    "int7": QuantType.QInt8,
    "uint16": QuantType.QUInt16,
    "int16": QuantType.QInt16,
    "int4": QuantType.QInt4,
    "uint4": QuantType.QUInt4,
}


class _Reader(CalibrationDataReader):  # type: ignore[misc]
    def __init__(self, samples: list[Feed]) -> None:
        self._left = iter(samples)

    def get_next(self) -> Feed | None:
        return next(self._left, None)


def quantize(
    source: Path,
    output: Path,
    samples: list[Feed],
    options: dict[str, Any],
    *,
    narrow: bool,
) -> bool:
    """Write stock onnxruntime's model; False where it cannot or has no such format."""
    activation = TYPES.get(options["activation_type"])
    weight = TYPES.get(options.get("weight_type", "int8"))
    if activation is None or weight is None:
        return False
    symmetric = options["target"] == "tensorrt" or options["activation_type"] == "int8"
    method = CalibrationMethod.MinMax
    if options["strategy"].startswith("percentile"):
        method = CalibrationMethod.Percentile
    logging.disable(logging.CRITICAL)
    try:
        source = optimized(source, output.with_suffix(".optimized"))
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            quantize_static(
                str(source),
                str(output),
                _Reader(samples),
                quant_format=QuantFormat.QDQ,
                activation_type=activation,
                weight_type=weight,
                per_channel=options["per_channel"],
                reduce_range=narrow,
                op_types_to_quantize=options.get(
                    "op_types", ["Conv", "MatMul", "Gemm"]
                ),
                calibrate_method=method,
                extra_options={"ActivationSymmetric": symmetric},
            )
    except Exception:  # whatever it is, there is nothing to compare with
        return False
    finally:
        logging.disable(logging.NOTSET)
    return output.exists()


def coded_operands(model: onnx.ModelProto) -> tuple[int, int]:
    """Count the inputs of products that are decoded: activations, and weights."""
    counts = [0, 0]

    def walk(graph: onnx.GraphProto) -> None:
        constant = {tensor.name for tensor in graph.initializer}
        maker = {name: node for node in graph.node for name in node.output}
        for node in graph.node:
            for attribute in node.attribute:
                if attribute.HasField("g"):
                    walk(attribute.g)
            if node.op_type not in ("Conv", "MatMul", "Gemm"):
                continue
            for name in node.input[:2]:
                made = maker.get(name)
                if made is not None and made.op_type == "DequantizeLinear":
                    counts[made.input[0] in constant] += 1

    walk(model.graph)
    return counts[0], counts[1]


def optimized(source: Path, output: Path) -> Path:
    """Fold constants and inline functions, as onnxruntime's documentation recommends."""
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.optimized_model_filepath = str(output)
    ort.InferenceSession(str(source), options, providers=["CPUExecutionProvider"])
    return output
