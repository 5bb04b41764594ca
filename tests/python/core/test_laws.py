"""The histogram's laws: what must hold for every input, split, order and number of threads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import quantcal as qc
import samples
from drawn import normals
from samples import Array, f32

# Sizes about the limits between the engine's paths: straight into the pages, by way of a
# scratch table, copies outside the lock, many threads.
SIZES = [
    0,
    1,
    3071,
    3072,
    4099,
    (1 << 15) - 1,
    1 << 15,
    (1 << 20) - 1,
    1 << 20,
    1_300_001,
]

float32s = hnp.arrays(
    np.float32, st.integers(0, 40), elements=st.floats(width=32, allow_subnormal=True)
)


@st.composite
def observations(draw: st.DrawFn) -> Array:
    """Draw a small array of any element type, with everything that a float can be."""
    x = draw(float32s)
    dtype = draw(st.sampled_from(list(samples.DTYPES.values())))
    if draw(st.booleans()):  # coarse values, for which histograms are exact
        x = (x.view(np.uint32) & np.uint32(0xFFF00000)).view(np.float32)
    return samples.cast(x, dtype)


@st.composite
def histograms(draw: st.DrawFn) -> qc.Histogram:
    """Draw a histogram of any resolution that has seen any types."""
    h = qc.Histogram(draw(st.none() | st.integers(3, 12)))
    for x in draw(st.lists(observations(), max_size=3)):
        h.observe(x)
    return h


def observe_all(
    parts: Sequence[Array], mantissa_bits: int | None = None
) -> qc.Histogram:
    h = qc.Histogram(mantissa_bits)
    for part in parts:
        h.observe(part)
    return h


@pytest.mark.usefixtures("keep_num_threads")
@pytest.mark.parametrize("dtype", samples.DTYPES.values(), ids=samples.DTYPES)
@pytest.mark.parametrize("values", ["activations", "any bits"])
def test_twenty_splits_and_orders_on_1_2_and_7_threads_give_the_same_bytes(
    values: str, dtype: np.dtype[Any]
) -> None:
    size = SIZES[-1]
    x = samples.any_bits(size) if values == "any bits" else samples.shape("relu", size)
    x = samples.cast(x, dtype)
    qc.set_num_threads(1)
    want = qc.Histogram().observe(x).to_bytes()
    for threads in (1, 2, 7):
        qc.set_num_threads(threads)
        rng = np.random.default_rng(threads)
        assert qc.Histogram().observe(x).to_bytes() == want
        for _ in range(20):
            cuts = np.sort(rng.integers(0, size, size=rng.integers(1, 6)))
            parts = np.split(rng.permutation(x), cuts)
            order = rng.permutation(len(parts))
            assert observe_all([parts[i] for i in order]).to_bytes() == want


@pytest.mark.usefixtures("keep_num_threads")
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("mantissa_bits", [None, 3, 7, 9, 12])
def test_every_path_through_the_engine_gives_the_same_bytes(
    size: int, mantissa_bits: int | None
) -> None:
    x = samples.any_bits(size, seed=size)
    want = observe_all(
        np.array_split(x, max(1, size // 1000)), mantissa_bits
    ).to_bytes()
    for threads in (1, 2, 7):
        qc.set_num_threads(threads)
        assert qc.Histogram(mantissa_bits).observe(x).to_bytes() == want
        assert qc.Histogram(mantissa_bits).observe(x[::-1]).to_bytes() == want


@given(st.lists(observations(), max_size=6), st.randoms(use_true_random=False))
def test_the_order_of_observations_does_not_matter(
    parts: list[Array], random: Any
) -> None:
    shuffled = random.sample(parts, len(parts))
    assert observe_all(shuffled).to_bytes() == observe_all(parts).to_bytes()


@given(observations(), st.lists(st.integers(0, 40)))
def test_the_split_does_not_matter(x: Array, cuts: list[int]) -> None:
    parts = np.split(x, sorted(cuts))
    assert observe_all(parts).to_bytes() == qc.Histogram().observe(x).to_bytes()


@given(observations(), st.randoms(use_true_random=False))
def test_the_order_inside_an_array_does_not_matter(x: Array, random: Any) -> None:
    order = random.sample(range(x.size), x.size)
    assert qc.Histogram().observe(x[order]) == qc.Histogram().observe(x)


@given(observations(), observations(), st.none() | st.integers(3, 12))
def test_merging_is_observing_both(
    a: Array, b: Array, mantissa_bits: int | None
) -> None:
    together = observe_all([a, b], mantissa_bits)
    merged = observe_all([a], mantissa_bits) + observe_all([b], mantissa_bits)
    assert merged.to_bytes() == together.to_bytes()


@given(histograms(), histograms())
def test_merging_commutes(a: qc.Histogram, b: qc.Histogram) -> None:
    assert (a + b).to_bytes() == (b + a).to_bytes()


@given(histograms(), histograms(), histograms())
def test_merging_is_associative(
    a: qc.Histogram, b: qc.Histogram, c: qc.Histogram
) -> None:
    left, right = (a + b) + c, a + (b + c)
    assert left.to_bytes() == right.to_bytes()
    assert left == right == sum([a, b, c], qc.Histogram())


@given(histograms())
def test_a_new_histogram_is_the_identity_of_merging(h: qc.Histogram) -> None:
    before = h.to_bytes()
    assert (h + qc.Histogram()).to_bytes() == before
    assert (qc.Histogram() + h).to_bytes() == before
    assert sum([h], qc.Histogram()).to_bytes() == before
    assert sum([h]) == h  # starts from 0
    h.merge(qc.Histogram())
    assert h.to_bytes() == before


@given(histograms(), histograms())
def test_adding_leaves_the_operands_alone_and_merging_changes_one(
    a: qc.Histogram, b: qc.Histogram
) -> None:
    before, other = a.to_bytes(), b.to_bytes()
    total = a + b
    assert (a.to_bytes(), b.to_bytes()) == (before, other)
    a.merge(b)
    assert a == total
    assert b.to_bytes() == other


@given(histograms())
def test_merging_with_itself_doubles(h: qc.Histogram) -> None:
    counts = h.bins()[2]
    total = h.count
    h.merge(h)
    assert h.count == 2 * total
    np.testing.assert_array_equal(h.bins()[2], 2 * counts)


@given(st.lists(observations(), max_size=3), st.integers(3, 12), st.integers(3, 12))
def test_coarsening_is_observing_at_that_resolution(
    parts: list[Array], a: int, b: int
) -> None:
    fine, coarse = max(a, b), min(a, b)
    want = observe_all(parts, coarse).to_bytes()
    assert observe_all(parts, fine).coarsen(coarse).to_bytes() == want
    merged = observe_all(parts[:1], fine) + observe_all(parts[1:], coarse)
    assert merged.to_bytes() == want


@given(observations(), st.integers(3, 7))
def test_coarsening_what_follows_the_data_is_observing_at_that_resolution(
    x: Array, mantissa_bits: int
) -> None:
    coarse = qc.Histogram().observe(x).coarsen(mantissa_bits)
    assert coarse == qc.Histogram(mantissa_bits).observe(x)


@given(histograms())
def test_equality_is_equality_of_bytes(h: qc.Histogram) -> None:
    copy = qc.Histogram.from_bytes(h.to_bytes())
    assert copy == h
    assert copy.to_bytes() == h.to_bytes()
    copy.observe(f32([0.0]))
    assert copy != h
    assert copy.to_bytes() != h.to_bytes()


@given(histograms(), histograms())
def test_a_copy_through_bytes_behaves_as_the_original(
    h: qc.Histogram, more: qc.Histogram
) -> None:
    copy = qc.Histogram.from_bytes(h.to_bytes())
    assert (copy + more).to_bytes() == (h + more).to_bytes()
    for share in (0.0, 0.3, 1.0):
        assert copy.quantile(share) == h.quantile(share)
    assert (copy.exact, copy.mantissa_bits) == (h.exact, h.mantissa_bits)


@given(histograms())
def test_counts_always_add_up(h: qc.Histogram) -> None:
    assert h.count == h.finite + h.nan + h.posinf + h.neginf
    assert h.bins()[2].sum() == h.finite
    assert h.zeros <= h.finite


# Scaling by a power of two.


def assert_scales(x: Array, k: int) -> None:
    h, scaled = qc.Histogram().observe(x), qc.Histogram().observe(np.ldexp(x, k))
    factor = 2.0**k
    for name in samples.STRATEGIES:
        for format, symmetric in samples.TARGETS:
            p = qc.calibrate(h, name, format=format, symmetric=symmetric)
            q = qc.calibrate(scaled, name, format=format, symmetric=symmetric)
            got = (q.scale, q.zero_point, q.low, q.high)
            want = (p.scale * factor, p.zero_point, p.low * factor, p.high * factor)
            assert got == want, (name, format, symmetric)


@given(normals, st.integers(-20, 20))
def test_scaling_the_data_by_a_power_of_two_scales_every_range_exactly(
    x: Array, k: int
) -> None:
    assume(x.any())
    assert_scales(x, k)


@pytest.mark.parametrize("name", samples.SHAPES)
@pytest.mark.parametrize("k", [-20, -1, 7, 20])
def test_scaling_activations_by_a_power_of_two_scales_every_range_exactly(
    name: str, k: int
) -> None:
    x = samples.shape(name, 20_000)
    assert_scales(x, k)


@given(normals, st.integers(-20, 20))
def test_scaling_the_data_by_a_power_of_two_scales_the_answers_exactly(
    x: Array, k: int
) -> None:
    h, scaled = qc.Histogram().observe(x), qc.Histogram().observe(np.ldexp(x, k))
    for share in (0.0, 0.1, 0.5, 0.99, 1.0):
        value, magnitude = h.quantile(share), h.abs_quantile(share)
        assert value is not None
        assert magnitude is not None
        assert scaled.quantile(share) == value * 2.0**k
        assert scaled.abs_quantile(share) == magnitude * 2.0**k
    assert scaled.kurtosis() == h.kurtosis()
