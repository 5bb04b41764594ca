"""The divergences of ncnn's calibration, against a loop in numpy's float32."""

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
    """Return the sum in order; numpy's `sum` adds in pairs."""
    return np.add.accumulate(values, dtype=np.float32)[-1]


def divergence(p: Floats, q: Floats) -> float:
    ratio = (p / q).astype(np.float64)
    return float(total(p * np.log(ratio).astype(np.float32)))


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
    """Return counts that decrease from the middle bin, with different sparsity."""
    generator = np.random.default_rng(seed)
    # With the last scale the sum exceeds the exact integers of float32.
    scale = [30, 1e3, 1e6][seed % 3]
    away = (np.arange(num_bins) - num_bins // 2) / (num_bins * (0.1 + seed % 5 / 10))
    counts = generator.random(num_bins) * scale * np.exp(-away * away)
    counts *= generator.random(num_bins) >= [0, 0.1, 0.5, 0.95][seed % 4]
    return (counts + generator.integers(0, 2, num_bins)).astype(np.uint64)


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("levels", [2, 7, 16, 33, 100, 101])
def test_divergences_are_those_of_the_loop(seed: int, levels: int) -> None:
    counts = sample(seed, 101)
    expected = [ncnn(counts, width, levels) for width in range(levels, counts.size)]
    found = _core.ncnn_divergences(counts, levels)
    # A logarithm may round differently where it lies halfway between two float32.
    np.testing.assert_allclose(found, expected, 1e-5, atol=1e-7)


@pytest.mark.usefixtures("keep_num_threads")
def test_the_number_of_threads_changes_no_bit() -> None:
    counts = sample(5, 1001)
    found = []
    for threads in (1, 3):
        qc.set_num_threads(threads)
        found.append(_core.ncnn_divergences(counts, 64).tobytes())
    assert found[0] == found[1]
