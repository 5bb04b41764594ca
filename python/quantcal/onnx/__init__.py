"""ONNX models: observe their activations, and write quantised copies.

onnx and onnxruntime are imported when a function needs them, not before.

>>> result = qc.onnx.quantize("model.onnx", "model.int8.onnx", "calibration/")
"""

from __future__ import annotations

from quantcal.onnx.accelerate import Acceleration, accelerate
from quantcal.onnx.agreement import Agreement
from quantcal.onnx.config import read_config
from quantcal.onnx.evaluate import Evaluation, Metered, evaluate
from quantcal.onnx.feeds import Feeds, load_feeds
from quantcal.onnx.inputs import InputSpec
from quantcal.onnx.keep import Keep
from quantcal.onnx.observer import observe
from quantcal.onnx.quantizer import quantize
from quantcal.onnx.result import Clipped, QuantizeResult
from quantcal.onnx.saturation import Saturation, saturations
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
