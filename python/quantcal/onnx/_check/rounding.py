"""Comparing two arrays up to rounding."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

# Relative tolerance by item size. One node rounds float32 sums to 1e-5 of their size. The
# 751 tensors of a text recognizer differ by up to 3e-5, and wrong conversions by more than
# 1e-2. 16-bit floats have 13 bits less.
_TOLERANCE = {2: 2e-2, 4: 1e-3, 8: 1e-3}
# When the terms of a sum cancel, the rounding of the terms remains. The tolerance for it is
# this fraction of the tolerance above.
_CANCELLED = 1e-2


def is_rounding(
    want: np.ndarray[Any, Any],
    got: np.ndarray[Any, Any],
    terms: Sequence[np.ndarray[Any, Any]] = (),
) -> bool:
    """Return whether two tensors differ by rounding only.

    Each value may differ by 0.1 % of itself plus 0.1 % of the tensor's root mean square
    (float16: 2 %). Shapes, types, integers, NaN and infinities must be equal.

    Parameters
    ----------
    want, got : array
    terms : sequence of array
        The inputs of the computation. A difference of 0.001 % of their root mean square is
        allowed too.
    """
    if want.shape != got.shape or want.dtype != got.dtype:
        return False
    if want.dtype.kind != "f":
        return bool(np.array_equal(want, got))
    if np.array_equal(want, got, equal_nan=True) or _is_close(want, got):
        return True
    finite = np.isfinite(want)
    nonfinite = want[~finite], got[~finite]
    if not np.isfinite(got[finite]).all() or not np.array_equal(
        *nonfinite, equal_nan=True
    ):
        return False
    tolerance = _TOLERANCE[want.dtype.itemsize]
    wide = want[finite].astype(np.float64)
    allowed = tolerance * _rms(wide)
    allowed = max([allowed, *(tolerance * _CANCELLED * _rms(term) for term in terms)])
    off = np.abs(got[finite].astype(np.float64) - wide)
    return bool((off <= tolerance * np.abs(wide) + allowed).all())


def _is_close(want: np.ndarray[Any, Any], got: np.ndarray[Any, Any]) -> bool:
    """Return whether the root mean square alone allows all differences.

    This takes a few fast passes and suffices for most tensors.
    """
    with np.errstate(all="ignore"):
        off = got - want
        largest = max(float(off.max()), -float(off.min()))
        size = float(np.vdot(want, want)) / want.size
    return bool(largest <= _TOLERANCE[want.dtype.itemsize] * np.sqrt(size) < np.inf)


def describe(want: np.ndarray[Any, Any], got: np.ndarray[Any, Any]) -> str:
    """Describe in words how two tensors differ."""
    if want.shape != got.shape:
        return f"has shape {list(got.shape)} instead of {list(want.shape)}"
    if want.dtype != got.dtype:
        return f"is of {got.dtype} instead of {want.dtype}"
    if want.dtype.kind != "f":
        return f"differs at {int((want != got).sum())} of {want.size} places"
    with np.errstate(invalid="ignore"):
        off = np.abs(got.astype(np.float64) - want.astype(np.float64))
    largest = float(np.max(off[np.isfinite(off)], initial=0.0))
    if not largest:
        return "has NaN or infinities at other places"
    return f"differs by up to {largest:.3g} (its values are about {_rms(want):.3g})"


def _rms(array: np.ndarray[Any, Any]) -> float:
    """Return the root mean square of the finite values; 0 for other types than floats."""
    if array.dtype.kind != "f":
        return 0.0
    wide = array[np.isfinite(array)].astype(np.float64)
    return float(np.sqrt(np.mean(wide * wide))) if wide.size else 0.0
