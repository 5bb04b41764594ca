"""What quantisation is expected to cost a linear layer's outputs, from histograms alone."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from quantcal import QuantFormat, QuantParams, _core


def expected_error(
    stats: _core.ChannelStats,
    moments: NDArray[np.float64],
    weight: NDArray[np.float32],
    scale: NDArray[np.float32],
    format: QuantFormat,
    weight_format: QuantFormat,
) -> float:
    """Return the expected squared error of the outputs over their expected square.

    Of y = sum over c of (w_c s_c)(x_c / s_c), with independent errors e of the activations and
    d of the weights: sum of E(e_c^2) (w_c s_c)^2 + E((x_c / s_c)^2) d_c^2. The error of a
    channel that is divided by s on a grid of step t is that of the channel itself on a grid of
    step t s, over s^2, so the histograms need not be scaled.
    """
    low = float(min(np.min(stats.min / scale), 0))
    high = float(max(np.max(stats.max / scale), 0))
    params = QuantParams.from_range(low, high, format=format)
    step, zero_point = float(params.scale), int(params.zero_point)
    error = np.array(
        [
            _core.grid_error(
                stats.channel(c), params.format, step * float(s), zero_point
            )[0]
            for c, s in enumerate(scale)
        ]
    )
    smoothed = weight * scale
    extremes = np.abs(smoothed).max(axis=1)
    of_weights = QuantParams.from_range(
        -extremes, extremes, format=weight_format, axis=0
    )
    lost = (of_weights.fake_quantize(smoothed) - smoothed).astype(np.float64)
    columns = np.square(weight.astype(np.float64)).sum(axis=0)  # error / s^2 * (w s)^2
    noise = error @ columns + (
        moments / np.square(scale.astype(np.float64))
    ) @ np.square(lost).sum(axis=0)
    return float(noise / max(moments @ columns, np.finfo(np.float64).tiny))


def second_moments(stats: _core.ChannelStats) -> NDArray[np.float64]:
    """Return E(x^2) of each channel."""
    histograms = [stats.channel(c) for c in range(len(stats))]
    return np.array([(h.std() or 0) ** 2 + (h.mean() or 0) ** 2 for h in histograms])
