"""`BlockTensor`: the codes and scales of an array in a block format."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from quantcal import _core
from quantcal._core import CalibrationError
from quantcal._notebook import Shown

if TYPE_CHECKING:
    from quantcal.blocks.base import BlockFormat


@dataclass(frozen=True, eq=False)
class BlockTensor(Shown):
    """An array as codes of elements and of scales.

    Parameters
    ----------
    codes
        uint8, of the array's shape, with one code per byte. A 4-bit code is in the low 4
        bits, as in ml_dtypes, so `codes.view(ml_dtypes.float4_e2m1fn)` shows the elements.
        `packed` gives two codes per byte.
    scales
        uint8, one code per block. The shape is that of `codes`, with a last axis of
        ceil(n / block_size). View them as `format.scale_format` of ml_dtypes.
    format
        The block format; NVFP4 with its global scale.

    Raises
    ------
    TypeError
        If codes or scales are not arrays of uint8.
    CalibrationError
        If their shapes do not match, or an NVFP4 has no global scale.
    """

    codes: NDArray[np.uint8]
    scales: NDArray[np.uint8]
    format: BlockFormat

    def __post_init__(self) -> None:
        for name in ("codes", "scales"):
            array = getattr(self, name)
            if not isinstance(array, np.ndarray) or array.dtype != np.uint8:
                kind = getattr(array, "dtype", type(array).__name__)
                msg = f"{name} are {kind}, but they must be a numpy array of uint8"
                raise TypeError(msg)
        expected = self.format.scales_shape(self.codes.shape)
        if self.scales.shape != expected:
            msg = (
                f"the scales have shape {self.scales.shape}, but codes of shape "
                f"{self.codes.shape} in {self.format} need {expected}"
            )
            raise CalibrationError(msg)
        if self.format.scale_format == "float8_e4m3fn" and self.global_scale is None:
            msg = (
                f"{self.format} has no global_scale; give one: NVFP4(global_scale=...)"
            )
            raise CalibrationError(msg)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the array."""
        return self.codes.shape

    @property
    def global_scale(self) -> float | None:
        """The float32 factor of all scales of NVFP4; None in MX."""
        return self.format.global_scale

    @property
    def nbytes(self) -> int:
        """Size in bytes of the packed codes, the scales and the global scale."""
        extra = 0 if self.global_scale is None else 4
        size: int = self.codes.size
        return -(-size * self.format.bits // 8) + int(self.scales.size) + extra

    def packed(self) -> NDArray[np.uint8]:
        """Return the codes as ONNX stores them: row-major, in one dimension.

        Two 4-bit codes share a byte, with the first in the low bits. A single last code is
        padded with zero bits. 8-bit codes are only flattened.
        """
        codes: NDArray[np.uint8] = self.codes.flatten()
        if self.format.bits == 8:
            return codes
        low, high = codes[0::2] & 15, codes[1::2] & 15
        packed: NDArray[np.uint8] = low.copy()
        packed[: high.size] |= high << 4
        return packed

    def dequantize(self) -> NDArray[np.float32]:
        """Return the real values, element times scale, as float32 of the same shape. O(n).

        All values of a block with a NaN scale are NaN.
        """
        return _core.block_dequantize(
            np.require(self.codes, requirements=["C", "A"]),
            np.require(self.scales, requirements=["C", "A"]),
            str(self.format),
            self.global_scale,
        )
