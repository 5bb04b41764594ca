"""What quantisation is expected to cost a linear layer's outputs, from histograms alone."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from quantcal import CalibrationError, QuantFormat, QuantParams, _core
from quantcal.strategies.base import Strategy, as_range, needs_observations


def expected_errors(
    stats: _core.ChannelStats,
    weight: NDArray[np.float32],
    scales: NDArray[np.float32],
    strategy: Strategy,
    format: QuantFormat,
    weight_format: QuantFormat,
) -> NDArray[np.float64]:
    """Return the expected squared error of the outputs over their expected square.

    Of y = sum over c of (w_c s_c)(x_c / s_c), with independent errors e of the activations and
    d of the weights: sum of E(e_c^2) (w_c s_c)^2 + E((x_c / s_c)^2) d_c^2. The error of a
    channel that is divided by s on a grid of step t is that of the channel itself on a grid of
    step t s, over s^2, so the histograms need not be scaled for it. Which range the activations
    get, the strategy says of the histogram of all of them together.

    Parameters
    ----------
    stats
        The activations by channel.
    weight
        Of all layers that read them, one below the other: [outputs, channels].
    scales
        What is tried: [candidates, channels].
    strategy, format, weight_format
        How activations are quantised; weights have a range for each output, of its extremes.

    Returns
    -------
    One number a candidate.
    """
    params = _ranges(stats, scales, strategy, format)
    errors, squares = _core.activation_errors(
        stats,
        scales,
        format.name,
        np.array([p.scale for p in params], dtype=np.float32),
        np.array([p.zero_point for p in params], dtype=np.int32),
    )
    lost = _core.weight_errors(weight, scales, weight_format)
    columns = np.einsum("oc,oc->c", weight, weight, dtype=np.float64)
    noise = errors @ columns  # error / s^2 * (w s)^2
    noise += (lost / np.square(scales.astype(np.float64))) @ squares
    total: NDArray[np.float64] = noise / max(
        squares @ columns, np.finfo(np.float64).tiny
    )
    return total


def _ranges(
    stats: _core.ChannelStats,
    scales: NDArray[np.float32],
    strategy: Strategy,
    format: QuantFormat,
) -> list[QuantParams]:
    """Return what the activations are quantised by, for each candidate."""
    if needs_observations(strategy):
        msg = (
            f"strategy {strategy} needs the extremes of each observation, which are not kept "
            "by channel; take another one to search with"
        )
        raise CalibrationError(msg)
    return [
        QuantParams.from_range(
            *as_range(strategy.range(histogram, format)), format=format
        )
        for histogram in _core.activation_histograms(stats, scales)
    ]
