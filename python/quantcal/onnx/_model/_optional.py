"""The one place that asks for onnx and onnxruntime, and says how to install them.

Importing :mod:`quantcal.onnx` needs neither of them; each of its functions that runs
or rewrites a model calls :func:`require` first.
"""

from __future__ import annotations

from quantcal._process import imports


def require() -> None:
    """Import onnx and onnxruntime, or say how to install them.

    Ctrl-C and SIGTERM wait until they are loaded.

    Raises
    ------
    ImportError
        When one of the two is missing, or is installed but cannot be loaded.
    """
    imports.require(
        ("onnx", "onnxruntime"), "quantcal.onnx needs", "onnx", "onnx and onnxruntime"
    )
