"""ONNX models: observe their activations, and write quantized copies.

Names are imported when first used; onnx and onnxruntime when a function needs them.

>>> result = qc.onnx.quantize("model.onnx", "model.int8.onnx", "calibration/")
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from quantcal._process.lazy import lazy_names

if TYPE_CHECKING:
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
    from quantcal.onnx.model_cost import ModelCost, OperatorCost, measure_cost
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
    "ModelCost",
    "NodeTime",
    "NodeTimes",
    "OperatorCost",
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
    "measure_cost",
    "measure_times",
    "observe",
    "patch_onnxruntime",
    "quantize",
    "read_config",
    "tune",
    "write",
]


__getattr__ = lazy_names(
    __name__,
    {
        "_correct.report": ["CorrectedNodes", "Correction"],
        "_graph.inputs": ["InputSpec"],
        "_observe.checkpoint": ["Checkpoint"],
        "_observe.observer": ["observe"],
        "_options.config": ["read_config"],
        "_options.quantize_options": ["QuantizeOptions"],
        "_ort.patch": ["Patch", "patch_onnxruntime"],
        "_runtime.samples": ["Samples", "load_samples"],
        "_timing.machine": ["Machine"],
        "_timing.measure": ["measure_times"],
        "_timing.node_times": ["Latency", "NodeTime", "NodeTimes"],
        "_timing.sample_counts": ["count_multiply_adds"],
        "_write.saturation": ["Saturation", "find_saturation"],
        "advisor": ["advise"],
        "evaluation": ["Evaluation", "evaluate"],
        "files": ["FileCheck"],
        "layer_error": ["LayerError"],
        "model_cost": ["ModelCost", "OperatorCost", "measure_cost"],
        "output_error": ["OutputError"],
        "quantizer": ["quantize"],
        "result": ["ClippedTensor", "QuantizeResult"],
        "tune_result": ["TuneResult"],
        "tuner": ["tune"],
        "verdict": ["MetricMean"],
        "writer": ["WriteResult", "write"],
    },
)


def __dir__() -> list[str]:
    return sorted(__all__)
