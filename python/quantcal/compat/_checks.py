"""Checks the arguments of the functions in `quantcal.compat`."""

from __future__ import annotations

import math
import operator
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from quantcal._core import CalibrationError
from quantcal._text import shown

Counts = NDArray[np.int64]
Edges = NDArray[Any]

# Below this limit, sums of counts are exact in float64, in any order.
_EXACT_SUM = 1 << 53


def histogram(counts: Any, edges: Any) -> tuple[Counts, Edges]:
    """Return checked counts and edges; edges keep a float type.

    Raises
    ------
    CalibrationError
        If the shapes do not match, counts are invalid, or edges do not rise.
    TypeError
        If one of them is not an array of numbers.
    """
    checked, ends = histogram_counts(counts), _array("edges", edges)
    if ends.shape != (checked.size + 1,):
        msg = (
            f"edges have the shape {ends.shape}, but {checked.size} bins have "
            f"{checked.size + 1} edges: give both edges of every bin"
        )
        raise CalibrationError(msg)
    if ends.dtype.kind != "f":
        ends = ends.astype(np.float64)
    if not np.isfinite(ends).all():
        at = int(np.flatnonzero(~np.isfinite(ends))[0])
        msg = f"edges[{at}] is {ends[at]}, but edges must be finite"
        raise CalibrationError(msg)
    wrong = np.flatnonzero(~(ends[1:] > ends[:-1]))
    if wrong.size:
        at = int(wrong[0])
        msg = (
            f"edges[{at + 1}] is {ends[at + 1]} after {ends[at]}, but edges must rise "
            "from bin to bin"
        )
        raise CalibrationError(msg)
    return checked, ends


def magnitudes(counts: Any, edges: Any) -> tuple[Counts, Edges]:
    """Return a checked histogram of absolute values.

    Raises
    ------
    CalibrationError
        As for `histogram`, or if the edges begin below zero.
    TypeError
        As for `histogram`.
    """
    checked, ends = histogram(counts, edges)
    if ends[0] < 0:
        msg = (
            f"edges begin at {ends[0]}, but this function takes the histogram of |x|, "
            "whose edges begin at 0 or above"
        )
        raise CalibrationError(msg)
    return checked, ends


def histogram_counts(counts: Any) -> Counts:
    """Return checked counts.

    Raises
    ------
    CalibrationError
        If there are none, or they are negative, not finite, not integers, or their sum
        reaches 2**53.
    TypeError
        If they are not an array of numbers.
    """
    array = _array("counts", counts)
    if array.ndim != 1 or not array.size:
        msg = f"counts have the shape {array.shape}, but they must be one row of bins"
        raise CalibrationError(msg)
    wrong = ~np.isfinite(array) | (array < 0) | (array != np.floor(array))
    if wrong.any():
        at = int(np.flatnonzero(wrong)[0])
        msg = f"counts[{at}] is {array[at]}, but counts must be integers from 0"
        raise CalibrationError(msg)
    total = float(array.sum(dtype=np.float64))
    if total >= _EXACT_SUM:
        msg = (
            f"counts sum to {total:g}, but sums are exact below 2**53 = {_EXACT_SUM} only: "
            "divide the counts"
        )
        raise CalibrationError(msg)
    return array.astype(np.int64)


def refuse_few_bins(bins: int, levels: int, option: str) -> NoReturn:
    """Refuse a histogram with too few bins for its levels.

    Raises
    ------
    CalibrationError
        Always; names the option that sets the levels.
    """
    msg = (
        f"{bins} bins cannot be merged to {shown(levels)} levels: give more bins, or a "
        f"smaller {option}"
    )
    raise CalibrationError(msg)


def integer(name: str, value: Any, minimum: int, maximum: int | None = None) -> int:
    """Return an integer option.

    Raises
    ------
    CalibrationError
        If it is below `minimum` or above `maximum`.
    TypeError
        If it is not an integer.
    """
    if isinstance(value, (bool, np.bool_)) or not hasattr(value, "__index__"):
        msg = f"{name} is {shown(value)}, but it must be an integer"
        raise TypeError(msg)
    number = operator.index(value)
    if number < minimum or (maximum is not None and number > maximum):
        limits = f"at least {minimum}"
        if maximum is not None:
            limits = f"between {minimum} and {maximum}"
        msg = f"{name} is {shown(number)}, but it must be {limits}"
        raise CalibrationError(msg)
    return number


def percent(value: Any) -> float:
    """Return a percentile.

    Raises
    ------
    CalibrationError
        If it is outside 0 to 100.
    TypeError
        If it is not a number.
    """
    share = real("percentile", value)
    if not 0 <= share <= 100:
        msg = f"percentile is {share}, but it must be between 0 and 100"
        raise CalibrationError(msg)
    return share


def real(name: str, value: Any) -> float:
    """Return a real option as a float, which may be NaN or infinite.

    Raises
    ------
    CalibrationError
        If it exceeds the range of a float.
    TypeError
        If it is not a number.
    """
    if isinstance(value, (bool, str, bytes)):
        msg = f"{name} is {shown(value)}, but it must be a number"
        raise TypeError(msg)
    try:
        return math.fsum([value])
    except OverflowError:
        msg = f"{name} is {shown(value)}, which exceeds the range of a float"
        raise CalibrationError(msg) from None
    except TypeError as error:
        msg = f"{name} is {shown(value)}, but it must be a number"
        raise TypeError(msg) from error


def _array(name: str, values: Any) -> NDArray[Any]:
    if not (hasattr(values, "__array__") or hasattr(values, "__dlpack__")):
        msg = f"{name} must be an array, not {type(values).__name__}"
        raise TypeError(msg)
    array = np.asarray(values)
    if array.dtype.kind not in "iuf":
        msg = f"{name} are of type {array.dtype}, but must be integers or floats"
        raise TypeError(msg)
    return array
