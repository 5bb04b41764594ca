"""Errors from sums of two products in 16 bits, and from rounding weights.

Both follow from the shares of an activation's codes and from the weights. The codes that are
multiplied by one column of weights count as independent draws.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from quantcal import _core
from quantcal.params import QuantParams

Floats = NDArray[np.float64]

_ABOVE, _BELOW = 32767, 32768  # limits of 16 bits above and below zero
_LEAST = 129  # from this sum on, 255 · (|a| + |b|) exceeds the smaller limit
_KEYS = 129 << 9  # keys of pairs: larger magnitude, smaller magnitude, sign
_CHUNK = 1024  # distinct pairs of weights at a time: 256 rows of them take 2 MB


def code_shares(histogram: _core.Histogram, params: QuantParams) -> tuple[Floats, int]:
    """Return the share of each unsigned code 0 to 255, and the code of zero.

    Signed codes are shifted by 128, as in the kernels.
    """
    low, high, counts = histogram.bins()
    zero = int(params.zero_point) + (128 if params.format == "int8" else 0)
    scale = float(params.scale)
    points = low == high
    codes = np.clip(np.rint(low[points] / scale) + zero, 0, 255).astype(np.int64)
    shares = np.bincount(
        codes, counts[points].astype(np.float64), minlength=256
    ).astype(np.float64)
    if not points.all():
        ends = np.stack([low[~points], high[~points]], axis=1).reshape(-1)
        below = np.concatenate([[0], np.cumsum(counts[~points].astype(np.float64))])
        heights = np.stack([below[:-1], below[1:]], axis=1).reshape(-1)
        cuts = (np.arange(255) + 0.5 - zero) * scale
        inner = np.interp(cuts, ends, heights)
        shares += np.diff(np.concatenate([[0], inner, [below[-1]]]))
    return shares / shares.sum(), zero


def pair_overflow(
    shares: Floats, codes: NDArray[Any], unit: Floats
) -> tuple[float, float]:
    """Return the share of pair sums that saturate, and the mean squared error they cause.

    Parameters
    ----------
    shares : float64 array, shape (256,)
        Shares of the activation's codes.
    codes : int8 array, shape (K, N)
        Codes of the weights.
    unit : float64 array, shape (N,)
        The real value of 1 in each column of sums.
    """
    even, odd = codes[0 : len(codes) - 1 : 2], codes[1::2]
    # Two weights of different signs cannot overflow: their products partly cancel.
    sums = np.add(even, odd, dtype=np.int16)
    rows, columns = np.nonzero(np.abs(sums) >= _LEAST)
    one, other = (part[rows, columns].astype(np.int64) for part in (even, odd))
    positive = one > 0
    a, b = np.abs(one), np.abs(other)
    keys = np.maximum(a, b) << 9 | np.minimum(a, b) << 1 | positive
    found = np.zeros(_KEYS, dtype=bool)
    found[keys] = True
    distinct = np.flatnonzero(found)
    place = (np.cumsum(found) - 1)[keys]
    pairs = np.stack([distinct >> 9, distinct >> 1 & 255, distinct & 1])
    # Few of the pairs differ, so each distinct one is evaluated once.
    chance, mean, square = _excess(shares, pairs)
    sign = np.where(positive, 1.0, -1.0)
    width = codes.shape[1]
    bias = np.bincount(columns, sign * mean[place], minlength=width)
    spread = np.bincount(columns, (square - mean**2)[place], minlength=width)
    share = float(chance[place].sum()) / max(even.size, 1)
    return share, float(np.mean(unit**2 * (bias**2 + spread)))


def rounding_error(
    shares: Floats, zero: int, weights: NDArray[Any], codes: NDArray[Any], unit: Floats
) -> float:
    """Return the mean squared error of the sums because weights are rounded to codes.

    Each weight counts with its actual error: a weight of 0 has none, whatever the scale of
    its column. Errors of one sign add up where the activation's mean is not 0.

    Parameters
    ----------
    shares : float64 array, shape (256,)
        Shares of the activation's codes.
    zero : int
        The code of zero.
    weights : float32 array, shape (K, N)
        Weights in units of their codes.
    codes : int8 array, shape (K, N)
        Codes of the weights.
    unit : float64 array, shape (N,)
        The real value of 1 in each column of sums.
    """
    errors = weights - codes
    away = np.arange(256) - zero
    mean = float(shares @ away)
    variance = float(shares @ away**2.0) - mean**2
    bias = errors.sum(axis=0, dtype=np.float64) * mean
    spread = np.square(errors).sum(axis=0, dtype=np.float64) * variance
    return float(np.mean(unit**2 * (bias**2 + spread)))


def _excess(shares: Floats, pairs: NDArray[Any]) -> tuple[Floats, Floats, Floats]:
    """Return the probability of an overflow, and mean and mean square of the part cut off.

    `pairs` are columns of a larger weight, a smaller one, and whether they are positive.
    For a given first code the sum overflows from some second code on. So the second codes
    need no loop: tail sums of their shares give the result.
    """
    code = np.arange(256, dtype=np.float64)
    tails = [_tail(shares * code**power) for power in (0, 1, 2)]
    results = np.zeros((3, pairs.shape[1]))
    for start in range(0, pairs.shape[1], _CHUNK):
        part = slice(start, start + _CHUNK)
        a, b, positive = pairs[:, part].astype(np.float64)
        limit = np.where(positive > 0, _ABOVE, _BELOW)
        over = code[:, None] * a - limit
        least = np.clip(np.floor(-over / b) + 1, 0, 256).astype(np.int64)
        zeroth, first, second = (tail[least] for tail in tails)
        results[0, part] = shares @ zeroth
        results[1, part] = shares @ (over * zeroth + b * first)
        squares = over**2 * zeroth + 2 * over * b * first + b**2 * second
        results[2, part] = shares @ squares
    return results[0], results[1], results[2]


def _tail(values: Floats) -> Floats:
    """Return the sums from each index to the end, and 0 after the end."""
    return np.append(np.cumsum(values[::-1])[::-1], 0.0)
