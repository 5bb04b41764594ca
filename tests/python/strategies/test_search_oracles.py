"""Every search finds the result of a slow and simple scan of the raw data."""

from __future__ import annotations

import math

import numpy as np
import pytest

import oracles
import quantcal as qc
import samples
from samples import INT8, UINT8, Array

SIZE = 100_000


@pytest.mark.parametrize(("format", "symmetric"), samples.TARGETS)
def test_the_scan_agrees_with_quantizing_the_raw_data(
    format: str, symmetric: bool
) -> None:
    x = samples.shape("outliers", 10_000)
    scan = oracles.Scan(x)
    for high in (0.5, 2.0, 30.0, 200.0):
        grid = oracles.grid(-0.3 * high, high, format, symmetric)
        want = oracles.squared_error(x, format, *grid)
        # Both are float64 sums of 10^4 terms; the scan subtracts terms 10^5 times as large.
        assert scan.error(format, *grid) == pytest.approx(want, rel=1e-8)


@pytest.mark.parametrize("name", samples.SHAPES)
def test_mse_finds_the_symmetric_threshold_of_an_exhaustive_scan(name: str) -> None:
    x = samples.shape(name, SIZE, seed=11)
    found = qc.calibrate(x, "mse", format="int8")
    error = oracles.squared_error(x, "int8", found.scale, found.zero_point)
    # 0.2 % of the error is what the documentation promises.
    assert error <= 1.002 * oracles.Scan(x).symmetric("int8")


@pytest.mark.parametrize("name", samples.SHAPES)
def test_mse_finds_the_affine_range_of_an_exhaustive_scan(name: str) -> None:
    x = samples.shape(name, SIZE, seed=11)
    found = qc.calibrate(x, "mse", format="uint8")
    error = oracles.squared_error(x, "uint8", found.scale, found.zero_point)
    assert error <= 1.002 * oracles.Scan(x).affine("uint8")


@pytest.mark.parametrize(("format", "symmetric"), samples.TARGETS)
@pytest.mark.parametrize("name", samples.SHAPES)
def test_mse_is_never_worse_than_clipping_nothing(
    name: str, format: str, symmetric: bool
) -> None:
    for size in (1, 2, 3, 10, 100, 5000):
        for seed in range(5):
            x = samples.shape(name, size, seed)
            found, widest = (
                qc.calibrate(x, s, format=format, symmetric=symmetric)
                for s in ("mse", "minmax")
            )
            got, limit = (
                oracles.squared_error(x, format, p.scale, p.zero_point)
                for p in (found, widest)
            )
            # The engine's error is that of evenly filled bins, within 0.3 % for many values;
            # of a few values, a part of a step as wide as a bin (0.4 % of the largest).
            slack = (np.abs(x).max() / 256) ** 2 / 12 if size < 1000 else 0.0
            assert got <= 1.003 * limit + slack


def uniform_histogram(rng: np.random.Generator, num_bins: int) -> Array:
    """Return random counts: bell-shaped, with gaps, long tails, spikes; the last one filled."""
    position = np.arange(num_bins) / num_bins
    width = 10.0 ** rng.uniform(-2, 0.3)
    weight = np.exp(-0.5 * (position / width) ** rng.choice([1.0, 2.0]))
    weight += 10.0 ** rng.uniform(-7, -2)
    counts = rng.poisson(weight * 10.0 ** rng.uniform(1, 5))
    counts[rng.random(num_bins) < rng.choice([0.0, 0.1, 0.6])] = 0
    spikes = rng.integers(0, num_bins, size=3)
    counts[spikes] += rng.integers(0, 5000, size=3)
    counts[-1] = max(counts[-1], 1)
    result: Array = counts
    return result


def histogram_with(counts: Array) -> qc.Histogram:
    """Return a histogram whose uniform view is `counts`, bins one wide, known exactly.

    Values are the middles of the bins, which 12 mantissa bits hold exactly up to 2048 bins; those
    of the last bin are its upper end, so that the view ends there.
    """
    values = np.arange(len(counts), dtype=np.float32) + np.float32(0.5)
    values[-1] = len(counts)
    h = qc.Histogram(12).observe(np.repeat(values, counts))
    assert h.exact
    view, edges = h.rebin(len(counts), 0.0, float(len(counts)))
    np.testing.assert_array_equal(view, counts)
    np.testing.assert_array_equal(edges, np.arange(len(counts) + 1))
    return h


def best_candidates(divergences: Array, first: int) -> Array:
    """Return the candidates that are best.

    Nearly always one. The engine and the loop add in different order: 1e-12 nats is their
    rounding noise, below which two candidates are equals.
    """
    best: Array = np.flatnonzero(divergences <= divergences.min() + 1e-12) + first
    return best


@pytest.mark.parametrize("seed", range(200))
def test_kl_picks_the_candidate_of_the_textbook_loop(seed: int) -> None:
    rng = np.random.default_rng(seed)
    # Some have TensorRT's size; the textbook loop is slow there.
    num_bins = 2048 if seed % 25 == 0 else int(rng.integers(130, 500))
    counts = uniform_histogram(rng, num_bins)
    h = histogram_with(counts)
    # int8 over magnitudes has 128 levels, uint8 over one-sided data has 256.
    for format, levels in ((INT8, 128), (UINT8, 256)):
        low, high = qc.KL(num_bins).range(h, format)
        assert low == (-high if format.symmetric else 0.0)
        assert high == int(high)
        divergences = oracles.kl_candidates(counts, levels)
        assert high in best_candidates(divergences, min(levels, num_bins))


def test_the_textbook_loop_depends_on_the_histogram() -> None:
    """Guards the test above: its histograms must lead to many different candidates."""
    found: set[int] = set()
    for seed in range(40):
        rng = np.random.default_rng(seed)
        counts = uniform_histogram(rng, 300)
        divergences = oracles.kl_candidates(counts, 128)
        best = best_candidates(divergences, 128)
        found.update(best[:1] if len(best) == 1 else [])
    assert len(found) > 10


def test_kl_of_fewer_bins_than_levels_keeps_everything() -> None:
    h = histogram_with(np.array([5, 3, 0, 2, 1]))
    assert qc.KL(5).range(h, INT8) == (-5.0, 5.0)
    assert qc.KL(5).range(h, UINT8) == (0.0, 5.0)
    assert qc.KL(1).range(h, INT8) == (-5.0, 5.0)


def test_kl_over_magnitudes_and_mirrored_data_is_the_same_search() -> None:
    counts = uniform_histogram(np.random.default_rng(3), 500)
    values = np.arange(500, dtype=np.float32) + np.float32(0.5)
    values[-1] = 500
    x = np.repeat(values, counts)
    sign = np.where(np.arange(x.size) % 3 == 0, -1, 1).astype(np.float32)
    one_sided, both, mirrored = (qc.Histogram(12).observe(v) for v in (x, sign * x, -x))
    kl = qc.KL(500)
    assert kl.range(both, INT8) == kl.range(one_sided, INT8)
    low, high = kl.range(one_sided, UINT8)
    assert kl.range(mirrored, UINT8) == (-high, -low)


def two_sided_divergence(counts: Array, start: int, end: int, levels: int) -> float:
    """KL(P || Q) of keeping bins `start` to `end`: the outside folded into both edges."""
    folded = counts[start:].copy()
    below = counts[:start].sum()
    # The one-sided procedure with the lower edge's reference raised, written out once more.
    inside = folded[: end - start].astype(np.float64)
    p = inside.copy()
    p[0] += below
    p[-1] += counts[end:].sum()
    width = end - start
    groups = min(levels, width)
    group_of = np.arange(width) * groups // width
    mass = np.bincount(group_of, weights=inside, minlength=groups)
    filled = np.maximum(np.bincount(group_of, inside > 0, minlength=groups), 1)
    q = np.where(inside > 0, (mass / filled)[group_of], 0.0)
    if inside.sum() == 0 or np.any((p > 0) & (q == 0)):
        return math.inf
    p, q = p / p.sum(), q / q.sum()
    seen = p > 0
    return float((p[seen] * np.log(p[seen] / q[seen])).sum())


@pytest.mark.parametrize("name", ["gaussian", "laplace", "student_t3", "skewed"])
def test_two_sided_kl_is_better_than_keeping_all_and_than_random_windows(
    name: str,
) -> None:
    num_bins = 2048
    x = samples.shape(name, SIZE, seed=5).astype(np.float16).astype(np.float32)
    h = qc.Histogram(12).observe(x)
    low, high = qc.KL(num_bins).range(h, UINT8)
    counts, edges = h.rebin(num_bins, float(x.min()), float(x.max()))
    np.testing.assert_array_equal(counts, np.histogram(x.astype(np.float64), edges)[0])
    start, end = np.searchsorted(edges, [low, high])
    assert (edges[start], edges[end]) == (low, high)
    found = two_sided_divergence(counts, start, end, 256)
    zero = int(np.searchsorted(edges, 0.0))
    rng = np.random.default_rng(0)
    others = [(0, num_bins)]
    others += [
        (int(a), int(max(b, a + 256)))
        for a, b in zip(
            rng.integers(0, zero, 1000),
            rng.integers(zero + 1, num_bins - 256, 1000),
            strict=True,
        )
    ]
    best = min(two_sided_divergence(counts, a, b, 256) for a, b in others)
    assert found <= best
