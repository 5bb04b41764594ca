"""ONNX's element types that numpy has not: as ml_dtypes has them, and how they are packed.

onnx itself says so of all of them only in its newer versions.
"""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np

from quantcal._core import CalibrationError

FOREIGN: dict[str, np.dtype[Any]] = {
    name: np.dtype(dtype)
    for name, dtype in {
        "BFLOAT16": ml_dtypes.bfloat16,
        "FLOAT8E4M3FN": ml_dtypes.float8_e4m3fn,
        "FLOAT8E4M3FNUZ": ml_dtypes.float8_e4m3fnuz,
        "FLOAT8E5M2": ml_dtypes.float8_e5m2,
        "FLOAT8E5M2FNUZ": ml_dtypes.float8_e5m2fnuz,
        "FLOAT8E8M0": ml_dtypes.float8_e8m0fnu,
        "FLOAT6E2M3": ml_dtypes.float6_e2m3fn,
        "FLOAT6E3M2": ml_dtypes.float6_e3m2fn,
        "FLOAT4E2M1": ml_dtypes.float4_e2m1fn,
        "INT4": ml_dtypes.int4,
        "UINT4": ml_dtypes.uint4,
        "INT2": ml_dtypes.int2,
        "UINT2": ml_dtypes.uint2,
    }.items()
}
"""ONNX's name → type. In arrays each value has one or two whole bytes."""

_PACKED = {
    "FLOAT6E2M3": 6,
    "FLOAT6E3M2": 6,
    "FLOAT4E2M1": 4,
    "INT4": 4,
    "UINT4": 4,
    "INT2": 2,
    "UINT2": 2,
}


def name_of(kind: int) -> str:
    """Return ONNX's name of an element type; ``"UNDEFINED"`` for what onnx does not know."""
    import onnx

    names: dict[int, str] = {
        number: name for name, number in onnx.TensorProto.DataType.items()
    }
    return names.get(kind, "UNDEFINED")


def dtype_of(kind: int) -> np.dtype[Any]:
    """Return the type of arrays that hold such elements.

    Raises
    ------
    CalibrationError
        For a type that this onnx does not know.
    """
    import onnx

    name = name_of(kind)
    if name == "UNDEFINED":
        raise CalibrationError(
            f"The element type {kind} is none that onnx {onnx.__version__} knows. Export "
            "the model again, or upgrade onnx."
        )
    if name in FOREIGN:
        return FOREIGN[name]
    known: np.dtype[Any] = onnx.helper.tensor_dtype_to_np_dtype(kind)
    return np.dtype(known)


def bits_of(name: str, dtype: np.dtype[Any]) -> int:
    """Return the bits that a value takes in files and in onnxruntime's memory."""
    return _PACKED.get(name, 8 * dtype.itemsize)
