"""Slow and simple reference results for the engine, each with the reason to trust it."""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
WIDTHS = range(2, 17)
QMIN = {f"int{b}": -(2 ** (b - 1)) for b in WIDTHS} | {f"uint{b}": 0 for b in WIDTHS}
QMAX = {f"int{b}": 2 ** (b - 1) - 1 for b in WIDTHS}
QMAX |= {f"uint{b}": 2**b - 1 for b in WIDTHS}


def levels(format: str) -> Array:
    """Return the finite values of all codes, rising, as float64.

    To be trusted because those of floats are what ml_dtypes makes of each bit pattern.
    """
    if format in QMIN:
        return np.arange(QMIN[format], QMAX[format] + 1, dtype=np.float64)
    bits = 4 if format == "float4_e2m1fn" else 8
    codes = np.arange(2**bits, dtype=np.uint8).view(getattr(ml_dtypes, format))
    values = codes.astype(np.float64)
    return np.unique(values[np.isfinite(values)] + 0.0)


def ends(format: str) -> tuple[float, float]:
    """Return the lowest and the highest level."""
    all_levels = levels(format)
    return float(all_levels[0]), float(all_levels[-1])


def bins(values: Array, mantissa_bits: int) -> list[tuple[float, float, int]]:
    """Return (smallest, largest, count) of the values in each bin of float codes, rising.

    To be trusted because it takes the definition literally: sort, cut off the low bits of each
    float32, and count runs of equal rest, sign apart. Zeros of either sign are a bin.
    """
    x = np.sort(np.asarray(values, dtype=np.float32).ravel())
    x = x[np.isfinite(x)] + np.float32(0.0)  # no -0
    codes = x.view(np.uint32) >> np.uint32(23 - mantissa_bits)
    # Zeros have a separate bin, though subnormals share their code.
    keys = np.where(x == 0, -1, codes.astype(np.int64))
    if not x.size:
        return []
    starts = np.flatnonzero(np.append(True, keys[1:] != keys[:-1]))
    ends = np.append(starts[1:], x.size)
    return [
        (float(x[a]), float(x[b - 1]), int(b - a))
        for a, b in zip(starts, ends, strict=True)
    ]


def order_statistic(values: Array, q: float) -> float:
    """Return the smallest value with a share of at least `q` at or below it.

    To be trusted because it sorts the data and counts with exact fractions; `q` means the
    decimal number that was written, not the float nearest to it.
    """
    x = np.sort(np.asarray(values).ravel())
    rank = max(1, math.ceil(Fraction(str(q)) * x.size))
    return float(x[rank - 1])


def moments(values: Array) -> dict[str, float]:
    """Return the moments by their definitions.

    To be trusted because numpy sums float64 in pairs over the raw data.
    """
    x = np.asarray(values, dtype=np.float64).ravel()
    mean = x.mean()
    centered = x - mean
    variance = (centered**2).mean()
    return {
        "mean": float(mean),
        "std": float(np.sqrt(variance)),
        "mean_abs_deviation": float(np.abs(centered).mean()),
        "kurtosis": float((centered**4).mean() / variance**2) if variance > 0 else 0.0,
    }


def grid(low: float, high: float, format: str, symmetric: bool) -> tuple[float, int]:
    """Return scale and zero point of a range.

    To be trusted because these are the two formulas that the documentation states, in numpy.
    """
    end = max(abs(low), abs(high))
    if format not in QMIN:
        return float(np.float32(end / ends(format)[1])), 0
    qmin, qmax = QMIN[format], QMAX[format]
    if symmetric:
        middle = 0 if qmin < 0 else (qmax + 1) // 2
        return float(np.float32(end / (qmax - middle))), middle
    low, high = min(low, 0.0), max(high, 0.0)
    scale = np.float32((high - low) / (qmax - qmin))
    if scale == 0:
        return 0.0, 0
    zero_point = int(np.clip(np.rint(qmin - low / float(scale)), qmin, qmax))
    return float(scale), zero_point


def codes(
    values: Array, format: str, scale: float, zero_point: int
) -> NDArray[np.int64]:
    """Return the codes of values, before they are narrowed to the integer type.

    To be trusted because `numpy.rint` rounds half to even, as ONNX prescribes, and the division
    is in float32, as ONNX prescribes.
    """
    with np.errstate(over="ignore", invalid="ignore"):  # signaling NaN is invalid
        steps = np.rint(np.asarray(values, dtype=np.float32) / np.float32(scale))
    steps = np.where(np.isnan(steps), -np.inf, steps)  # NaN becomes the lowest code
    limited = np.clip(steps.astype(np.float64) + zero_point, QMIN[format], QMAX[format])
    whole: NDArray[np.int64] = limited.astype(np.int64)
    return whole


def fake_quantize(values: Array, format: str, scale: float, zero_point: int) -> Array:
    """Return the real values that become of values, as float64.

    To be trusted because integers go by `codes`, and floats through a conversion of ml_dtypes.
    """
    if format in QMIN:
        return (codes(values, format, scale, zero_point) - zero_point) * float(scale)
    steps = np.asarray(values, dtype=np.float32) / np.float32(scale)
    limited = np.clip(steps, *ends(format)).astype(getattr(ml_dtypes, format))
    return limited.astype(np.float64) * float(scale)


def norm(values: Array, p: float, format: str, scale: float, zero_point: int) -> float:
    """Return the mean of |x - x_hat|^p over the raw data.

    To be trusted because it is the definition.
    """
    back = fake_quantize(values, format, scale, zero_point)
    return float((np.abs(np.asarray(values, dtype=np.float64) - back) ** p).mean())


def code_entropy(values: Array, format: str, scale: float, zero_point: int) -> float:
    """Return the Shannon entropy of the codes of the raw data, in bits.

    To be trusted because it counts what values become and takes the definition.
    """
    back = fake_quantize(values, format, scale, zero_point) + 0.0  # one zero
    shares = np.unique(back, return_counts=True)[1] / back.size
    return float(-(shares * np.log2(shares)).sum())


def minimum_over_ranges(
    values: Array,
    format: str,
    symmetric: bool,
    score: Callable[[float, int], float],
    count: int,
) -> float:
    """Return the minimum score over the grids of `count` ranges, evenly spaced at each end.

    To be trusted because it tries them all.
    """
    low, high = min(float(values.min()), 0.0), max(float(values.max()), 0.0)
    if symmetric:
        end = max(-low, high)
        ranges = [(-end * k / count, end * k / count) for k in range(1, count + 1)]
    else:
        side = round(count**0.5) if low < 0 < high else count
        shares = np.arange(1, side + 1) / side
        lows = low * shares if low < 0 else [0.0]
        highs = high * shares if high > 0 else [0.0]
        ranges = [(float(a), float(b)) for a in lows for b in highs]
    return min(score(*grid(*ends_, format, symmetric)) for ends_ in ranges)


def squared_error(values: Array, format: str, scale: float, zero_point: int) -> float:
    """Return the mean squared error of quantizing and dequantizing the raw data.

    To be trusted because it does just that, and sums in float64.
    """
    back = (codes(values, format, scale, zero_point) - zero_point) * float(scale)
    return float(((np.asarray(values, dtype=np.float64) - back) ** 2).mean())


class Scan:
    """Mean squared error of many grids over the same raw data.

    To be trusted because every value is represented by its nearest level, as rounding does. The
    sums over the values between two levels' midpoints come from the sorted data itself.
    `test_search_oracles` compares it with `squared_error`.
    """

    def __init__(self, values: Array) -> None:
        self.x = np.sort(np.asarray(values, dtype=np.float64).ravel())
        self.sums = np.append(0.0, np.cumsum(self.x))
        self.squares = float((self.x**2).sum())

    def error(self, format: str, scale: float, zero_point: int) -> float:
        levels = (np.arange(QMIN[format], QMAX[format] + 1) - zero_point) * scale
        middles = 0.5 * (levels[1:] + levels[:-1])
        at = np.concatenate(([0], np.searchsorted(self.x, middles), [self.x.size]))
        counts, sums = np.diff(at), np.diff(self.sums[at])
        total = self.squares - 2.0 * (levels * sums).sum() + (levels**2 * counts).sum()
        return float(total / self.x.size)

    def symmetric(self, format: str) -> float:
        """Return the minimum error over thousands of thresholds, refined about the best."""
        end = float(np.abs(self.x).max())

        def error(threshold: float) -> float:
            return self.error(format, *grid(-threshold, threshold, format, True))

        coarse = end * np.geomspace(1e-4, 1.0, 4000)
        errors = [error(t) for t in coarse]
        best = min(errors)
        for t in coarse[np.argsort(errors)[:3]]:
            fine = np.linspace(0.995 * t, 1.005 * t, 200)
            best = min(best, *(error(f) for f in fine))
        return best

    def affine(self, format: str) -> float:
        """Return the minimum error over a grid of both ends, refined about the best."""

        def error(low: float, high: float) -> float:
            return self.error(format, *grid(low, high, format, False))

        def ends(extreme: float) -> Array:
            return extreme * np.geomspace(1e-3, 1.0, 70) if extreme else np.zeros(1)

        lows, highs = ends(min(self.x[0], 0.0)), ends(max(self.x[-1], 0.0))
        if lows.size == 1 or highs.size == 1:  # one side only: many more thresholds
            lows = lows if lows.size == 1 else self.x[0] * np.geomspace(1e-3, 1, 3000)
            highs = (
                highs if highs.size == 1 else self.x[-1] * np.geomspace(1e-3, 1, 3000)
            )
        pairs = [(low, high) for low in lows for high in highs]
        errors = [error(*pair) for pair in pairs]
        best = min(errors)
        for k in np.argsort(errors)[:2]:
            low, high = pairs[k]
            near = np.linspace(0.9, 1.1, 41)
            fine_lows = near * low if low else [0.0]
            fine_highs = near * high if high else [0.0]
            best = min(best, *(error(a, b) for a in fine_lows for b in fine_highs))
        return best


def kl_divergence(counts: Array, end: int, levels: int) -> float:
    """Return KL(P || Q) in nats of keeping the first `end` bins in `levels` groups.

    To be trusted because it is the published procedure step by step, over every bin. P is the
    clipped histogram with the outside mass in its last bin. Q spreads each group's inside mass
    over the group's non-empty bins. Both are normalized; then the definition of KL applies.
    """
    groups = min(levels, end)
    return divergence(counts, 0, end, np.arange(end) * groups // end)


def divergence(counts: Array, start: int, end: int, group_of: Array) -> float:
    """Return KL(P || Q) in nats of keeping bins `start` to `end`, merged as `group_of` says.

    As `kl_divergence`, with the mass below the window in its first bin.
    """
    inside = np.asarray(counts[start:end], dtype=np.float64)
    p = inside.copy()
    p[0] += counts[:start].sum()
    p[-1] += counts[end:].sum()
    groups = int(group_of[-1]) + 1
    mass = np.bincount(group_of, weights=inside, minlength=groups)
    filled = np.bincount(group_of, weights=inside > 0, minlength=groups)
    share = np.divide(mass, filled, out=np.zeros(groups), where=filled > 0)
    q = np.where(inside > 0, share[group_of], 0.0)
    if inside.sum() == 0 or np.any((p > 0) & (q == 0)):
        return math.inf
    p, q = p / p.sum(), q / q.sum()
    seen = p > 0
    return float((p[seen] * np.log(p[seen] / q[seen])).sum())


def kl_candidates(counts: Array, levels: int) -> Array:
    """Return the divergence of keeping the first `levels`, `levels` + 1, … bins."""
    ends = range(min(levels, len(counts)), len(counts) + 1)
    return np.array([kl_divergence(counts, end, levels) for end in ends])
