"""The commands with a line about each, in the order in which a newcomer needs them."""

from __future__ import annotations

COMMANDS = {
    "quantize": "Quantize an ONNX model with calibration samples.",
    "evaluate": "Compare a quantized model with the float model.",
    "advise": "Find the nodes that cost accuracy, and what helps.",
    "tune": "Write the fastest model within a limit of loss.",
    "times": "Measure what integers gain at each node.",
    "observe": "Run the samples once and save histograms.",
    "inspect": "Show the histograms or ranges in a file.",
    "compare": "Show what every strategy would do to each tensor.",
    "compute": "Choose ranges of all tensors from histograms.",
    "export": "Write ranges for another tool.",
    "merge": "Add the histograms of several files.",
    "stability": "Check whether the samples suffice.",
    "demo": "Quantize a real text recognizer and compare.",
}
"""Each has a module of the same name in `quantcal.cli`, with a function of that name."""
