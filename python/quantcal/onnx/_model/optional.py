"""Importing onnx and onnxruntime, with an error that says how to install them.

Importing :mod:`quantcal.onnx` needs neither of them. Each of its functions that runs or
rewrites a model calls :func:`require` first.
"""

from __future__ import annotations

from quantcal._process import imports


def require() -> None:
    """Import onnx and onnxruntime, or raise an error that says how to install them.

    Ctrl-C and SIGTERM are handled after the import.

    Raises
    ------
    ImportError
        When one of them is missing or cannot be loaded.
    """
    imports.require(
        ("onnx", "onnxruntime"), "quantcal.onnx needs", "onnx", "onnx and onnxruntime"
    )
