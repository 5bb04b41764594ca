"""ONNX's element types that numpy lacks: their types in ml_dtypes, and how they are packed.

Only newer versions of onnx map all of them to ml_dtypes.
"""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np

from quantcal._core import CalibrationError

ML_DTYPES: dict[str, np.dtype[Any]] = {
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
"""ONNX's name → type. In an array, each value takes one or two bytes."""

# Bits of a value in files and in onnxruntime's memory, where several share a byte.
_PACKED_BITS = {
    "FLOAT6E2M3": 6,
    "FLOAT6E3M2": 6,
    "FLOAT4E2M1": 4,
    "INT4": 4,
    "UINT4": 4,
    "INT2": 2,
    "UINT2": 2,
}


def name_of(kind: int) -> str:
    """Return ONNX's name of an element type, ``"UNDEFINED"`` when onnx does not know it."""
    import onnx

    names: dict[int, str] = {
        number: name for name, number in onnx.TensorProto.DataType.items()
    }
    return names.get(kind, "UNDEFINED")


def dtype_of(kind: int) -> np.dtype[Any]:
    """Return the numpy type of an element type.

    Raises
    ------
    CalibrationError
        For a type that this version of onnx does not know.
    """
    import onnx

    name = name_of(kind)
    if name == "UNDEFINED":
        raise CalibrationError(
            f"onnx {onnx.__version__} does not know the element type {kind}. Upgrade onnx, "
            "or export the model again."
        )
    if name in ML_DTYPES:
        return ML_DTYPES[name]
    known: np.dtype[Any] = onnx.helper.tensor_dtype_to_np_dtype(kind)
    return np.dtype(known)


def bits_of(name: str, dtype: np.dtype[Any]) -> int:
    """Return the number of bits of a value in files and in onnxruntime's memory."""
    return _PACKED_BITS.get(name, 8 * dtype.itemsize)
