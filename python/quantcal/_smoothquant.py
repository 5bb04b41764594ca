"""The scales of SmoothQuant, and the error that they leave, from histograms alone.

The scales are those of equation 4 in Xiao et al., "SmoothQuant", 2023:
s_c = max|x_c|^alpha / max|W_c|^(1 - alpha). PyTorch and ONNX models share this module.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from quantcal import _core
from quantcal._core import CalibrationError
from quantcal.formats import QuantFormat
from quantcal.params import QuantParams
from quantcal.strategies.base import Strategy, as_range, needs_observations

ALPHAS = tuple(round(0.05 * step, 2) for step in range(21))
"""The exponents that a search tries: 0 to 1 in steps of 0.05."""


def smoothing_scale(
    act_max: NDArray[np.float64], weight_max: NDArray[np.float64], alpha: float
) -> NDArray[np.float32]:
    """Return max|x_c|^alpha / max|W_c|^(1 - alpha) for each channel, float32.

    Channels without activations or without weights keep the scale 1, since scaling gains
    nothing there. The scales are divided by their geometric mean. This changes neither the
    quantized model nor the float one, and keeps the size of folded weights.
    """
    used = (act_max > 0) & (weight_max > 0)
    scale = np.ones(len(act_max))
    if used.any():
        logs = alpha * np.log(act_max[used]) - (1 - alpha) * np.log(weight_max[used])
        scale[used] = np.exp(logs - logs.mean())
    return scale.astype(np.float32)


def expected_errors(
    stats: _core.ChannelStats,
    weight: NDArray[np.float32],
    scales: NDArray[np.float32],
    strategy: Strategy,
    format: QuantFormat,
    weight_format: QuantFormat,
) -> NDArray[np.float64]:
    """Return the expected squared error of the outputs over their expected square.

    The outputs are y = sum over c of (w_c s_c)(x_c / s_c). With independent errors e of the
    activations and d of the weights, the squared error is the sum over c of
    E(e_c^2) (w_c s_c)^2 + E((x_c / s_c)^2) d_c^2.

    Dividing a channel by s on a grid of step t has the error of the channel itself on a grid
    of step t s, over s^2. So the histograms need no scaling for it. The strategy chooses the
    range of the activations from the histogram of all channels together.

    Parameters
    ----------
    stats
        The activations by channel.
    weight
        The weights of all layers that read them, stacked: [outputs, channels].
    scales
        The candidates: [candidates, channels].
    strategy, format, weight_format
        How activations are quantized, and the format of the weights. Weights get the range
        of each output channel's extremes.

    Returns
    -------
    One error for each candidate.
    """
    params = _activation_params(stats, scales, strategy, format)
    errors, squares = _core.activation_errors(
        stats,
        scales,
        format.name,
        np.array([p.scale for p in params], dtype=np.float32),
        np.array([p.zero_point for p in params], dtype=np.int32),
    )
    weight_errors = _core.weight_errors(weight, scales, weight_format)
    columns = np.einsum("oc,oc->c", weight, weight, dtype=np.float64)
    # error / s^2 * (w s)^2
    noise = errors @ columns
    noise += (weight_errors / np.square(scales.astype(np.float64))) @ squares
    total: NDArray[np.float64] = noise / max(
        squares @ columns, np.finfo(np.float64).tiny
    )
    return total


def _activation_params(
    stats: _core.ChannelStats,
    scales: NDArray[np.float32],
    strategy: Strategy,
    format: QuantFormat,
) -> list[QuantParams]:
    """Return the parameters of the activations for each candidate."""
    if needs_observations(strategy):
        msg = (
            f"strategy {strategy} needs the extremes of each observation, which are not kept "
            "by channel; choose another strategy for the search"
        )
        raise CalibrationError(msg)
    return [
        QuantParams.from_range(
            *as_range(strategy.range(histogram, format)), format=format
        )
        for histogram in _core.activation_histograms(stats, scales)
    ]
