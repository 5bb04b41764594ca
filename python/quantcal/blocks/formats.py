"""The block formats: `MXFP8`, `MXFP4` and `NVFP4`."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from quantcal import _core
from quantcal._core import CalibrationError, Histogram
from quantcal._format_names import format_name
from quantcal._text import shown
from quantcal.blocks.base import BlockFormat, with_axis
from quantcal.blocks.statistics import BlockStatistics
from quantcal.formats import QuantFormat
from quantcal.strategies import Strategy, resolve

# The largest element of NVFP4 times its largest block scale.
_LARGEST = 6.0 * 448.0
_TINY = float(np.finfo(np.float32).tiny)
# The float32 below the quotient, so that the product does not round to infinity.
_MAX_GLOBAL = float(
    np.nextafter(np.float32(np.finfo(np.float32).max / _LARGEST), np.float32(0))
)


@dataclass(frozen=True)
class MXFP8(BlockFormat):
    """8-bit floats in blocks of 32 that share a power of two.

    scale = 2^(floor(log2(amax)) - e), limited to 2^-127 ... 2^127. e is the exponent of the
    largest element: 8 for e4m3fn, 15 for e5m2. Elements are x / scale, rounded half to even.
    They saturate, since amax / scale is below 512 but the largest e4m3fn is 448.

    A block of zeros has the scale 2^-127. A block with a NaN has a NaN scale, and all its
    values become NaN. A block with an infinity has the scale 2^127. The infinity is restored,
    since the product exceeds float32, and much smaller values become zero.

    Parameters
    ----------
    element
        "float8_e4m3fn" has three mantissa bits. "float8_e5m2" has two, and a range that a
        block hardly needs. SQNR on N(0, 1): 30.6 and 25.4 dB.

    Raises
    ------
    CalibrationError
        If the element has another format.

    Examples
    --------
    >>> import numpy as np, quantcal as qc
    >>> tensor = qc.blocks.MXFP8().quantize(np.float32([[1.0, 0.3, -500.0]]))
    >>> tensor.scales  # 2^(127 - 127): floor(log2(500)) is 8
    array([[127]], dtype=uint8)
    >>> tensor.dequantize()  # -500 saturates
    array([[ 1.000e+00,  3.125e-01, -4.480e+02]], dtype=float32)
    """

    element: str = "float8_e4m3fn"
    global_scale: None = field(default=None, init=False, repr=False)
    block_size: ClassVar[int] = 32
    scale_format: ClassVar[str] = "float8_e8m0fnu"

    def __post_init__(self) -> None:
        known = ("float8_e4m3fn", "float8_e5m2")
        element = format_name(self.element)
        if element not in known:
            msg = (
                f"element is {shown(self.element)}, but it must be {' or '.join(known)}"
            )
            raise CalibrationError(msg)
        object.__setattr__(self, "element", element)

    def __str__(self) -> str:
        return self.element.replace("float8", "mxfp8")


@dataclass(frozen=True)
class MXFP4(BlockFormat):
    """4-bit floats (0, 0.5, 1, 1.5, 2, 3, 4, 6) in blocks of 32 that share a power of two.

    scale = 2^(floor(log2(amax)) - 2); the rest is as in `MXFP8`. amax / scale is between 4
    and 8, so values above 7 saturate: 0.9 % of the elements on N(0, 1). SQNR on N(0, 1):
    18.8 dB.

    Examples
    --------
    >>> import numpy as np, quantcal as qc
    >>> tensor = qc.blocks.MXFP4().quantize(np.float32([1.0, 0.3, -7.0]))
    >>> tensor.codes, tensor.packed()
    (array([ 2,  1, 15], dtype=uint8), array([18, 15], dtype=uint8))
    >>> tensor.dequantize()
    array([ 1. ,  0.5, -6. ], dtype=float32)
    """

    element: str = field(default="float4_e2m1fn", init=False, repr=False)
    global_scale: None = field(default=None, init=False, repr=False)
    block_size: ClassVar[int] = 32
    scale_format: ClassVar[str] = "float8_e8m0fnu"

    def __str__(self) -> str:
        return "mxfp4"


@dataclass(frozen=True)
class NVFP4(BlockFormat):
    """4-bit floats in blocks of 16 that share an 8-bit float, and one float32 per tensor.

    block scale = amax / 6 / global_scale, rounded to float8_e4m3fn and limited to
    2^-9 ... 448, so it is never zero. Elements are x / (block scale * global_scale) in
    float32, rounded half to even, and saturate. SQNR on N(0, 1): 20.4 dB.

    A block with a NaN has a NaN scale, and all its values become NaN. An infinity becomes the
    largest value, 6 * 448 * global_scale, and the rest of its block is scaled accordingly.

    Parameters
    ----------
    global_scale
        A float32 from 1.2e-38 to 1.26e35. None computes it for each quantized array, as
        `calibrate` with "minmax" does: the largest magnitude over 6 * 448, so that the
        largest block scale is 448. Blocks with NaN or infinities are ignored.

    Raises
    ------
    CalibrationError
        If the global scale is out of range.

    Examples
    --------
    >>> import numpy as np, quantcal as qc
    >>> x = np.random.default_rng(0).normal(size=(64, 1024)).astype(np.float32)
    >>> seen = sum(qc.blocks.NVFP4().statistics(batch) for batch in x.reshape(4, 16, 1024))
    >>> format = qc.blocks.NVFP4.calibrate(seen.block_maxima, "percentile_99.9")
    >>> tensor = format.quantize(x)
    >>> tensor.shape, tensor.scales.shape, tensor.nbytes
    ((64, 1024), (64, 64), 36868)
    """

    global_scale: float | None = None
    element: str = field(default="float4_e2m1fn", init=False, repr=False)
    block_size: ClassVar[int] = 16
    scale_format: ClassVar[str] = "float8_e4m3fn"

    def __post_init__(self) -> None:
        scale = self.global_scale
        if scale is None:
            return
        if isinstance(scale, bool) or not isinstance(scale, (float, int, np.floating)):
            msg = f"global_scale is {shown(scale)}, but it must be a number or None"
            raise CalibrationError(msg)
        try:
            scale = float(scale)
        except OverflowError:
            scale = math.inf
        _core.block_maxima(np.empty(0, np.float32), str(self), scale)
        # The value is stored as the engine uses it, so equal formats give equal results.
        object.__setattr__(self, "global_scale", float(np.float32(scale)))

    @classmethod
    def calibrate(
        cls,
        block_maxima: Histogram,
        strategy: str | Strategy = "minmax",
        **options: Any,
    ) -> NVFP4:
        """Return the format whose largest block scale represents the end of a range.

        Parameters
        ----------
        block_maxima
            Largest magnitudes of blocks of 16, as `statistics` collects them.
        strategy
            A name such as "percentile_99.9", or an object. It chooses a symmetric range of
            the maxima for float8_e4m3fn, the format of the scales. The global scale is the
            end of that range over 6 * 448. Since block scales are floats, clipping improves
            only blocks whose maximum is more than 28672 times below the end of the range.
        options
            Options of a named strategy.

        Raises
        ------
        CalibrationError
            If the strategy or an option is unknown, or its range is not finite.
        """
        chosen = resolve(strategy, **options)
        low, high = chosen.range(block_maxima, QuantFormat(cls.scale_format))
        if not (math.isfinite(low) and math.isfinite(high)):
            msg = f"{chosen} chose the range [{low}, {high}], which is not finite"
            raise CalibrationError(msg)
        end = max(abs(low), abs(high))
        if end == 0:
            return cls(1.0)
        return cls(min(max(end / _LARGEST, _TINY), _MAX_GLOBAL))

    def statistics(self, values: Any) -> BlockStatistics:
        """Return the effect of this format on an array; see `BlockFormat.statistics`."""
        if self.global_scale is not None:
            return super().statistics(values)
        array = with_axis(values)
        maxima = _core.block_maxima(array, str(self), 1.0)
        return BlockStatistics(self, maxima, int(array.size), None, None, None)

    def _for(self, array: NDArray[np.float32]) -> BlockFormat:
        if self.global_scale is not None:
            return self
        return self.calibrate(_core.block_maxima(array, str(self), 1.0))

    def __str__(self) -> str:
        return "nvfp4"
