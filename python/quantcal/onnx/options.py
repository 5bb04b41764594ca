"""What is known of the options of :func:`quantcal.onnx.quantize`, for programs that show it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from quantcal._process.lazy import lazy_names
from quantcal.onnx._options.info import OptionFlag, OptionInfo
from quantcal.onnx._options.quantize_options import PANELS, QuantizeOptions

if TYPE_CHECKING:
    from quantcal.onnx._options.config import save_options
    from quantcal.onnx._options.cpu import cpu_kind, weight_bits

__all__ = [
    "PANELS",
    "OptionFlag",
    "OptionInfo",
    "QuantizeOptions",
    "cpu_kind",
    "save_options",
    "weight_bits",
]

__getattr__ = lazy_names(
    "quantcal.onnx",
    {"_options.config": ["save_options"], "_options.cpu": ["cpu_kind", "weight_bits"]},
)
