"""ONNX models: observe their activations, and write quantized copies.

onnx and onnxruntime are imported when a function needs them, not before.

>>> result = qc.onnx.quantize("model.onnx", "model.int8.onnx", "calibration/")
"""

from __future__ import annotations

from quantcal.onnx._correct.report import CorrectedNodes, Correction
from quantcal.onnx._graph.inputs import InputSpec
from quantcal.onnx._observe.checkpoint import Checkpoint
from quantcal.onnx._observe.observer import observe
from quantcal.onnx._options.config import read_config
from quantcal.onnx._options.quantize_options import QuantizeOptions
from quantcal.onnx._ort.patch import Patch, patch_onnxruntime
from quantcal.onnx._runtime.samples import Samples, load_samples
from quantcal.onnx._write.saturation import Saturation, find_saturation
from quantcal.onnx.evaluation import Evaluation, MetricMean, evaluate
from quantcal.onnx.files import FileCheck
from quantcal.onnx.output_error import OutputError
from quantcal.onnx.quantizer import quantize
from quantcal.onnx.result import ClippedTensor, QuantizeResult
from quantcal.onnx.writer import WriteResult, write

__all__ = [
    "Checkpoint",
    "ClippedTensor",
    "CorrectedNodes",
    "Correction",
    "Evaluation",
    "FileCheck",
    "InputSpec",
    "MetricMean",
    "OutputError",
    "Patch",
    "QuantizeOptions",
    "QuantizeResult",
    "Samples",
    "Saturation",
    "WriteResult",
    "evaluate",
    "find_saturation",
    "load_samples",
    "observe",
    "patch_onnxruntime",
    "quantize",
    "read_config",
    "write",
]
