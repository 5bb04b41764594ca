"""A real network, quantized end to end with several strategies, with its accuracy.

The network is PP-OCRv4's recognizer of text lines. :func:`run` reads drawn lines with the
float model and observes other lines once. From these histograms it computes the ranges of
each strategy, writes an INT8 model with each, and reads the first lines again. To quantize
another model, use :func:`quantcal.onnx.quantize`.
"""

from __future__ import annotations

from quantcal.demo.errors import DemoError
from quantcal.demo.lines import SEED, Line, contact_sheet, render_lines
from quantcal.demo.members import cache_folder, fetch
from quantcal.demo.ocr import RECOGNIZER, Accuracy, LineSamples, evaluate
from quantcal.demo.pipeline import ALL_STRATEGIES, STRATEGIES, run
from quantcal.demo.report import show
from quantcal.demo.result import DemoResult, StrategyResult

__all__ = [
    "ALL_STRATEGIES",
    "RECOGNIZER",
    "SEED",
    "STRATEGIES",
    "Accuracy",
    "DemoError",
    "DemoResult",
    "Line",
    "LineSamples",
    "StrategyResult",
    "cache_folder",
    "contact_sheet",
    "evaluate",
    "fetch",
    "render_lines",
    "run",
    "show",
]


def __dir__() -> list[str]:
    return sorted(__all__)
