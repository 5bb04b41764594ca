"""What is known of each target without loading it: its text, and names in its files."""

from __future__ import annotations

from typing import Final

TEXTS: Final = {
    "onnxruntime": "JSON cache of quantize_static(calibration_cache_path=...)",
    "onnxruntime-tensorrt": "folder for ONNX Runtime's TensorRT provider",
    "tensorrt": "calibration cache of TensorRT up to 10",
    "ncnn": "table of ncnn2int8",
    "csv": "one line per tensor",
    "json": "one object per tensor",
}
"""A short description of each target, by the names that `--to` takes."""

METHODS: Final = ("MinMax", "Entropy", "Percentile", "Distribution")
"""The names in onnxruntime's `CalibrationMethod`."""

VERSION: Final = 101401
"""TensorRT 10.14.1, as major · 10000 + minor · 100 + patch; 8.5.1 and older as 8501."""

ALGORITHM: Final = "EntropyCalibration2"
"""The calibrator class of most builders; the scales do not depend on it."""
