"""What is known of the options of :func:`quantcal.onnx.quantize`, for programs that show it."""

from __future__ import annotations

from quantcal.onnx._options.config import save_options
from quantcal.onnx._options.cpu import weight_bits
from quantcal.onnx._options.info import OptionFlag, OptionInfo
from quantcal.onnx._options.quantize_options import PANELS, QuantizeOptions

__all__ = [
    "PANELS",
    "OptionFlag",
    "OptionInfo",
    "QuantizeOptions",
    "save_options",
    "weight_bits",
]
