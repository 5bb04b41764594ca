"""What holds for every strategy and every format: laws, odd data, names, files."""

from __future__ import annotations

import itertools
import pickle
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

import oracles
import quantcal as qc
import samples
from drawn import normals
from quantcal.formats import FORMATS
from quantcal.strategies import names, resolve
from samples import METHODS, Array

POWERS = [
    qc.QuantFormat(format.name, power_of_two=True) for format in samples.KINDS[::2]
]
FIXED = {"fixed(-0.5, 1)": qc.Fixed(-0.5, 1), "fixed(0, 1)": qc.Fixed(0, 1)}


def calibrator(*parts: Array) -> qc.Calibrator:
    cal = qc.Calibrator()
    for part in parts:
        cal.observe("x", part)
    return cal


# Scaling by a power of two.


def assert_scales(
    parts: list[Array], k: int, method: str, formats: list[qc.QuantFormat]
) -> None:
    here, there = calibrator(*parts), calibrator(*(np.ldexp(p, k) for p in parts))
    for format in formats:
        p, q = (
            cal.compute(METHODS[method], format=format)["x"] for cal in (here, there)
        )
        got = (q.scale, q.zero_point, q.low, q.high)
        factor = 2.0**k
        want = (p.scale * factor, p.zero_point, p.low * factor, p.high * factor)
        assert got == want, (method, str(format))


@given(
    st.lists(normals, min_size=1, max_size=3),
    st.integers(-20, 20),
    st.sampled_from([*samples.KINDS, *POWERS]),
)
@pytest.mark.parametrize("method", METHODS)
def test_scaling_the_data_by_a_power_of_two_scales_the_range_exactly(
    method: str, parts: list[Array], k: int, format: qc.QuantFormat
) -> None:
    assume(np.concatenate(parts).any())
    assert_scales(parts, k, method, [format])


@pytest.mark.parametrize("k", [-20, 1, 13])
@pytest.mark.parametrize("method", METHODS)
def test_scaling_activations_by_a_power_of_two_scales_the_range_exactly(
    method: str, k: int
) -> None:
    for name in samples.SHAPES:
        parts = [samples.shape(name, 2000, seed) for seed in range(3)]
        assert_scales(parts, k, method, [*samples.KINDS, *POWERS])


# Splits and merges.


@given(st.randoms(use_true_random=False), st.sampled_from(sorted(samples.SHAPES)))
@pytest.mark.parametrize("method", METHODS)
def test_the_order_and_the_merging_of_observations_do_not_matter(
    method: str, random: np.random.RandomState, name: str
) -> None:
    parts = np.array_split(samples.shape(name, 1000), 7)
    want = calibrator(*parts).compute(METHODS[method])
    shuffled = random.sample(parts, len(parts))  # type: ignore[attr-defined]
    at = random.randint(0, len(parts))
    merged = calibrator(*shuffled[:at]) + calibrator(*shuffled[at:])
    assert merged.compute(METHODS[method]) == want


# The mean and the median of the extremes depend on the split, as documented.
WHOLE = [m for m in METHODS if "mean" not in m and "median" not in m]


@pytest.mark.parametrize("method", WHOLE)
def test_how_values_are_split_does_not_matter(method: str) -> None:
    x = samples.shape("skewed", 3000)
    want = calibrator(x).compute(METHODS[method])["x"]
    for count in (2, 30):
        parts = np.array_split(x, count)
        assert calibrator(*parts).compute(METHODS[method])["x"] == want
    assert qc.calibrate(x, METHODS[method]) == want


# Odd data.

ODD = [
    "empty",
    "zero",
    "constant",
    "negative constant",
    "single element",
    "denormal only",
    "smallest denormal",
    "largest float",
    "both largest floats",
    "NaN only",
    "NaN among values",
    "one outlier",
    "all bits",
]


@pytest.mark.filterwarnings("ignore:.*no finite value")
@pytest.mark.parametrize("power_of_two", [False, True])
@pytest.mark.parametrize("method", [*METHODS, *FIXED])
@pytest.mark.parametrize("format", FORMATS)
def test_odd_data_give_a_finite_positive_scale_on_every_format(
    format: str, method: str, power_of_two: bool
) -> None:
    cal = qc.Calibrator()
    for name in ODD:
        cal.observe(name, samples.ODD[name])
    chosen = qc.QuantFormat(format, power_of_two=power_of_two)
    table = cal.compute(METHODS.get(method) or FIXED[method], format=chosen)
    lowest, highest = oracles.ends(format)
    for name, p in table.items():
        report = table.report[name]
        assert np.finfo(np.float32).tiny <= p.scale <= samples.MAX, name
        assert np.isfinite([p.low, p.high]).all(), name
        assert p.low <= 0 <= p.high, name
        assert p.low < p.high, name
        assert lowest <= p.zero_point <= highest, name
        assert 0 <= report.clipped <= 1, name
        assert 0 <= report.rounded_to_zero <= 1, name
        assert report.mse >= 0, name
        assert not np.isnan(report.sqnr_db), name
        assert -1 <= report.cosine <= 1, name
        zero = np.zeros(1, np.float32)
        assert p.dequantize(p.quantize(zero)).tolist() == [0.0], name


@pytest.mark.filterwarnings("ignore:.*no finite value")
@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("method", METHODS)
def test_odd_data_give_a_finite_positive_scale_in_either_scaling(
    method: str, symmetric: bool
) -> None:
    for name, format in itertools.product(ODD, ("int4", "uint8", "uint3")):
        p = qc.calibrate(
            samples.ODD[name], METHODS[method], format=format, symmetric=symmetric
        )
        assert np.finfo(np.float32).tiny <= p.scale <= samples.MAX
        assert p.low < p.high
        assert p.symmetric is symmetric


# Names and files.


def test_every_registered_name_makes_a_strategy() -> None:
    x = samples.shape("laplace", 500)
    for name in names():
        text = name.replace("<number>", "99.5")
        options = {"low": -1, "high": 2} if name == "fixed" else {}
        strategy = resolve(text, **options)
        assert isinstance(strategy, qc.Strategy)
        assert qc.calibrate(x, text, **options) == qc.calibrate(x, strategy)


@pytest.mark.parametrize("kind", ["toml", "json"])
def test_every_strategy_is_read_back_from_a_policy_file(
    kind: str, tmp_path: Path
) -> None:
    everything = {
        **METHODS,
        **FIXED,
        "nested": qc.Hybrid(qc.Hybrid("percentile_99", qc.MSE(2.4)), "entropy"),
        "fixed first": qc.Hybrid(qc.Fixed(-6, 6.5), qc.ACIQ("gauss", "closed_form")),
        "odd number": qc.Percentile(99.12345678),
    }
    policy = qc.Policy({f"{name} *": strategy for name, strategy in everything.items()})
    path = tmp_path / f"policy.{kind}"
    policy.save(path)
    loaded = qc.Policy.load(path)
    assert loaded == policy
    assert [str(s) for _, s in loaded.rules] == [str(s) for _, s in policy.rules]
    assert qc.Policy(policy.to_dict()) == policy
    assert pickle.loads(pickle.dumps(loaded)) == policy


def test_strategies_within_a_strategy_are_written_by_name_and_options(
    tmp_path: Path,
) -> None:
    policy = qc.Policy({"*": qc.Hybrid(qc.MinMax("mean"), "kl")})
    assert policy.to_dict() == {
        "*": {"strategy": "hybrid", "first": {"strategy": "minmax", "reduce": "mean"}}
    }
    path = tmp_path / "policy.toml"
    policy.save(path)
    assert 'first = {strategy = "minmax", reduce = "mean"}' in path.read_text()


def test_a_strategy_within_a_strategy_that_has_no_name_cannot_be_written() -> None:
    class Own:
        def range(
            self, histogram: qc.Histogram, format: qc.QuantFormat
        ) -> tuple[float, float]:
            return 0.0, 1.0

    policy = qc.Policy({"*": qc.Hybrid(Own(), "mse")})
    assert calibrator(np.ones(3, np.float32)).compute(policy)
    with pytest.raises(qc.CalibrationError, match=r"Hybrid\(.* cannot be written"):
        policy.to_dict()
