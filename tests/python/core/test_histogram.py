"""The histogram's numbers are those of the data, by plain numpy oracles."""

from __future__ import annotations

import numpy as np
import pytest

import oracles
import quantcal as qc
import samples
from samples import Array, f32

SHARES = [0.0, 1e-4, 0.001, 0.01, 0.3, 0.5, 0.75, 0.9, 0.99, 0.999, 0.9999, 1.0]


def signed(size: int = 30_000, seed: int = 2) -> Array:
    """Return heavy-tailed float32 values of both signs, some zero."""
    x = samples.shape("student_t3", size, seed)
    x[::50] = 0.0
    x[1::50] = -0.0
    return x


def octave_bin(x: float, mantissa_bits: int) -> tuple[bool, int]:
    """Return the sign and bin number of a normal number: the top bits of its float64."""
    bits = int(np.float64(abs(x)).view(np.uint64))
    return x < 0, bits >> (52 - mantissa_bits)


@pytest.mark.parametrize("mantissa_bits", range(3, 13))
@pytest.mark.parametrize("values", [signed(), samples.any_bits(30_000)])
def test_counts_per_bin_are_those_of_the_top_bits(
    values: Array, mantissa_bits: int
) -> None:
    h = qc.Histogram(mantissa_bits).observe(values)
    low, high, counts = h.bins()
    want = oracles.bins(values, mantissa_bits)
    assert counts.dtype == np.uint64
    assert counts.tolist() == [count for _, _, count in want]
    # Each bin encloses its values and no neighbor's, within the data's extremes.
    assert all(
        a <= smallest and largest <= b
        for a, b, (smallest, largest, _) in zip(low, high, want, strict=True)
    )
    assert (low[1:] >= high[:-1]).all()
    assert (low[0], high[-1]) == (want[0][0], want[-1][1])


@pytest.mark.parametrize("name", samples.EXACT_BITS)
def test_sixteen_bit_data_come_back_value_by_value(name: str) -> None:
    """All 65536 patterns, each as often as its position says."""
    patterns = np.arange(1 << 16, dtype=np.uint16).view(samples.DTYPES[name])
    data = np.repeat(patterns, 1 + np.arange(1 << 16) % 3)
    h = qc.Histogram().observe(data)
    assert h.exact
    assert h.mantissa_bits == samples.EXACT_BITS[name]
    values, counts = np.unique(samples.widened(data), return_counts=True)
    low, high, got = h.bins()
    np.testing.assert_array_equal(low, values)
    np.testing.assert_array_equal(high, values)
    np.testing.assert_array_equal(got, counts)


@pytest.mark.parametrize("dtype", samples.DTYPES.values(), ids=samples.DTYPES)
def test_every_value_is_counted_where_it_belongs(dtype: np.dtype) -> None:
    x = samples.cast(samples.any_bits(200_000, seed=3), dtype)
    h = qc.Histogram().observe(x)
    f = samples.cast(x, np.dtype(np.float32))
    finite = f[np.isfinite(f)]
    assert h.count == x.size
    assert h.finite == finite.size
    assert h.nan == np.isnan(f).sum()
    assert h.posinf == np.isposinf(f).sum()
    assert h.neginf == np.isneginf(f).sum()
    assert h.zeros == (f == 0).sum()
    assert (h.min, h.max) == (finite.min(), finite.max())
    assert h.bins()[2].sum() == finite.size


@pytest.mark.parametrize("size", [1, 5000])
def test_the_extremes_are_never_negative_zero(size: int) -> None:
    h = qc.Histogram().observe(np.full(size, -0.0, dtype=np.float32))
    extremes = np.array([h.min, h.max], dtype=np.float64)
    assert np.signbit(extremes).tolist() == [False, False]
    assert h == qc.Histogram().observe(np.zeros(size, dtype=np.float32))
    assert h.zeros == size


def test_float64_beyond_float32_is_counted_as_infinite_and_below_it_as_zero() -> None:
    h = qc.Histogram().observe(np.array([1e300, -1e300, 1e-300, 1.5]))
    assert (h.posinf, h.neginf, h.zeros, h.finite) == (1, 1, 1, 2)
    assert (h.min, h.max) == (0.0, 1.5)


def test_float64_is_rounded_to_the_nearest_float32() -> None:
    x = np.random.default_rng(0).normal(size=10_000)
    assert qc.Histogram().observe(x) == qc.Histogram().observe(x.astype(np.float32))


@pytest.mark.parametrize(
    ("values", "exact"),
    [
        (np.arange(-512, 513), True),
        (np.array([0.375, -3e30]), False),
        (np.full(5, 0.1), False),
        (np.full(5, 0.75), True),
    ],
)
def test_float32_is_known_to_be_exact_when_its_low_bits_are_empty(
    values: Array, exact: bool
) -> None:
    assert qc.Histogram().observe(values.astype(np.float32)).exact is exact


def test_a_histogram_of_nothing_answers_none() -> None:
    empty = qc.Histogram()
    nothing_finite = qc.Histogram().observe(f32([np.nan, np.inf]))
    for h in (empty, nothing_finite):
        assert h.finite == 0
        answers = (
            h.min,
            h.max,
            h.quantile(0.5),
            h.abs_quantile(0.5),
            h.mean(),
            h.std(),
        )
        assert set(answers) == {None}
        assert h.kurtosis() is None
        assert h.mean_abs_deviation() is None
        assert [a.size for a in h.bins()] == [0, 0, 0]
        assert h.rebin(3, -1.0, 1.0)[0].tolist() == [0, 0, 0]
    assert empty.mantissa_bits is None
    assert empty.count == 0


@pytest.mark.parametrize("name", samples.EXACT_BITS)
@pytest.mark.parametrize("q", SHARES)
def test_quantiles_of_sixteen_bit_data_are_order_statistics(
    name: str, q: float
) -> None:
    x = signed(10_007).astype(samples.DTYPES[name])
    h = qc.Histogram().observe(x)
    f = samples.widened(x)
    assert h.quantile(q) == oracles.order_statistic(f, q)
    assert h.abs_quantile(q) == oracles.order_statistic(np.abs(f), q)


@pytest.mark.parametrize("size", [1, 2, 3, 10, 1000, 20_000])
def test_quantiles_at_whole_ranks_take_that_rank(size: int) -> None:
    """0.999 · 1000 is rank 999, though the product in float64 may be a little more."""
    x = (1 + np.random.default_rng(size).permutation(size)).astype(np.float32)
    h = qc.Histogram(12).observe(x)
    exact = size <= 4096
    for q in SHARES + [k / 1000 for k in range(1, 1000, 7)]:
        want = oracles.order_statistic(x, q)
        got = h.quantile(q)
        assert got is not None
        if exact:
            assert got == want
        else:
            assert octave_bin(got, 12) == octave_bin(want, 12)


@pytest.mark.parametrize("mantissa_bits", [3, 8, 12])
@pytest.mark.parametrize("q", SHARES)
def test_quantiles_of_float32_are_in_the_bin_of_the_order_statistic(
    mantissa_bits: int, q: float
) -> None:
    x = signed()
    h = qc.Histogram(mantissa_bits).observe(x)
    for data, got in ((x, h.quantile(q)), (np.abs(x), h.abs_quantile(q))):
        want = oracles.order_statistic(data, q)
        assert got is not None
        if want == 0:
            assert got == 0
        else:
            assert octave_bin(got, mantissa_bits) == octave_bin(want, mantissa_bits)


def test_the_outermost_quantiles_are_the_exact_extremes() -> None:
    x = samples.shape("gaussian", 5000)
    h = qc.Histogram(3).observe(x)
    assert (h.quantile(0.0), h.quantile(1.0)) == (x.min(), x.max())
    assert h.abs_quantile(1.0) == np.abs(x).max()


def test_quantiles_rise() -> None:
    h = qc.Histogram(4).observe(signed(3000))
    for quantile in (h.quantile, h.abs_quantile):
        values = [quantile(q) for q in np.linspace(0, 1, 2001)]
        assert (np.diff(np.array(values, dtype=np.float64)) >= 0).all()


@pytest.mark.parametrize("name", samples.EXACT_BITS)
@pytest.mark.parametrize("distribution", samples.SHAPES)
def test_moments_of_sixteen_bit_data_are_those_of_the_data(
    distribution: str, name: str
) -> None:
    x = samples.shape(distribution, 50_000).astype(samples.DTYPES[name])
    h = qc.Histogram().observe(x)
    for moment, want in oracles.moments(samples.widened(x)).items():
        # Both are float64 sums of 5·10^4 terms, in different order.
        assert getattr(h, moment)() == pytest.approx(want, rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("distribution", samples.SHAPES)
def test_moments_of_float32_are_within_the_bins_resolution(distribution: str) -> None:
    x = samples.shape(distribution, 50_000)
    want = oracles.moments(x)
    for mantissa_bits in (8, 12):
        h = qc.Histogram(mantissa_bits).observe(x)
        # A value moves by at most a bin, 2^-m of itself; the powers of a moment multiply that.
        # Moves cancel inside a bin, but for a tail of single values they need not.
        step = 2.0**-mantissa_bits
        for moment, power in (
            ("std", 1),
            ("mean_abs_deviation", 1),
            ("kurtosis", 4),
        ):
            got = getattr(h, moment)()
            assert got == pytest.approx(want[moment], rel=power * step)
        assert h.mean() == pytest.approx(want["mean"], abs=step * want["std"])


def test_moments_of_a_constant_have_no_spread() -> None:
    h = qc.Histogram().observe(np.full(10, 0.75, dtype=np.float32))
    spread = (h.std(), h.mean_abs_deviation(), h.kurtosis())
    assert (h.mean(), spread) == (0.75, (0.0, 0.0, 0.0))


INTERVALS = [
    (-3.0, 3.0),
    (0.0, 1.0),
    (-1e9, 1e9),
    (0.3, 0.7),
    (-5.1, -0.2),
    (100.0, 101.0),
]


@pytest.mark.parametrize("name", samples.EXACT_BITS)
@pytest.mark.parametrize("num_bins", [1, 2, 7, 256, 2048])
def test_a_uniform_view_of_sixteen_bit_data_is_numpys_histogram(
    name: str, num_bins: int
) -> None:
    x = signed().astype(samples.DTYPES[name])
    h = qc.Histogram().observe(x)
    f = samples.widened(x).astype(np.float64)
    for interval in [*INTERVALS, (f.min(), f.max()), (0.0, f.max())]:
        counts, edges = h.rebin(num_bins, *interval)
        want, want_edges = np.histogram(f, num_bins, interval)
        np.testing.assert_array_equal(edges, want_edges)
        np.testing.assert_array_equal(counts, want)
        assert counts.dtype == np.uint64


@pytest.mark.parametrize("num_bins", [1, 2, 3, 64, 1000, 1 << 17])
def test_a_uniform_view_of_float32_conserves_every_value(num_bins: int) -> None:
    x = signed()
    h = qc.Histogram().observe(x)
    low, high = float(x.min()), float(x.max())
    for ends in ((low, high), (low - 1, high + 5), (-1e30, 1e30), (-3.4e38, 3.4e38)):
        assert h.rebin(num_bins, *ends)[0].sum() == x.size
    for ends in INTERVALS:
        counts, _ = h.rebin(num_bins, *ends)
        # The sum depends on the two ends only, not on how many bins are between.
        assert counts.sum() == h.rebin(1, *ends)[0].sum()
        # What is not certain are the values in the two bins (2^-8 of the value wide) of the ends.
        reach = [abs(end) * 2.0**-8 for end in ends]
        near = sum(
            int((np.abs(x - end) <= r).sum())
            for end, r in zip(ends, reach, strict=True)
        )
        inside = int(((x >= ends[0]) & (x <= ends[1])).sum())
        assert abs(int(counts.sum()) - inside) <= near


def test_a_finer_uniform_view_adds_up_to_a_coarser_one() -> None:
    h = qc.Histogram().observe(signed())
    fine, _ = h.rebin(1024, -8.0, 8.0)
    coarse, _ = h.rebin(64, -8.0, 8.0)
    np.testing.assert_array_equal(fine.reshape(64, 16).sum(axis=1), coarse)


def test_a_uniform_view_of_one_point_holds_its_values() -> None:
    h = qc.Histogram().observe(f32([1.0, 2.0, 2.0, 3.0]))
    assert h.rebin(3, 2.0, 2.0)[0].tolist() == [0, 0, 2]


def test_the_repr_shows_what_matters() -> None:
    h = qc.Histogram().observe(f32([1.5, -2.0, np.nan, np.inf, -np.inf]))
    text = "Histogram(count=5, min=-2, max=1.5, nan=1, posinf=1, neginf=1, mantissa_bits=8)"
    assert repr(h) == text
    assert repr(qc.Histogram()) == "Histogram(count=0)"


def test_memory_follows_the_octaves_that_are_filled() -> None:
    narrow = qc.Histogram().observe(f32([1.0, 1.5]))
    wide = qc.Histogram().observe(samples.any_bits(10_000))
    assert 0 < narrow.nbytes < 1 << 10
    # 510 finite octaves of 256 counters of one byte, or of five when counts exceed 255.
    assert narrow.nbytes < wide.nbytes < 200 << 10
    for seed in range(20):
        wide.observe(samples.any_bits(10_000, seed))
    assert wide.nbytes < 200 << 10
    for _ in range(4):
        wide.observe(np.repeat(samples.any_bits(10_000), 256))
    assert wide.nbytes < 1 << 20


def test_a_histogram_equals_only_histograms() -> None:
    h = qc.Histogram().observe(f32([1.0]))
    assert h == qc.Histogram().observe(f32([1.0]))
    assert h != qc.Histogram().observe(f32([1.25]))
    assert h != qc.Histogram(8).observe(f32([1.0]))  # its resolution is fixed
    assert h != "a histogram"
    assert h != 0


def test_observe_returns_the_histogram_itself() -> None:
    h = qc.Histogram()
    assert h.observe(f32([1.0])) is h


@pytest.mark.parametrize("mantissa_bits", [None, 3, 8, 12])
@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("value", [1.4e-45, 4e-41, 1e-39, 1.17549421e-38])
def test_a_subnormal_beside_zeros_lies_in_its_bin(
    value: float, sign: int, mantissa_bits: int | None
) -> None:
    x = f32([0.0, sign * value, sign * 1.0])
    h = qc.Histogram(mantissa_bits).observe(x)
    tiny = float(x[1])
    low, high, count = h.bins()
    assert count.tolist() == [1, 1, 1]
    assert count[(low <= tiny) & (tiny <= high)].sum() == 1
    assert low[1] < high[1] or not h.exact
    # The middle value of three is in the bin, above zero in size.
    assert 0 < abs(h.quantile(0.5)) < 2e-38
    assert 0 < h.abs_quantile(0.5) < 2e-38
    # No part of it is zero, and nothing else is in it.
    edge = float(max(abs(low[1]), abs(high[1])))
    inside = h.cut(*sorted([sign * 1e-46, sign * edge]))
    assert (inside.count, inside.zeros) == (1, 0)
    assert 0 < abs(inside.min) <= edge
    assert h.cut(0.0, 0.0).count == 1
    for part in (inside, h.cut(-1, 1), h.coarsen(3)):
        assert qc.Histogram.from_bytes(part.to_bytes()) == part
    counts, _ = h.rebin(3, -1.5, 1.5)
    assert counts.tolist() == ([0, 2, 1] if sign > 0 else [1, 2, 0])
    assert h.mean() == pytest.approx(sign / 3)


def test_a_lone_value_below_an_extreme_at_the_next_edge_lies_in_its_own_bin() -> None:
    edge = 1 + 2.0**-8
    for sign in (1, -1):
        low, high, count = qc.Histogram().observe(sign * f32([0.3, 1.001, edge])).bins()
        middle = sorted([sign * 1.0, sign * edge])
        assert (low[1], high[1], count[1]) == (*middle, 1)
