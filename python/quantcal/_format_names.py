"""Names of formats as other libraries write them: dtypes of numpy and torch, "fp8"."""

from __future__ import annotations

import re
import sys
from typing import Any

from quantcal._core import format_names

_KNOWN = frozenset(format_names())

_OTHER = {
    # Of two 8-bit floats, e4m3 is the one for ranges: e5m2 is for gradients.
    "fp8": "float8_e4m3fn",
    "float8": "float8_e4m3fn",
    "fp4": "float4_e2m1fn",
    "float4": "float4_e2m1fn",
    "e4m3": "float8_e4m3fn",
    "e5m2": "float8_e5m2",
    "e2m1": "float4_e2m1fn",
}
"""Names without underscores → names of formats."""

_WIDTH = re.compile(r"(?:float|fp|f)([48])")

ONNX_TYPES = {
    2: "uint8",
    3: "int8",
    4: "uint16",
    5: "int16",
    17: "float8_e4m3fn",
    19: "float8_e5m2",
    21: "uint4",
    22: "int4",
    23: "float4_e2m1fn",
    25: "uint2",
    26: "int2",
}
"""`onnx.TensorProto.DataType` → names, for messages.

Its values are plain numbers, and 4 as a format would more often mean 4 bits than UINT16.
"""


def format_name(given: Any) -> str | None:
    """Return the name of a format; None for what is none.

    Parameters
    ----------
    given
        A name in any case ("INT8", "fp8"), a numpy or ml_dtypes type or dtype, a torch dtype
        (qint8 too), or a `QuantType` of onnxruntime. Numbers are none.
    """
    kind = type(given)
    # Starting the command imports no numpy, and what it made is not there before it.
    numpy = sys.modules.get("numpy")
    is_dtype = numpy is not None and isinstance(given, numpy.dtype)
    if is_dtype or kind.__name__ == "QuantType":  # of onnxruntime
        given = str(given.name)
    elif isinstance(given, type):
        given = _scalar_name(given, numpy)
    elif kind.__name__ == "dtype" and kind.__module__ == "torch":
        given = str(given)
    return _named(given) if isinstance(given, str) else None


def _scalar_name(given: type, numpy: Any) -> str | None:
    """Return the name of a scalar type; Python's own `int` and `float` are none."""
    is_numpy = numpy is not None and issubclass(given, numpy.generic)
    is_scalar = is_numpy or given.__module__ == "ml_dtypes"
    return given.__name__ if is_scalar else None


def _named(text: str) -> str | None:
    if text in _KNOWN:
        return text
    name = text.strip().lower().removeprefix("torch.").removeprefix("tensorproto.")
    short = name.replace("_", "").replace("-", "").removeprefix("q")
    for known in _KNOWN:
        if short == known.replace("_", ""):
            return known
    if short in _OTHER:
        return _OTHER[short]
    # "fp8_e4m3", "float8e4m3fn", "e5m2"
    width = _WIDTH.match(short)
    found = _OTHER.get(short[width.end() if width else 0 :].removesuffix("fn"))
    # "fp8_e2m1" contradicts itself.
    fits = width is None or found is None or found.startswith(f"float{width[1]}")
    return found if fits else None
