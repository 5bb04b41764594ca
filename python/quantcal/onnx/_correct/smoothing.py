"""SmoothQuant for ONNX: moves outliers of activations into the weights that read them.

The channels of a norm's output are divided by scales, and the rows of the weights that read
it are multiplied by them. The division is folded into the norm's own scale and bias. The
scales are those of equation 4 in Xiao et al., "SmoothQuant", 2023.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from quantcal import _core
from quantcal._core import CalibrationError
from quantcal._smoothquant import ALPHAS, expected_errors, smoothing_scale
from quantcal._text import shown
from quantcal.calibrator import Calibrator
from quantcal.formats import QuantFormat
from quantcal.onnx._correct.channels import scale_constant
from quantcal.onnx._correct.float_check import check_same_outputs
from quantcal.onnx._correct.float_copy import FloatCopy
from quantcal.onnx._correct.report import CorrectedNodes, Correction
from quantcal.onnx._correct.smoothing_groups import SourceGroup, find_groups
from quantcal.onnx._runtime.memory_groups import GroupedRun
from quantcal.onnx._runtime.session import Workspace
from quantcal.strategies.minmax import MinMax

if TYPE_CHECKING:
    from quantcal.onnx._graph.inputs import Feed
    from quantcal.onnx._model.model import LoadedModel, Model

# The search reads one histogram for each channel. With 5 bits one takes a few kilobytes.
_MANTISSA_BITS = 5
_MAX_MEMORY = 1 << 28  # bytes of the tensors of one sample that are alive together


def smooth(
    model: Model | LoadedModel,
    samples: Iterable[Feed],
    *,
    alpha: float | None = None,
    format: str = "uint8",
    weights: str = "int8",
) -> tuple[LoadedModel, Correction]:
    """Return a copy of a model with smoothed activations, and what was changed.

    The outputs of both models are compared on the first samples.

    Parameters
    ----------
    model : path, bytes, ModelProto or LoadedModel
    samples : iterable of feed
        Read twice: to observe the channels, and to verify the outputs.
    alpha : float, optional
        The exponent, 0 to 1. None searches the exponent of each group with the minimum
        expected squared error, as :func:`quantcal.torch.smoothquant` does.
    format, weights : str
        The formats that the search assumes.

    Raises
    ------
    CalibrationError
        When alpha is out of range, there are no samples, or the float outputs differ by
        more than rounding.
    """
    if alpha is not None and not 0 <= alpha <= 1:
        raise CalibrationError(
            f"alpha is {shown(alpha)}, but it must be from 0 to 1, or None to search."
        )
    copy = FloatCopy(model)
    groups, skipped = find_groups(copy)
    if not groups:
        return copy.given, Correction("smooth", (), skipped)
    seen = _observe(copy.loaded, groups, samples)
    formats = QuantFormat.of(format, None, None), QuantFormat.of(weights, None, None)
    done = []
    for group in groups:
        scale = _scale(group, copy, seen.stats(group.tensor), alpha, formats)
        _apply(group, scale, copy)
        largest = float(np.maximum(scale, 1 / scale).max(initial=1.0))
        done.append(CorrectedNodes(group.names, largest))
    changed = copy.finish()
    check_same_outputs(copy.given, changed, samples, "smooth")
    return changed, Correction("smooth", tuple(done), skipped)


def _observe(
    loaded: LoadedModel, groups: list[SourceGroup], samples: Iterable[Feed]
) -> Calibrator:
    """Record the tensors of all groups by channel."""
    seen = Calibrator(mantissa_bits=_MANTISSA_BITS)
    types = {group.tensor: "tensor(float)" for group in groups}
    count = 0
    with Workspace(loaded) as work:
        grouped = GroupedRun(work, types, _MAX_MEMORY)
        for count, feed in enumerate(samples, start=1):
            where = f"sample {count - 1}"
            for arrays in grouped(feed, where):
                for name in list(arrays):
                    seen.observe(name, arrays.pop(name), axis=-1)
    if not count:
        raise CalibrationError(
            'There are no samples for the correction "smooth", which needs the largest '
            "activation of each channel. Give samples that can be read again."
        )
    return seen


def _scale(
    group: SourceGroup,
    copy: FloatCopy,
    stats: Any,
    alpha: float | None,
    formats: tuple[QuantFormat, QuantFormat],
) -> NDArray[np.float32]:
    """Choose the divisor of each channel."""
    assert isinstance(stats, _core.ChannelStats)
    act_max = np.fmax(np.abs(stats.min), np.abs(stats.max)).astype(np.float64)
    act_max = np.nan_to_num(act_max, nan=0.0)
    matrices = [copy.weights.array(node.input[1]) for node in group.readers]
    stacked = np.concatenate(
        [
            array if view.rows_first else array.T
            for array, view in zip(matrices, group.views, strict=True)
        ]
    )
    weight_max = np.abs(stacked).max(axis=0).astype(np.float64)
    if alpha is not None:
        return smoothing_scale(act_max, weight_max, alpha)
    scales = np.stack([smoothing_scale(act_max, weight_max, each) for each in ALPHAS])
    errors = expected_errors(
        stats, np.ascontiguousarray(stacked), scales, MinMax(), *formats
    )
    best: NDArray[np.float32] = scales[int(errors.argmin())]
    return best


def _apply(group: SourceGroup, scale: NDArray[np.float32], copy: FloatCopy) -> None:
    """Divide the channels of a group, and multiply the rows of the weights."""
    weights, divisor = copy.weights, scale.astype(np.float64)
    for node, index in group.vectors:
        array = scale_constant(weights.array(node.input[index]), 1 / divisor, -1)
        node.input[index] = weights.put(node.input[index], array)
    for node, view in zip(group.readers, group.views, strict=True):
        array = weights.array(node.input[1])
        scaled = view.scaled(array, np.ones(view.rows), divisor)
        node.input[1] = weights.put(node.input[1], scaled)
