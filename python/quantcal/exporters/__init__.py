"""Ranges in the files of other tools: ONNX Runtime, TensorRT, ncnn, and plain CSV and JSON.

Each target is a module of its own; :func:`export` is what the command `quantcal export` calls.
For a quantised ONNX model use :func:`quantcal.onnx.write`, which needs no such file.
"""

from __future__ import annotations

from quantcal.exporters import ncnn, onnxruntime, plain
from quantcal.exporters.targets import TARGETS, Exported, export

__all__ = ["TARGETS", "Exported", "export", "ncnn", "onnxruntime", "plain"]
