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
from quantcal.onnx._timing.machine import Machine
from quantcal.onnx._timing.measure import measure_times
from quantcal.onnx._timing.node_times import Latency, NodeTime, NodeTimes
from quantcal.onnx._timing.sample_counts import count_multiply_adds
from quantcal.onnx._write.saturation import Saturation, find_saturation
from quantcal.onnx.advisor import advise
from quantcal.onnx.evaluation import Evaluation, evaluate
from quantcal.onnx.files import FileCheck
from quantcal.onnx.layer_error import LayerError
from quantcal.onnx.output_error import OutputError
from quantcal.onnx.quantizer import quantize
from quantcal.onnx.result import ClippedTensor, QuantizeResult
from quantcal.onnx.tune_result import TuneResult
from quantcal.onnx.tuner import tune
from quantcal.onnx.verdict import MetricMean
from quantcal.onnx.writer import WriteResult, write

__all__ = [
    "Checkpoint",
    "ClippedTensor",
    "CorrectedNodes",
    "Correction",
    "Evaluation",
    "FileCheck",
    "InputSpec",
    "Latency",
    "LayerError",
    "Machine",
    "MetricMean",
    "NodeTime",
    "NodeTimes",
    "OutputError",
    "Patch",
    "QuantizeOptions",
    "QuantizeResult",
    "Samples",
    "Saturation",
    "TuneResult",
    "WriteResult",
    "advise",
    "count_multiply_adds",
    "evaluate",
    "find_saturation",
    "load_samples",
    "measure_times",
    "observe",
    "patch_onnxruntime",
    "quantize",
    "read_config",
    "tune",
    "write",
]


def __dir__() -> list[str]:
    return sorted(__all__)
