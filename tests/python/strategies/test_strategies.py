"""Strategies: their documented ranges, their names, and the rules that choose them."""

from __future__ import annotations

import dataclasses
import math
import pickle
from fractions import Fraction

import numpy as np
import pytest

import oracles
import quantcal as qc
import samples
from quantcal.strategies import names
from samples import INT8, UINT8, f32

PERCENTILES = [99.9, 99.99, 99.0, 50.0, 95.5, 100.0]


@pytest.mark.filterwarnings("ignore:.*no finite value")
@pytest.mark.parametrize(("format", "symmetric"), samples.TARGETS)
@pytest.mark.parametrize("strategy", samples.STRATEGIES)
@pytest.mark.parametrize("name", samples.ODD)
def test_every_array_gives_a_finite_positive_scale(
    name: str, strategy: str, format: str, symmetric: bool
) -> None:
    x = samples.ODD[name]
    cal = qc.Calibrator()
    cal.observe("odd", x)
    table = cal.compute(strategy, format=format, symmetric=symmetric)
    p, report = table["odd"], table.report["odd"]
    assert np.finfo(np.float32).tiny <= p.scale <= samples.MAX
    assert np.isfinite([p.low, p.high]).all()
    assert p.low <= 0 <= p.high
    assert p.low < p.high
    assert oracles.QMIN[format] <= p.zero_point <= oracles.QMAX[format]
    assert p.dequantize(p.quantize(np.zeros(1, dtype=np.float32))).tolist() == [0.0]
    assert p.quantize(x).shape == x.shape
    assert report.count == x.size
    assert report.nan == np.isnan(x).sum()
    assert report.posinf == np.isposinf(x).sum()
    assert report.neginf == np.isneginf(x).sum()
    assert 0 <= report.clipped <= 1
    assert 0 <= report.rounded_to_zero <= 1
    assert report.mse >= 0
    assert not math.isnan(report.sqnr_db)


@pytest.mark.parametrize("name", samples.SHAPES)
def test_minmax_is_the_finite_extremes_exactly(name: str) -> None:
    x = samples.shape(name, 5000)
    x[:3] = np.nan, np.inf, -np.inf
    finite = x[np.isfinite(x)]
    h = qc.Histogram(3).observe(x)
    assert qc.MinMax().range(h, UINT8) == (finite.min(), finite.max())


@pytest.mark.parametrize("dtype", samples.EXACT_BITS)
@pytest.mark.parametrize("percentile", PERCENTILES)
def test_symmetric_percentiles_of_sixteen_bit_data_are_order_statistics(
    percentile: float, dtype: str
) -> None:
    x = samples.shape("student_t3", 20_000).astype(samples.DTYPES[dtype])
    h = qc.Histogram().observe(x)
    low, high = qc.Percentile(percentile).range(h, INT8)
    q = float(f"{percentile}e-2")
    assert high == oracles.order_statistic(np.abs(samples.widened(x)), q)
    assert low == -high


@pytest.mark.parametrize("size", [1, 2, 1000, 10_007, 20_000, 200_000])
@pytest.mark.parametrize("percentile", PERCENTILES)
def test_affine_percentiles_cut_half_of_the_rest_on_either_side(
    percentile: float, size: int
) -> None:
    x = samples.shape("student_t3", size, seed=size).astype(np.float16)
    h = qc.Histogram().observe(x)
    found = qc.Percentile(percentile).range(h, UINT8)
    tail = (100 - Fraction(str(percentile))) / 200
    ranks = [max(1, math.ceil(share * size)) for share in (tail, 1 - tail)]
    ordered = np.sort(samples.widened(x))
    assert found == (ordered[ranks[0] - 1], ordered[ranks[1] - 1])


@pytest.mark.parametrize("percentile", PERCENTILES)
def test_percentiles_of_float32_are_within_a_bin(percentile: float) -> None:
    x = samples.shape("laplace", 20_000)
    q = float(f"{percentile}e-2")
    _, got = qc.Percentile(percentile).range(qc.Histogram().observe(x), INT8)
    # A bin is 2^-8 of its lower end.
    assert got == pytest.approx(oracles.order_statistic(np.abs(x), q), rel=2.0**-8)


def test_a_percentile_of_100_clips_nothing() -> None:
    x = samples.shape("outliers", 5000)
    h = qc.Histogram().observe(x)
    assert qc.Percentile(100).range(h, UINT8) == (x.min(), x.max())
    end = np.abs(x).max()
    assert qc.Percentile(100).range(h, INT8) == (-end, end)


def test_percentiles_clip_the_share_that_they_name() -> None:
    x = samples.shape("student_t3", 100_000)
    for percentile in (99.0, 99.9, 99.99):
        p = qc.calibrate(x, qc.Percentile(percentile), format="uint8")
        clipped = ((x < p.low) | (x > p.high)).mean()
        # A bin (0.4 %) and half a step of 255 move each end by less than 1 %, and the density of
        # a t(3) tail falls with the fourth power of x; the order statistics stay inside.
        assert clipped == pytest.approx(1 - percentile / 100, rel=0.1, abs=2 / x.size)


def test_an_outlier_is_clipped_as_far_as_each_method_says() -> None:
    size, outlier = 100_000, 60.0
    x = samples.shape("gaussian", size)
    x[0] = outlier
    assert qc.calibrate(x, "minmax").high == pytest.approx(outlier)
    # Clipping costs (outlier - T)² / size and rounding (T / 127)² / 12 a value: the sum is minimal
    # here. Jags of the rounding error move the optimum by about a hundredth.
    best = outlier / (1 + size / (127**2 * 12))
    assert qc.calibrate(x, "mse").high == pytest.approx(best, rel=0.03)
    assert qc.calibrate(x, "percentile_99.99").high < 6
    assert qc.calibrate(x, "kl").high < 10


def test_kl_resolution_is_an_option() -> None:
    x = samples.shape("laplace", 50_000)
    coarse, fine = (qc.calibrate(x, "kl", num_bins=n) for n in (256, 4096))
    end = np.abs(x).max()
    for p, num_bins in ((coarse, 256), (fine, 4096)):
        # The threshold is an edge of the view, to the precision of a float32 scale.
        position = p.high / end * num_bins
        assert position == pytest.approx(round(position), rel=1e-6)
    assert coarse != fine


NAMES: dict[str, qc.Strategy] = {
    "auto": qc.Auto(),
    "minmax": qc.MinMax(),
    "percentile": qc.Percentile(99.99),
    "percentile_99.9": qc.Percentile(99.9),
    "percentile_99": qc.Percentile(99),
    "kl": qc.KL(2048),
    "kl_divergence": qc.KL(),
    "mse": qc.MSE(),
    "percentile_adaptive": qc.Percentile(adaptive=True),
    "entropy": qc.MaxEntropy(),
    "max_entropy": qc.MaxEntropy(),
    "aciq": qc.ACIQ(),
    "hybrid": qc.Hybrid(qc.Percentile(99.99), qc.KL()),
    "softmax": qc.Fixed(0, 1),
}


@pytest.mark.parametrize("name", NAMES)
def test_a_name_is_the_object_that_it_names(name: str) -> None:
    x = samples.shape("skewed", 5000)
    by_name, by_object = (
        qc.calibrate(x, s, format="uint8") for s in (name, NAMES[name])
    )
    assert by_name == by_object
    assert by_name.strategy == str(NAMES[name])


OPTIONS: dict[str, qc.Strategy] = {
    "minmax(mean)": qc.MinMax("mean"),
    "percentile_99_each": qc.Percentile(99, "each"),
    "percentile_adaptive_each": qc.Percentile(tails="each", adaptive=True),
    "kl(num_bins=512)": qc.KL(512),
    "kl(num_levels=64, two_sided=True)": qc.KL(num_levels=64, two_sided=True),
    "mse(p=2.4)": qc.MSE(2.4),
    "mse(newton)": qc.MSE(newton=True),
    "aciq(half_gauss)": qc.ACIQ("half_gauss"),
    "aciq(laplace, closed_form)": qc.ACIQ("laplace", "closed_form"),
    "hybrid(minmax(mean), mse)": qc.Hybrid(qc.MinMax("mean"), "mse"),
    "fixed(-0.5, 2)": qc.Fixed(-0.5, 2),
}
"""The names that tables show, of strategies with options."""


def test_the_name_in_the_table_makes_the_same_strategy_again() -> None:
    for strategy in NAMES.values():
        if not isinstance(strategy, (qc.Hybrid, qc.Fixed)):
            x = samples.shape("skewed", 500)
            assert qc.calibrate(x, str(strategy)) == qc.calibrate(x, strategy)
    assert {str(strategy): strategy for strategy in OPTIONS.values()} == OPTIONS


def test_all_known_names_are_listed() -> None:
    assert set(names()) == {
        "auto",
        "minmax",
        "percentile",
        "percentile_adaptive",
        "percentile_<number>",
        "kl",
        "kl_divergence",
        "mse",
        "entropy",
        "max_entropy",
        "aciq",
        "hybrid",
        "fixed",
        "softmax",
    }


def test_options_go_with_a_name() -> None:
    x = samples.shape("student_t3", 5000)
    assert qc.calibrate(x, "percentile", percentile=99) == qc.calibrate(
        x, "percentile_99"
    )


@pytest.mark.parametrize("strategy", [s for k, s in NAMES.items() if k != "percentile"])
def test_strategies_are_frozen_values(strategy: qc.Strategy) -> None:
    fields = dataclasses.fields(strategy)  # type: ignore[arg-type]
    options = {field.name: getattr(strategy, field.name) for field in fields}
    assert strategy == type(strategy)(**options)
    assert hash(strategy) == hash(type(strategy)(**options))
    assert pickle.loads(pickle.dumps(strategy)) == strategy
    assert isinstance(strategy, qc.Strategy)
    for field in fields:
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(strategy, field.name, 1)


class Fixed:
    """A strategy of the user's own."""

    def __init__(self, low: float, high: float) -> None:
        self.ends = (low, high)

    def range(
        self, histogram: qc.Histogram, format: qc.QuantFormat
    ) -> tuple[float, float]:
        return self.ends

    def __str__(self) -> str:
        return "fixed by hand"


def test_a_strategy_of_ones_own_is_used_and_named() -> None:
    p = qc.calibrate(f32([5.0]), Fixed(0.0, 2.55), format="uint8")
    assert p == qc.QuantParams.from_range(
        0.0, 2.55, format="uint8", strategy="fixed by hand"
    )


def test_the_first_rule_that_matches_decides() -> None:
    cal = qc.Calibrator()
    for name in ("embedding.0", "block.1.ffn.down", "block.1.ffn.up", "x[0]", "out"):
        cal.observe(name, samples.shape("student_t3", 2000))
    rules: dict[str, str | qc.Strategy] = {
        "embedding*": "minmax",
        "x[0]": qc.KL(256),
        "*ffn.down": "percentile_99.9",
        "block.?.ffn.*": "kl",
        "*": qc.MSE(),
    }
    table = cal.compute(rules, format="uint8")
    assert {name: table[name].strategy for name in table} == {
        "embedding.0": "minmax",
        "block.1.ffn.down": "percentile_99.9",
        "block.1.ffn.up": "kl",
        "x[0]": "kl(num_bins=256)",
        "out": "mse",
    }
    assert {name: r.rule for name, r in table.report.items()} == {
        "embedding.0": "embedding*",
        "block.1.ffn.down": "*ffn.down",
        "block.1.ffn.up": "block.?.ffn.*",
        "x[0]": "x[0]",
        "out": "*",
    }


def test_a_rule_decides_as_the_strategy_alone_would() -> None:
    cal = qc.Calibrator()
    for name in ("a", "b"):
        cal.observe(name, samples.shape("laplace", 2000))
    table = cal.compute({"a": "kl", "*": "mse"})
    assert table["a"] == cal.compute("kl")["a"]
    assert table["b"] == cal.compute("mse")["b"]
