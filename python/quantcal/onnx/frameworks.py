"""The one place that asks for onnx and onnxruntime, and says how to install them.

Importing :mod:`quantcal.onnx` needs neither of them; each of its functions that runs
or rewrites a model calls :func:`require` first.
"""

from __future__ import annotations


def require() -> None:
    """Import onnx and onnxruntime, or say how to install them.

    Raises
    ------
    ImportError
        When one of the two is missing.
    """
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
    except ImportError as error:
        raise ImportError(
            "quantcal.onnx needs onnx and onnxruntime. "
            'Install them with: pip install "quantcal[onnx]"'
        ) from error
