"""Checks of the fields of `QuantParams`, which turn them into plain numbers and arrays."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from quantcal._core import CalibrationError
from quantcal._text import shown

DTYPES: dict[str, Any] = {
    "scale": np.float32,
    "zero_point": np.int32,
    "low": np.float64,
    "high": np.float64,
}
"""Element types of the fields that are arrays by channel."""
INT32 = np.iinfo(np.int32)
_NAMES: dict[Any, str] = {str: "a str", bool: "True or False", int: "a whole number"}


def check_kind(field: str, value: object, kind: Any) -> None:
    """Refuse a value of another type."""
    is_bool = isinstance(value, bool)  # which Python takes for an integer
    if is_bool != (kind is bool) or not isinstance(value, kind):
        name = _NAMES.get(kind, "a number")
        msg = f"{field} is {shown(value, 100)}, but it must be {name}"
        raise CalibrationError(msg)


def as_number(field: str, value: object) -> float | int:
    """Return a number as a Python number."""
    if isinstance(value, np.floating):
        return float(value)
    check_kind(field, value, (float, int))
    check_float(field, value)
    return value  # type: ignore[return-value]


def check_float(field: str, value: object) -> None:
    """Refuse a whole number that no float can hold. Other values are not checked."""
    if not isinstance(value, int):
        return
    try:
        float(value)
    except OverflowError:
        msg = f"{field} is {shown(value)}, which exceeds the range of a float"
        raise CalibrationError(msg) from None


def as_int32(field: str, value: object) -> int:
    """Return a whole number of 32 bits as an int."""
    number = int(value) if isinstance(value, np.integer) else value
    check_kind(field, number, int)
    if not INT32.min <= number <= INT32.max:  # type: ignore[operator]
        raise CalibrationError(
            f"{field} is {shown(number)}, which does not fit into 32 bits"
        )
    return number  # type: ignore[return-value]


def range_fault(low: float, high: float) -> str:
    """Return what is wrong with a range; empty if nothing is."""
    if not (math.isfinite(low) and math.isfinite(high)):
        return f"the range [{low}, {high}] is not finite"
    if not low <= 0 <= high:
        return f"the range [{low}, {high}] does not contain 0"
    return ""


def as_channel_array(field: str, values: ArrayLike) -> NDArray[Any]:
    """Return a field as a read-only array of its type."""
    kinds = "iu" if field == "zero_point" else "iuf"
    try:
        array = np.asarray(values)
    except ValueError:  # lists of different lengths
        array = np.array(None)
    if array.ndim != 1 or (array.size and array.dtype.kind not in kinds):
        noun = "integers" if field == "zero_point" else "numbers"
        msg = (
            f"{field} must hold {noun}, one for each channel, not {shown(values, 100)}"
        )
        raise CalibrationError(msg)
    if field == "zero_point":
        array = array.clip(INT32.min, INT32.max)
    with np.errstate(over="ignore"):  # what overflows is infinite, and refused as such
        array = array.astype(DTYPES[field])
    array.setflags(write=False)
    return array
