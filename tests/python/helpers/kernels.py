"""What 8-bit kernels without VNNI compute, in plain numpy: the oracle of saturation."""

from __future__ import annotations

from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


def pair_sums(codes: Array, weights: Array) -> tuple[Array, Array]:
    """Multiply u8 codes [M, K] by s8 weights [K, N] as vpmaddubsw and vpmaddwd do.

    Returns the sums [M, N], and how many 16-bit sums of each column saturated [N].
    """
    a, w = codes.astype(np.int32), weights.astype(np.int32)
    if a.shape[1] % 2:
        a, w = np.pad(a, ((0, 0), (0, 1))), np.pad(w, ((0, 1), (0, 0)))
    total = np.zeros((len(a), w.shape[1]), np.int32)
    saturated = np.zeros(w.shape[1], np.int64)
    for k in range(0, len(w), 2):
        pair = a[:, k, None] * w[k] + a[:, k + 1, None] * w[k + 1]
        clipped = np.clip(pair, -32768, 32767)
        saturated += (pair != clipped).sum(axis=0)
        total += clipped
    return total, saturated


def columns(image: Array, node: Any, kernel: tuple[int, ...]) -> Array:
    """Return what a 2-D Conv multiplies: [positions, kernel · channels], channels inside."""
    found = {a.name: list(a.ints) for a in node.attribute if a.ints}
    top, left, bottom, right = found.get("pads", [0, 0, 0, 0])
    steps = found.get("strides", [1, 1])
    padded = np.pad(image, ((0, 0), (0, 0), (top, bottom), (left, right)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, kernel, axis=(2, 3))
    windows = windows[:, :, :: steps[0], :: steps[1]]
    turned = windows.transpose(0, 2, 3, 4, 5, 1)  # batch, places, kernel, channels
    return turned.reshape(-1, int(np.prod(kernel)) * image.shape[1])
