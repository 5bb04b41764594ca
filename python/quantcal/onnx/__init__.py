"""ONNX models: observe their activations, and write quantised copies.

onnx and onnxruntime are imported when a function needs them, not before.

>>> result = qc.onnx.quantize("model.onnx", "model.int8.onnx", "calibration/")
"""

from __future__ import annotations

from quantcal.onnx._graph.inputs import InputSpec
from quantcal.onnx._observe.checkpoint import Keep
from quantcal.onnx._observe.observer import observe
from quantcal.onnx._ort.patch import Acceleration, accelerate
from quantcal.onnx._plan.config import read_config
from quantcal.onnx._runtime.feeds import Feeds, load_feeds
from quantcal.onnx._write.saturation import Saturation, saturations
from quantcal.onnx.evaluation import Evaluation, Metered, evaluate
from quantcal.onnx.output_error import Agreement
from quantcal.onnx.quantizer import quantize
from quantcal.onnx.result import Clipped, QuantizeResult
from quantcal.onnx.writer import Written, write

__all__ = [
    "Acceleration",
    "Agreement",
    "Clipped",
    "Evaluation",
    "Feeds",
    "InputSpec",
    "Keep",
    "Metered",
    "QuantizeResult",
    "Saturation",
    "Written",
    "accelerate",
    "evaluate",
    "load_feeds",
    "observe",
    "quantize",
    "read_config",
    "saturations",
    "write",
]
