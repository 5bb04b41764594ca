"""The channels of a layer's weights: their ranges, and scaling them.

Rows make the channels of the output, columns read those of the input. A grouped Conv has
columns for each group; a depthwise one has one column and one row for each channel.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from quantcal.onnx._graph.attributes import attribute
from quantcal.onnx._graph.graph import operator_of

if TYPE_CHECKING:
    import onnx

CONVS = frozenset({"Conv", "ConvTranspose"})
LAYERS = CONVS | {"Gemm", "MatMul"}

Vector = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class ChannelView:
    """How the axes of a weight are ordered into [groups, rows, columns, kernel].

    Attributes
    ----------
    shape : tuple of int
        The weight's own shape.
    groups : int
    rows_first : bool
        Whether rows come before columns in the weight.
    """

    shape: tuple[int, ...]
    groups: int
    rows_first: bool

    @staticmethod
    def of(node: onnx.NodeProto, shape: tuple[int, ...]) -> ChannelView | None:
        """Return the view of a layer's weight; None when it has no such channels."""
        operator = operator_of(node)
        groups = int(attribute(node, "group", 1)) if operator in CONVS else 1
        if len(shape) < (3 if operator in CONVS else 2) or 0 in shape:
            return None
        if operator not in CONVS and len(shape) != 2:
            return None
        if operator == "Gemm":
            if attribute(node, "transA", 0):
                return None
            return ChannelView(shape, 1, bool(attribute(node, "transB", 0)))
        return ChannelView(shape, groups, operator == "Conv")

    @property
    def is_split(self) -> bool:
        """Whether rows of several groups share an axis, as in a grouped ConvTranspose."""
        return self.groups > 1 and not self.rows_first

    @property
    def rows(self) -> int:
        """The number of channels of the output."""
        return self.shape[0] if self.rows_first else self.shape[1] * self.groups

    @property
    def columns(self) -> int:
        """The number of channels of the input."""
        return self.shape[1] * self.groups if self.rows_first else self.shape[0]

    def _grouped(self, array: NDArray[Any]) -> NDArray[Any]:
        """Return the weight as [groups, rows or columns, columns or rows, kernel]."""
        first, second = self.shape[:2]
        return array.reshape(self.groups, first // self.groups, second, -1)

    def magnitudes(self, array: NDArray[Any]) -> Vector:
        """Return the largest magnitude of each row and column: [groups, rows, columns]."""
        largest: Vector = np.abs(self._grouped(array)).max(axis=3).astype(np.float64)
        return largest if self.rows_first else largest.transpose(0, 2, 1)

    def scaled(self, array: NDArray[Any], rows: Vector, columns: Vector) -> Vector:
        """Return the weight with its rows and columns multiplied, in double precision."""
        by_row = rows.reshape(self.groups, -1, 1)
        by_column = columns.reshape(self.groups, 1, -1)
        factor = by_row * by_column
        if not self.rows_first:
            factor = factor.transpose(0, 2, 1)
        wide = self._grouped(array.astype(np.float64)) * factor[..., None]
        return wide.reshape(self.shape)


def scale_constant(array: NDArray[Any], factor: Vector, axis: int) -> Vector:
    """Multiply a constant that is broadcast to a tensor by a factor for each channel.

    Parameters
    ----------
    array : array
    factor : array
        One value for each channel.
    axis : int
        The axis of the channels, negative: from the end.
    """
    shape = (-1,) + (1,) * (-axis - 1)
    scaled: Vector = array.astype(np.float64) * factor.reshape(shape)
    return scaled


def is_by_channel(shape: tuple[int, ...], channels: int, axis: int) -> bool:
    """Whether a constant has one value, or one for each channel and nothing else."""
    if len(shape) < -axis:
        return all(size == 1 for size in shape)
    place = len(shape) + axis
    others = [size for index, size in enumerate(shape) if index != place]
    return all(size == 1 for size in others) and shape[place] in (1, channels)
