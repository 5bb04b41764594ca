"""Arrays of any library as numpy arrays that the engine can read.

The engine takes native float16, float32 and float64 arrays by itself and calls `as_floats`
for everything else.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quantcal._core import CalibrationError
from quantcal._meant import array_fault, list_fault

ACCEPTED = "float16, bfloat16, float32 and float64"


def as_floats(values: Any, /) -> tuple[NDArray[Any], bool]:
    """Return a native float array, and whether it holds the bits of bfloat16 (as uint16).

    Parameters
    ----------
    values
        A numpy array, a torch tensor (moved to the CPU if it is elsewhere), or anything with
        DLPack or `__array__`. Of a masked array only the unmasked elements are taken.

    Raises
    ------
    TypeError
        If the elements are not of one of the accepted float types.
    """
    array = as_numpy(values)
    if isinstance(array, np.ma.MaskedArray):
        array = array.compressed()
    if array.dtype.name == "bfloat16":
        return np.require(array, requirements=["C", "A"]).view(np.uint16), True
    if array.dtype.kind != "f" or array.dtype.itemsize > 8 or array.dtype.num > 23:
        fault = list_fault(values, array)
        if fault is not None:
            raise TypeError(f"{fault}; quantcal takes arrays of {ACCEPTED}")
        if array.dtype == object and not isinstance(values, np.ndarray):
            kind = type(values).__name__
            raise TypeError(
                f"{kind} is not an array; quantcal takes arrays of {ACCEPTED}"
            )
        msg = (
            f"elements of type {array.dtype} cannot be read; quantcal takes {ACCEPTED}: "
            "convert the array first, for instance with .astype(numpy.float32)"
        )
        raise TypeError(msg)
    native = array.dtype.newbyteorder("=")
    return np.require(array, dtype=native, requirements="A"), False


def as_float32(values: Any, /) -> NDArray[np.float32]:
    """Return the values as a C-contiguous float32 array of the same shape.

    Raises
    ------
    TypeError
        If the elements are not of one of the accepted float types.
    """
    if isinstance(values, np.ma.MaskedArray):
        values = values.data  # all elements: the shape must stay
    array, is_bfloat16 = as_floats(values)
    if is_bfloat16:
        import ml_dtypes

        array = array.view(ml_dtypes.bfloat16)
    # ascontiguousarray would turn a single number into an array of one dimension
    with np.errstate(over="ignore"):  # values beyond float32 become infinite
        return np.asarray(array, dtype=np.float32, order="C")


def as_numpy(values: Any) -> NDArray[Any]:
    """Return an array of any library as a numpy array, without a copy where possible.

    Raises
    ------
    TypeError
        If it cannot be read.
    """
    if isinstance(values, np.ndarray):
        return values
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(values, torch.Tensor):
        return _from_torch(values, torch)
    fault = array_fault(values)
    if fault is not None:
        remedy = "" if ";" in fault else f"; quantcal takes arrays of {ACCEPTED}"
        raise TypeError(fault + remedy)
    if hasattr(values, "__dlpack__"):
        try:
            return np.from_dlpack(values)
        except Exception:  # another device or type, which __array__ may convert
            pass
    try:
        return np.asarray(values)
    except Exception as error:
        fault = list_fault(values, None)
        if fault is not None:
            raise TypeError(fault) from error
        msg = f"{type(values).__name__} cannot be read as an array: {error}"
        raise TypeError(msg) from error


def _from_torch(tensor: Any, torch: Any) -> NDArray[Any]:
    """Return a tensor's values; numpy has no bfloat16, so its bits are passed."""
    tensor = tensor.detach().cpu()
    if tensor.dtype == torch.bfloat16:
        import ml_dtypes

        bits: NDArray[Any] = tensor.contiguous().view(torch.int16).numpy()
        return bits.view(ml_dtypes.bfloat16)
    array: NDArray[Any] = tensor.numpy()
    return array


def check_out(out: Any, source: NDArray[Any], dtype: np.dtype[Any]) -> None:
    """Refuse an array that the result of `source` cannot be written to."""
    wanted = f"{dtype} of shape {source.shape}"
    if not isinstance(out, np.ndarray):
        msg = f"out must be a numpy array, {wanted}, not {type(out).__name__}"
    elif (out.dtype, out.shape) != (dtype, source.shape):
        msg = f"out is {out.dtype} of shape {out.shape}, but the result is {wanted}"
    elif not (out.flags.c_contiguous and out.flags.writeable):
        msg = "out is read-only or has gaps; give a C-contiguous array that can be written"
    elif np.may_share_memory(out, source):
        msg = "out shares memory with the values; give an array with separate memory"
    else:
        return
    raise CalibrationError(msg)
