"""The base class of all block formats."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from quantcal import _core
from quantcal._arrays import as_float32
from quantcal._core import CalibrationError
from quantcal.blocks.statistics import BlockStatistics
from quantcal.blocks.tensor import BlockTensor

_NO_AXIS = "a single number has no axis for blocks; give it one with .reshape(1)"


class BlockFormat:
    """The methods of all block formats. Blocks lie along the last axis."""

    element: str
    """Format of the elements, named as in ONNX and ml_dtypes."""
    block_size: ClassVar[int]
    """Number of elements that share a scale."""
    scale_format: ClassVar[str]
    """Format of the scales."""
    global_scale: float | None
    """Factor of all scales; None in MX."""

    @property
    def bits(self) -> int:
        """Number of bits of an element."""
        return 4 if self.element == "float4_e2m1fn" else 8

    def quantize(self, values: Any) -> BlockTensor:
        """Return the codes and scales of an array. O(n).

        Parameters
        ----------
        values
            An array of float16, bfloat16, float32 or float64 (which is rounded to float32)
            with at least one axis; numpy, DLPack or `__array__`. The last axis may have any
            length, and its last block is padded with zeros.

        Raises
        ------
        TypeError
            If the values are not floats.
        CalibrationError
            If the array has no axis.
        """
        array = with_axis(values)
        format = self._for(array)
        codes, scales = _core.block_quantize(array, str(format), format.global_scale)
        return BlockTensor(codes, scales, format)

    def dequantize(self, tensor: BlockTensor) -> NDArray[np.float32]:
        """Return the real values of a tensor of this format, with the tensor's global scale.

        Raises
        ------
        TypeError
            If it is not a `BlockTensor`.
        CalibrationError
            If it has another format.
        """
        if not isinstance(tensor, BlockTensor):
            msg = f"{type(tensor).__name__} is not a BlockTensor, which `quantize` returns"
            raise TypeError(msg)
        if str(tensor.format) != str(self):
            msg = f"the tensor is {tensor.format}, not {self}; use tensor.dequantize()"
            raise CalibrationError(msg)
        return tensor.dequantize()

    def fake_quantize(self, values: Any) -> NDArray[np.float32]:
        """Return `dequantize(quantize(values))`, without storing codes.

        Raises
        ------
        TypeError
            If the values are not floats.
        CalibrationError
            If the array has no axis.
        """
        array = with_axis(values)
        format = self._for(array)
        return _core.block_fake_quantize(array, str(format), format.global_scale)

    def statistics(self, values: Any) -> BlockStatistics:
        """Return the effect of this format on an array, in counts that can be added. O(n).

        Parameters
        ----------
        values
            As for `quantize`. Without a global scale, NVFP4 counts only the block maxima.

        Raises
        ------
        TypeError
            If the values are not floats.
        CalibrationError
            If the array has no axis.
        """
        array = with_axis(values)
        maxima, counts, elements, saturated, zeroed = _core.block_statistics(
            array, str(self), self.global_scale
        )
        found = {int(code): int(counts[code]) for code in np.flatnonzero(counts)}
        return BlockStatistics(self, maxima, elements, found, saturated, zeroed)

    def scales_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Return the shape of the scales for an array of this shape.

        Raises
        ------
        CalibrationError
            If the array has no axis.
        """
        if not shape:
            raise CalibrationError(_NO_AXIS)
        return (*shape[:-1], -(-shape[-1] // self.block_size))

    def _for(self, array: NDArray[np.float32]) -> BlockFormat:
        """Return this format with a global scale for the array, if it needs one."""
        return self


def with_axis(values: Any) -> NDArray[np.float32]:
    """Return an array as float32.

    Raises
    ------
    TypeError
        If the values are not floats.
    CalibrationError
        If the array has no axis.
    """
    array = as_float32(values)
    if array.ndim == 0:
        raise CalibrationError(_NO_AXIS)
    return array
