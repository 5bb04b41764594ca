"""Whether two arrays differ by rounding only."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

# One node rounds float32 sums to 1e-5 of their size, and the text recogniser's 751 tensors
# to 3e-5; what changes meaning is beyond 1e-2. 16-bit floats have 13 bits less.
_SHARE = {2: 2e-2, 4: 1e-3, 8: 1e-3}
# Sums whose terms cancel leave the rounding of the terms.
_CANCELLED = 1e-2


def is_rounding(
    want: np.ndarray[Any, Any],
    got: np.ndarray[Any, Any],
    terms: Sequence[np.ndarray[Any, Any]] = (),
) -> bool:
    """Return whether two tensors are equal but for rounding.

    Each value may be off by a thousandth of itself and of the tensor's root mean square
    (float16: a fiftieth). Shapes, types, whole numbers, NaN and infinities must be equal.

    Parameters
    ----------
    want, got : array
    terms : sequence of array
        What they were computed from: a hundred-thousandth of its root mean square is
        allowed, too.
    """
    if want.shape != got.shape or want.dtype != got.dtype:
        return False
    if want.dtype.kind != "f":
        return bool(np.array_equal(want, got))
    if np.array_equal(want, got, equal_nan=True) or _is_close(want, got):
        return True
    finite = np.isfinite(want)
    odd = want[~finite], got[~finite]
    if not np.isfinite(got[finite]).all() or not np.array_equal(*odd, equal_nan=True):
        return False
    share = _SHARE[want.dtype.itemsize]
    wide = want[finite].astype(np.float64)
    allowed = share * _size(wide)
    allowed = max([allowed, *(share * _CANCELLED * _size(term) for term in terms)])
    off = np.abs(got[finite].astype(np.float64) - wide)
    return bool((off <= share * np.abs(wide) + allowed).all())


def _is_close(want: np.ndarray[Any, Any], got: np.ndarray[Any, Any]) -> bool:
    """Whether the root mean square alone allows all differences: a few fast passes."""
    with np.errstate(all="ignore"):
        off = got - want
        most = max(float(off.max()), -float(off.min()))
        size = float(np.vdot(want, want)) / want.size
    return bool(most <= _SHARE[want.dtype.itemsize] * np.sqrt(size) < np.inf)


def describe(want: np.ndarray[Any, Any], got: np.ndarray[Any, Any]) -> str:
    """Return in words how two tensors differ."""
    if want.shape != got.shape:
        return f"has shape {list(got.shape)} instead of {list(want.shape)}"
    if want.dtype != got.dtype:
        return f"is of {got.dtype} instead of {want.dtype}"
    if want.dtype.kind != "f":
        return f"differs at {int((want != got).sum())} of {want.size} places"
    with np.errstate(invalid="ignore"):
        off = np.abs(got.astype(np.float64) - want.astype(np.float64))
    most = float(np.max(off[np.isfinite(off)], initial=0.0))
    if not most:
        return "has NaN or infinities at other places"
    return f"differs by up to {most:.3g} (its values are about {_size(want):.3g})"


def _size(array: np.ndarray[Any, Any]) -> float:
    """Return the root mean square of the finite values; 0 for what is no float."""
    if array.dtype.kind != "f":
        return 0.0
    wide = array[np.isfinite(array)].astype(np.float64)
    return float(np.sqrt(np.mean(wide * wide))) if wide.size else 0.0
