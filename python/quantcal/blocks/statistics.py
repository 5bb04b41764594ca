"""`BlockStatistics`: the effect of a block format on the data, collected in one pass."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import ml_dtypes
import numpy as np

from quantcal._core import CalibrationError, Histogram
from quantcal._notebook import Shown

if TYPE_CHECKING:
    from quantcal.blocks.base import BlockFormat


@dataclass(frozen=True)
class BlockStatistics(Shown):
    """Counts over the blocks of one or more arrays; `+` and `sum` merge them exactly.

    The statistics do not depend on the order of the data, the number of threads, or a split of
    the data between whole blocks.

    Parameters
    ----------
    format
        The block format. For NVFP4 without a global scale only `block_maxima` and `elements`
        are known, and the other fields are None.
    block_maxima
        Histogram of the largest magnitude of each block. `count` is the number of blocks,
        `nan` and `posinf` are the numbers of blocks with a NaN or an infinity.
    elements
        Number of all elements.
    scale_counts
        Number of blocks by the code of their scale, without codes that did not occur.
    saturated
        Number of elements that saturation moves further than rounding would: those more than
        half a step beyond the largest. Blocks with a NaN do not count.
    rounded_to_zero
        Number of elements that become zero, including exact zeros. Blocks with a NaN do not
        count.

    Examples
    --------
    >>> import numpy as np, quantcal as qc
    >>> format = qc.blocks.MXFP4()
    >>> batches = np.random.default_rng(0).normal(size=(8, 64, 1024)).astype(np.float32)
    >>> stats = sum(format.statistics(batch) for batch in batches)
    >>> stats.blocks, stats.scale_exponents()
    (16384, {-2: 3678, -1: 12673, 0: 33})
    >>> round(stats.saturated_share, 4), round(stats.rounded_to_zero_share, 4)
    (0.0087, 0.0884)
    """

    format: BlockFormat
    block_maxima: Histogram
    elements: int
    scale_counts: dict[int, int] | None
    saturated: int | None
    rounded_to_zero: int | None

    @property
    def blocks(self) -> int:
        """Number of blocks."""
        return self.block_maxima.count

    @property
    def saturated_share(self) -> float | None:
        """Share of all elements that saturate; 0 without elements."""
        return self._share(self.saturated)

    @property
    def rounded_to_zero_share(self) -> float | None:
        """Share of all elements that become zero; 0 without elements."""
        return self._share(self.rounded_to_zero)

    def scale_exponents(self) -> dict[int, int] | None:
        """Return the number of blocks by floor(log2(scale)), in rising order.

        NaN scales do not count, and the scale does not include NVFP4's global scale.
        """
        if self.scale_counts is None:
            return None
        found: dict[int, int] = {}
        for code, count in self.scale_counts.items():
            exponent = self._exponent(code)
            if exponent is not None:
                found[exponent] = found.get(exponent, 0) + count
        return dict(sorted(found.items()))

    def _exponent(self, code: int) -> int | None:
        if self.format.scale_format == "float8_e8m0fnu":
            return None if code == 255 else code - 127
        scale = float(np.uint8(code).view(ml_dtypes.float8_e4m3fn))
        return None if math.isnan(scale) else math.frexp(scale)[1] - 1

    def _share(self, count: int | None) -> float | None:
        return None if count is None else count / max(self.elements, 1)

    def __add__(self, other: BlockStatistics, /) -> BlockStatistics:
        """Return the statistics of the data of both.

        Raises
        ------
        CalibrationError
            If the formats differ.
        """
        if not isinstance(other, BlockStatistics):
            return NotImplemented
        if self.format != other.format:
            msg = (
                f"statistics of {self.format!r} and {other.format!r} cannot be merged; "
                "merge their `block_maxima` if the block sizes are equal"
            )
            raise CalibrationError(msg)
        return BlockStatistics(
            self.format,
            self.block_maxima + other.block_maxima,
            self.elements + other.elements,
            _added(self.scale_counts, other.scale_counts),
            None if self.saturated is None else self.saturated + (other.saturated or 0),
            None
            if self.rounded_to_zero is None
            else self.rounded_to_zero + (other.rounded_to_zero or 0),
        )

    def __radd__(self, other: int, /) -> BlockStatistics:
        return self if other == 0 else NotImplemented


def _added(
    first: dict[int, int] | None, second: dict[int, int] | None
) -> dict[int, int] | None:
    if first is None or second is None:
        return None
    codes = sorted({*first, *second})
    return {code: first.get(code, 0) + second.get(code, 0) for code in codes}
