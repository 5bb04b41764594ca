"""Writes ranges into the files of ONNX Runtime, TensorRT and ncnn, and into CSV and JSON.

Each target has a module, and the command `quantcal export` calls `export`. For a
quantized ONNX model use `quantcal.onnx.write`, which needs no such file.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from quantcal._process.lazy import lazy_names

if TYPE_CHECKING:
    from quantcal.exporters import ncnn, onnxruntime, plain, tensorrt
    from quantcal.exporters.targets import TARGETS, ExportResult, export

__all__ = [
    "TARGETS",
    "ExportResult",
    "export",
    "ncnn",
    "onnxruntime",
    "plain",
    "tensorrt",
]


__getattr__ = lazy_names(
    __name__,
    {"targets": ["TARGETS", "ExportResult", "export"]},
    ["ncnn", "onnxruntime", "plain", "tensorrt"],
)


def __dir__() -> list[str]:
    return sorted(__all__)
