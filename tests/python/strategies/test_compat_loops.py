"""The divergences of MXNet's and ncnn's calibration, against loops in numpy's float32."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import quantcal as qc
from quantcal import _core

EPSILON = np.float32(1e-4)
Counts = NDArray[np.uint64]
Floats = NDArray[np.float32]


def total(values: Floats) -> Any:
    """Return the sum, one after the other: `sum` would add in pairs."""
    return np.add.accumulate(values, dtype=np.float32)[-1]


def divergence(p: Floats, q: Floats) -> float:
    ratio = (p / q).astype(np.float64)
    return float(total(p * np.log(ratio).astype(np.float32)))


def smooth(values: Floats) -> Floats | None:
    full = values != 0
    number = int(full.sum())
    if not number:
        return None
    taken = EPSILON * np.float32(values.size - number) / np.float32(number)
    return None if taken >= 1 else np.where(full, values - taken, EPSILON)


def mxnet(counts: Counts, start: int, end: int, levels: int) -> float:
    hist = counts.astype(np.float32)
    p = hist[start:end].copy()
    p[0], p[-1] = total(hist[: start + 1]), total(hist[end - 1 :])
    inner = counts[start:end].copy()
    inner[0] = 0  # counted among what lies outside
    merged = p.size // levels
    q = np.zeros_like(p)
    for level in range(levels):
        first, last = level * merged, (level + 1) * merged
        value = np.float32(inner[first:last].sum())
        if level == levels - 1:
            value += np.float32(inner[last:].sum())
            last = p.size
        number = np.count_nonzero(inner[first:last])
        q[first:last] = value / np.float32(number) if number else 0
    q[p == 0] = 0
    smooth_p, smooth_q = smooth(p), smooth(q)
    if smooth_p is None or smooth_q is None:
        return np.inf
    return divergence(smooth_p / total(smooth_p), smooth_q / total(smooth_q))


def ncnn(counts: Counts, width: int, levels: int) -> float:
    shares = (counts / counts.sum()).astype(np.float32)
    p = shares[:width] + EPSILON
    p[-1] = total(np.concatenate((p[-1:], shares[width:])))
    per_level = np.float32(width) / np.float32(levels)
    rights, lefts, wholes = (np.zeros(width, np.float32) for _ in range(3))
    for level in range(levels):
        start, end = np.float32(level) * per_level, np.float32(level + 1) * per_level
        if level == levels - 1:
            start, end = np.float32(width) - per_level, np.float32(width)
        first, last = int(np.ceil(start)), int(np.floor(end))
        left, right = np.float32(first) - start, end - np.float32(last)
        value = left * shares[max(first - 1, 0)]
        value += right * shares[min(last, shares.size - 1)]
        for share in shares[first:last]:
            value += share
        value /= np.float32(last - first) + left + right
        if right > 0:
            rights[last] = right * value
        if left > 0:
            lefts[first - 1] = left * value
        wholes[first:last] = value
    return divergence(p, EPSILON + rights + lefts + wholes)


def sample(seed: int, num_bins: int) -> Counts:
    """Return counts that fall from the middle, or from the first bin, more or less sparse."""
    generator = np.random.default_rng(seed)
    maximum = [30, 1e3, 1e6][seed % 3]  # the last sum to more than float32 holds
    away = (np.arange(num_bins) - num_bins // 2) / (num_bins * (0.1 + seed % 5 / 10))
    counts = generator.random(num_bins) * maximum * np.exp(-away * away)
    counts *= generator.random(num_bins) >= [0, 0.1, 0.5, 0.95][seed % 4]
    return (counts + generator.integers(0, 2, num_bins)).astype(np.uint64)


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("levels", [1, 2, 7, 16, 33, 100, 101])
def test_divergences_are_those_of_the_loops(seed: int, levels: int) -> None:
    counts = sample(seed, 101)
    middle = counts.size // 2
    windows = [(middle - i, middle + i + 1) for i in range(levels // 2, middle + 1)]
    expected = [mxnet(counts, *window, levels) for window in windows]
    # A logarithm may be rounded otherwise where it lies halfway between two float32.
    np.testing.assert_allclose(_core.mxnet_divergences(counts, levels), expected, 1e-5)
    if levels > 1:
        expected = [ncnn(counts, width, levels) for width in range(levels, counts.size)]
        found = _core.ncnn_divergences(counts, levels)
        np.testing.assert_allclose(found, expected, 1e-5, atol=1e-7)


@pytest.mark.usefixtures("keep_num_threads")
@pytest.mark.parametrize("peer", ["mxnet", "ncnn"])
def test_threads_change_no_bit(peer: str) -> None:
    counts = sample(5, 1001)
    found = []
    for threads in (1, 3):
        qc.set_num_threads(threads)
        found.append(getattr(_core, f"{peer}_divergences")(counts, 64).tobytes())
    assert found[0] == found[1]


def test_nothing_has_an_infinite_divergence() -> None:
    nothing = np.zeros(65, np.uint64)
    assert np.isinf(_core.mxnet_divergences(nothing, 8)).all()
