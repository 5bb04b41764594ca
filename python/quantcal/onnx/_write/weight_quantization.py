"""Quantize weights: the range of each channel or block, its scale, and the tensors to store.

Ranges are those of :class:`quantcal.MinMax` or of a search for the minimum squared error.
Codes are those of :meth:`quantcal.QuantParams.quantize`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from quantcal import _core
from quantcal._core import CalibrationError
from quantcal.calibrator import Calibrator
from quantcal.formats import QuantFormat
from quantcal.onnx._options.values import is_float
from quantcal.params import QuantParams

if TYPE_CHECKING:
    import onnx

# Resolution of the histograms that the search reads. The squared error of int8 was 2.8, 0.5
# and 0.0 % above that of the best of 400 ranges with 5, 7 and 9 bits (mean of 64 channels of
# 512 normal values). For 4-bit weights all three resolutions are below 0.1 %.
_MANTISSA_BITS = 9
# The search for the scale of a block tries these shares of its largest value.
_SHARES = np.linspace(1, 0.6, 21, dtype=np.float32)


@dataclass(frozen=True, slots=True)
class QuantizedWeight:
    """A weight as the inputs of a DequantizeLinear node.

    Attributes
    ----------
    format : str
    codes : array
        In the format's dtype, or in the standard integers that store it.
    scale : float32 array
        Rank 0, or one for each channel, or for blocks an array of the weight's rank.
    zero_point : array or None
        In the codes' type and the scale's shape; None when all are zero.
    axis : int or None
        The axis of channels or blocks; None for one scale.
    block_size : int
        0 without blocks.
    """

    format: str
    codes: NDArray[Any]
    scale: NDArray[np.float32]
    zero_point: NDArray[Any] | None
    axis: int | None
    block_size: int = 0


def quantize_weight(
    weight: NDArray[np.float32],
    format: str,
    strategy: str,
    axis: int | None,
    least: NDArray[np.float32] | None = None,
) -> QuantizedWeight:
    """Quantize a weight with one scale, or one for each channel along ``axis``.

    Parameters
    ----------
    weight : float32 array, any shape
    format : str
        A name of :class:`quantcal.QuantFormat`; unsigned formats are affine.
    strategy : str
        "minmax" or "mse".
    axis : int or None
    least : float32 array, optional
        The minimum scale, one or one for each channel. A smaller scale is raised to it,
        which widens the range.

    Raises
    ------
    CalibrationError
        When the weight has infinities or NaN, which no code represents.
    """
    _check_finite(weight)
    params = _params(weight, format, strategy, axis)
    if format == "int7":
        params = _in_eight_bits(params)
    if least is not None:
        params = _widened(params, least)
    if format == "int7":
        weight = np.clip(weight, *_ends(params, weight.ndim))
    codes = params.quantize(weight)
    scale = np.asarray(params.scale, dtype=np.float32)
    zero: NDArray[Any] | None = None
    if not QuantFormat(format).symmetric:
        zero = np.asarray(params.zero_point).astype(QuantFormat(format).storage)
    return QuantizedWeight(format, codes, scale, zero, axis)


def _params(
    weight: NDArray[np.float32], format: str, strategy: str, axis: int | None
) -> QuantParams:
    if strategy == "minmax":
        others = tuple(k for k in range(weight.ndim) if k != axis)
        reduce = None if axis is None else others
        low, high = weight.min(axis=reduce), weight.max(axis=reduce)
        if axis is None:
            low, high = float(low), float(high)
        return QuantParams.from_range(low, high, format=format, axis=axis)
    calibrator = Calibrator(mantissa_bits=_MANTISSA_BITS)
    calibrator.observe("weight", weight, axis=axis)
    return calibrator.compute(strategy, format=format)["weight"]


def _in_eight_bits(params: QuantParams) -> QuantParams:
    """Return int8 parameters in which the range ends at ±64.

    Then the sum of two products with 255 still fits into 16 bits. A step is 63/64 of that
    of 7 bits.
    """
    wider = np.asarray(params.high) * (127 / 64)
    high = float(wider) if params.axis is None else wider
    return QuantParams.from_range(-high, high, format="int8", axis=params.axis)


def _ends(params: QuantParams, rank: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return the values of the codes ±64, in a shape that broadcasts over channels."""
    end = np.asarray(params.scale, dtype=np.float32) * np.float32(64)
    if params.axis is not None:
        end = end.reshape([-1 if k == params.axis else 1 for k in range(rank)])
    return -end, end


def _widened(params: QuantParams, least: NDArray[np.float32]) -> QuantParams:
    """Return the parameters with a range wide enough for the minimum scale."""
    scale = np.asarray(params.scale, dtype=np.float64)
    ratio = np.maximum(least.max() if params.axis is None else least, scale) / scale
    if (ratio == 1).all():
        return params
    # A little more than needed, so that rounding to float32 cannot make the scale smaller.
    ratio = np.where(ratio > 1, ratio * (1 + 1e-6), 1)
    low, high = np.asarray(params.low) * ratio, np.asarray(params.high) * ratio
    if params.axis is None:
        low, high = float(low), float(high)
    return QuantParams.from_range(low, high, format=params.format, axis=params.axis)


def quantize_blocks(
    weight: NDArray[np.float32], format: str, strategy: str, axis: int, size: int
) -> QuantizedWeight:
    """Quantize a matrix with one scale for each ``size`` values along ``axis``.

    The last block may be shorter. "mse" tries 21 scales for each block, from the one that
    clips nothing down to 0.6 of it. It keeps the one with the minimum squared error. That
    takes about 25 ns for each value on one core, and threads share the work.

    Parameters
    ----------
    weight : float32 array of rank 2
    format : str
        A 4-bit integer format.
    strategy : str
        "minmax" or "mse".
    axis : int
        0 or 1.
    size : int

    Raises
    ------
    CalibrationError
        As :func:`quantize_weight`.
    """
    _check_finite(weight)
    kind = QuantFormat(format)
    shares = _SHARES if strategy == "mse" else _SHARES[:1]
    codes, scale, zero = _core.code_blocks(
        np.ascontiguousarray(weight), kind, axis, size, shares
    )
    return QuantizedWeight(
        format, codes, scale, None if kind.symmetric else zero, axis, size
    )


def _check_finite(weight: NDArray[np.float32]) -> None:
    ends = np.asarray([weight.min(initial=0.0), weight.max(initial=0.0)])
    if not np.isfinite(ends).all():
        raise CalibrationError(
            "The weight has infinities or NaN, which no code represents. Leave its node "
            "in float."
        )


def onnx_type(format: str) -> int:
    """Return the number of the ONNX type that stores a format."""
    import onnx

    if is_float(format):
        name = {"float8_e4m3fn": "FLOAT8E4M3FN", "float8_e5m2": "FLOAT8E5M2"}[format]
    else:
        bits = QuantFormat(format).bits
        width = 4 if bits <= 4 else 8 if bits <= 8 else 16
        name = f"{'U' if format.startswith('u') else ''}INT{width}"
    return int(onnx.TensorProto.DataType.Value(name))


def codes_to_tensor(codes: NDArray[Any], format: str, name: str) -> onnx.TensorProto:
    """Store codes as a tensor; a byte holds two 4-bit codes, the first in its low bits."""
    import onnx

    flat = np.ascontiguousarray(codes).view(QuantFormat(format).storage).reshape(-1)
    kind = onnx_type(format)
    if kind in (onnx.TensorProto.INT4, onnx.TensorProto.UINT4):
        nibbles = np.zeros(flat.size + flat.size % 2, dtype=np.uint8)
        nibbles[: flat.size] = flat.view(np.uint8) & 15
        flat = nibbles[::2] | (nibbles[1::2] << 4)
    little = flat.astype(flat.dtype.newbyteorder("<"), copy=False)
    return onnx.TensorProto(
        name=name,
        data_type=kind,
        dims=codes.shape,
        raw_data=little.tobytes(),
    )
