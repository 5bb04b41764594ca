"""`QuantParams`: scale, zero point and range of one tensor, and what they do to arrays."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quantcal import _core
from quantcal._arrays import as_float32
from quantcal._core import CalibrationError
from quantcal.formats import QuantFormat

_KINDS: dict[str, Any] = {
    "scale": (float, int),
    "zero_point": int,
    "low": (float, int),
    "high": (float, int),
    "symmetric": bool,
    "strategy": str,
}


@dataclass(frozen=True)
class QuantParams:
    """Scale, zero point and range of one tensor: real = (code - zero_point) * scale.

    Parameters
    ----------
    scale
        Real distance of two neighbouring codes; a float32 value, finite and positive.
    zero_point
        The code of zero.
    low, high
        The real interval that is represented without clipping, as the rounded zero point
        really gives it; it contains 0. Symmetric int8 has one code more below it, -128.
    format
        Name of the format; see `QuantFormat`.
    symmetric
        Whether the range is as wide to the left of zero as to the right.
    strategy
        Name of the method that chose the range.

    Raises
    ------
    CalibrationError
        If the scale is not finite and positive, the zero point no code of the format, or the
        range not finite or without 0.
    """

    scale: float
    zero_point: int
    low: float
    high: float
    format: str
    symmetric: bool
    strategy: str = "fixed"

    def __post_init__(self) -> None:
        format = QuantFormat(self.format)
        for field, kind in _KINDS.items():
            value = getattr(self, field)
            is_bool = isinstance(value, bool)  # which Python takes for an integer
            if is_bool != (kind is bool) or not isinstance(value, kind):
                name = kind.__name__ if isinstance(kind, type) else "a number"
                msg = f"{field} is {value!r}, but it must be {name}"
                raise CalibrationError(msg)
        if not (math.isfinite(self.low) and math.isfinite(self.high)):
            msg = f"the range [{self.low}, {self.high}] is not finite"
            raise CalibrationError(msg)
        if not self.low <= 0 <= self.high:
            msg = f"the range [{self.low}, {self.high}] does not contain 0"
            raise CalibrationError(msg)
        if format.is_float and not self.symmetric:
            QuantFormat(self.format, self.symmetric)  # refuses
        zero_point = max(-(1 << 31), min(self.zero_point, (1 << 31) - 1))
        _core.check_grid(self.format, self.scale, zero_point)

    @classmethod
    def from_range(
        cls,
        low: float,
        high: float,
        *,
        format: str | QuantFormat = "int8",
        symmetric: bool | None = None,
        power_of_two: bool | None = None,
        strategy: str = "fixed",
    ) -> QuantParams:
        """Return the parameters that represent the real interval [low, high].

        The scale is 1 for [0, 0], and never below the smallest normal float32.

        Parameters
        ----------
        low, high
            The real interval. For symmetric scaling only the larger magnitude counts; affine
            scaling widens it to contain 0.
        format, symmetric, power_of_two
            See `QuantFormat`; the scaling given here replaces the format's.
        strategy
            A name for what chose the interval.

        Raises
        ------
        CalibrationError
            If the format is not known, or the ends are not finite and in order.
        """
        format = QuantFormat.of(format, symmetric, power_of_two)
        scale, zero_point, low, high = _core.grid(format, low, high)
        return cls(
            scale, zero_point, low, high, format.name, format.symmetric, strategy
        )

    def quantize(self, values: Any) -> NDArray[Any]:
        """Return the codes of `values`, as ONNX QuantizeLinear computes them.

        saturate(round_half_even(x / scale) + zero_point) in float32, at the ends of the
        integer type; NaN becomes the lowest code. For floats x / scale is rounded to the
        format, half to even, and saturates at its largest value; NaN stays NaN where the
        format has it.

        Parameters
        ----------
        values
            float16, bfloat16, float32 or float64, any shape.

        Returns
        -------
        Array of the same shape and of the format's dtype: that of numpy or ml_dtypes where
        there is one (int4, float8_e4m3fn, ...), else the smallest integer that holds the codes.

        Raises
        ------
        TypeError
            If the values are not floats.
        """
        array = as_float32(values)
        codes = _core.quantize(array, self.format, self.scale, self.zero_point)
        return codes.view(QuantFormat(self.format).dtype)

    def dequantize(self, codes: Any) -> NDArray[np.float32]:
        """Return the real values of `codes`, as ONNX DequantizeLinear computes them.

        Parameters
        ----------
        codes
            Array of any shape, of the dtype that `quantize` returns, or of the standard integer
            dtype that stores it.

        Raises
        ------
        TypeError
            If the codes are of another type.
        """
        array = np.asarray(codes, order="C")
        format = QuantFormat(self.format)
        if array.dtype not in (format.dtype, format.storage):
            msg = f"codes are {array.dtype}, but this format has {format.dtype}"
            raise TypeError(msg)
        stored = array.view(format.storage)
        return _core.dequantize(stored, self.format, self.scale, self.zero_point)

    def fake_quantize(self, values: Any) -> NDArray[np.float32]:
        """Return `dequantize(quantize(values))`, without the codes between."""
        array = as_float32(values)
        return _core.fake_quantize(array, self.format, self.scale, self.zero_point)
