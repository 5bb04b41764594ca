"""`QuantParams`: scale, zero point and range of one tensor, and what they do to arrays."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from quantcal import _core
from quantcal._arrays import as_float32, check_out
from quantcal._core import CalibrationError
from quantcal._format_names import format_name
from quantcal._param_checks import (
    DTYPES,
    as_channel_array,
    as_int32,
    as_number,
    check_float,
    check_kind,
    range_fault,
)
from quantcal.formats import FormatLike, QuantFormat


@dataclass(frozen=True, eq=False, repr=False)
class QuantParams:
    """Scale, zero point and range of one tensor: real = (code - zero_point) * scale.

    Of a tensor by channel, scale, zero_point, low and high are read-only arrays, one element a
    channel (float32, int32, float64, float64), and `axis` is set. Equal when all fields are.

    Parameters
    ----------
    scale
        Real distance of two neighboring codes; a float32 value, finite and positive.
    zero_point
        The code of zero.
    low, high
        The real interval that is represented without clipping, as the rounded zero point
        gives it; it contains 0. Symmetric int8 has one code more below it, -128.
    format
        Name of the format; see `QuantFormat`.
    symmetric
        Whether the range is as wide to the left of zero as to the right.
    strategy
        Name of the strategy that chose the range.
    axis
        The axis of the channels; negative ones count from the end. None, the default, for one
        range of the whole tensor.

    Raises
    ------
    CalibrationError
        If the scale is not finite and positive, the zero point is not a code of the format, or
        the range is not finite or lacks 0. By channel, the message names the channel.
    """

    scale: float | NDArray[np.float32]
    zero_point: int | NDArray[np.int32]
    low: float | NDArray[np.float64]
    high: float | NDArray[np.float64]
    format: str
    symmetric: bool
    strategy: str = "fixed"
    axis: int | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "format", format_name(self.format) or self.format)
        check_kind("format", self.format, str)
        format = QuantFormat(self.format)
        if isinstance(self.symmetric, np.bool_):
            object.__setattr__(self, "symmetric", bool(self.symmetric))
        check_kind("symmetric", self.symmetric, bool)
        check_kind("strategy", self.strategy, str)
        if self.axis is None:
            self._check_whole()
        else:
            object.__setattr__(self, "axis", as_int32("axis", self.axis))
            self._check_channels()
        if format.is_float and not self.symmetric:
            QuantFormat(self.format, self.symmetric)  # refuses

    def _check_whole(self) -> None:
        for field in ("scale", "low", "high"):
            object.__setattr__(self, field, as_number(field, getattr(self, field)))
        zero_point = as_int32("zero_point", self.zero_point)
        object.__setattr__(self, "zero_point", zero_point)
        fault = range_fault(float(self.low), float(self.high))
        if fault:
            raise CalibrationError(fault)
        _core.check_grid(self.format, float(self.scale), zero_point)

    def _check_channels(self) -> None:
        for field in DTYPES:
            object.__setattr__(
                self, field, as_channel_array(field, getattr(self, field))
            )
        lengths = {field: len(getattr(self, field)) for field in DTYPES}
        if len(set(lengths.values())) > 1 or not lengths["scale"]:
            found = ", ".join(f"{n} of {field}" for field, n in lengths.items())
            msg = f"there must be one of each for every channel, but there are {found}"
            raise CalibrationError(msg)
        low, high = np.asarray(self.low), np.asarray(self.high)
        sound = np.isfinite(low) & np.isfinite(high) & (low <= 0) & (high >= 0)
        if not sound.all():
            k = int(np.argmin(sound))
            msg = f"channel {k}: {range_fault(float(low[k]), float(high[k]))}"
            raise CalibrationError(msg)
        scale, zero_point = np.asarray(self.scale), np.asarray(self.zero_point)
        _core.check_channel_grids(self.format, scale, zero_point)

    @classmethod
    def from_range(
        cls,
        low: float | ArrayLike,
        high: float | ArrayLike,
        *,
        format: FormatLike = "int8",
        symmetric: bool | None = None,
        power_of_two: bool | None = None,
        strategy: str = "fixed",
        axis: int | None = None,
    ) -> QuantParams:
        """Return the parameters that represent the real interval [low, high].

        The scale is 1 for [0, 0], and never below the smallest normal float32.

        Parameters
        ----------
        low, high
            The real interval. Symmetric scaling takes the larger magnitude, and affine scaling
            widens it to contain 0. With an axis, one of each for every channel.
        format, symmetric, power_of_two
            See `QuantFormat`; the scaling given here replaces the format's.
        strategy
            A name for what chose the interval.
        axis
            The axis of the channels; None for one range of the whole tensor.

        Raises
        ------
        CalibrationError
            If the format is not known, or the ends are not finite and in order.
        """
        format = QuantFormat.of(format, symmetric, power_of_two)
        grid: tuple[Any, Any, Any, Any]
        if axis is None:
            check_float("low", low)
            check_float("high", high)
            grid = _core.grid(format, low, high)  # type: ignore[arg-type]
        else:
            lows, highs = as_channel_array("low", low), as_channel_array("high", high)
            if len(lows) != len(highs):
                msg = f"there are {len(lows)} lower and {len(highs)} upper ends"
                raise CalibrationError(msg)
            grid = _core.channel_grids(format, lows, highs)
        scale, zero_point, low, high = grid
        scaling = (format.name, format.symmetric)
        return cls(scale, zero_point, low, high, *scaling, strategy, axis)

    def quantize(self, values: Any, *, out: NDArray[Any] | None = None) -> NDArray[Any]:
        """Return the codes of `values`, as ONNX QuantizeLinear computes them.

        For integers: saturate(round_half_even(x / scale) + zero_point) in float32, where NaN
        becomes the lowest code. For floats, x / scale is rounded to the format, half to even,
        and saturates at its largest value. NaN stays NaN where the format has it.

        Parameters
        ----------
        values
            float16, bfloat16, float32 or float64, any shape.
        out
            Array that the result is written to and that is returned. It must be C-contiguous,
            writeable, of the result's shape and dtype, and share no memory with the input.
            None, the default, for a new one; most of its time goes into getting the memory.

        Returns
        -------
        Array of the same shape and of the format's dtype, which numpy or ml_dtypes has (int4,
        float8_e4m3fn, …), else the smallest integer type that holds the codes.

        Raises
        ------
        TypeError
            If the values are not floats.
        CalibrationError
            If `out` is not such an array.
        """
        array = as_float32(values)
        format = QuantFormat(self.format)
        quantize = _core.quantize, _core.quantize_channels
        if out is None:
            codes: NDArray[Any] = self._apply(quantize, array)
            return codes.view(format.dtype)
        check_out(out, array, format.dtype)
        self._apply(quantize, array, out.view(format.storage))
        return out

    def dequantize(
        self, codes: Any, *, out: NDArray[np.float32] | None = None
    ) -> NDArray[np.float32]:
        """Return the real values of `codes`, as ONNX DequantizeLinear computes them.

        Parameters
        ----------
        codes
            Array of any shape, of the dtype that `quantize` returns, or of the standard integer
            dtype that stores it.
        out
            Array that the result is written to and that is returned. It must be C-contiguous,
            writeable, of the result's shape and dtype, and share no memory with the input.
            None, the default, for a new one; most of its time goes into getting the memory.

        Raises
        ------
        TypeError
            If the codes are of another type.
        CalibrationError
            If `out` is not such an array.
        """
        try:
            array = np.asarray(codes, order="C")
        except ValueError as error:  # lists of different lengths
            msg = f"{type(codes).__name__} cannot be read as an array: {error}"
            raise TypeError(msg) from error
        format = QuantFormat(self.format)
        if array.dtype not in (format.dtype, format.storage):
            msg = f"codes are {array.dtype}, but this format has {format.dtype}"
            raise TypeError(msg)
        stored = array.view(format.storage)
        if out is not None:
            check_out(out, array, np.dtype(np.float32))
        dequantize = _core.dequantize, _core.dequantize_channels
        result: NDArray[np.float32] = self._apply(dequantize, stored, out)
        return result

    def fake_quantize(self, values: Any) -> NDArray[np.float32]:
        """Return `dequantize(quantize(values))`, without the codes between."""
        fake_quantize = _core.fake_quantize, _core.fake_quantize_channels
        result: NDArray[np.float32] = self._apply(fake_quantize, as_float32(values))
        return result

    def _apply(
        self,
        functions: tuple[Callable[..., Any], Callable[..., Any]],
        array: NDArray[Any],
        *out: NDArray[Any] | None,
    ) -> Any:
        """Call the first function for a whole tensor, the second one by channel."""
        whole, by_channel = functions
        grid = (self.format, self.scale, self.zero_point)
        if self.axis is None:
            return whole(array, *grid, *out)
        return by_channel(array, *grid, self.axis, *out)

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as plain data, arrays as lists; without the axis if it is None.

        `QuantParams(**params.to_dict())` is equal to `params`.
        """
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        if self.axis is None:
            del values["axis"]
        else:
            values |= {field: values[field].tolist() for field in DTYPES}
        return values

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, QuantParams):
            return NotImplemented
        return self._key() == other._key()

    def __hash__(self) -> int:
        return hash(self._key())

    def _key(self) -> tuple[Any, ...]:
        values = {"axis": None, **self.to_dict()}.values()
        return tuple(tuple(v) if isinstance(v, list) else v for v in values)

    def __reduce__(self) -> tuple[Any, ...]:
        return QuantParams, tuple(getattr(self, field.name) for field in fields(self))

    def _repr_html_(self) -> str:
        from quantcal.report import html

        values = {field.name: getattr(self, field.name) for field in fields(self)}
        if self.axis is None:
            del values["axis"]
        return html.record("QuantParams", values)

    def __repr__(self) -> str:
        shown = {field.name: repr(getattr(self, field.name)) for field in fields(self)}
        if self.axis is None:
            del shown["axis"]
        else:
            for field in DTYPES:
                values = getattr(self, field)
                shown[field] = f"[{values.min():g} … {values.max():g}]"
            shown["channels"] = str(len(np.asarray(self.scale)))
        return f"QuantParams({', '.join(f'{k}={v}' for k, v in shown.items())})"
