"""ACIQ: its thresholds, its choice of a distribution, and the figures in its docstring."""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import Any

import numpy as np
import pytest

import oracles
import quantcal as qc
import samples
from samples import INT8, UINT8, Array

SIZE = 50_000


def half_gauss(rng: np.random.Generator, size: int) -> Array:
    return np.maximum(rng.normal(size=size), 0.0)


def half_laplace(rng: np.random.Generator, size: int) -> Array:
    return np.maximum(rng.laplace(size=size), 0.0)


DRAWN = {
    "gauss": samples.gaussian,
    "laplace": samples.laplace,
    "half_gauss": half_gauss,
    "half_laplace": half_laplace,
}


def drawn(name: str, scale: float = 1.0, shift: float = 0.0) -> Array:
    """Return float16 values of a distribution, as float32."""
    x = DRAWN[name](np.random.default_rng(5), SIZE) * scale + shift
    return x.astype(np.float16).astype(np.float32)


def observed(x: Array) -> qc.Histogram:
    return qc.Histogram(10).observe(x.astype(np.float16))


def error(name: str, a: float, bits: int) -> float:
    """Return the expected squared error of clipping at `a` spreads, as the paper states it.

    To be trusted because these are its equations 5 and 6.
    """
    rounding = a * a / (3 * 4**bits)
    if name == "laplace":
        return 2 * math.exp(-a) + rounding
    tail = (1 + a * a) * math.erfc(a / math.sqrt(2))
    return tail - math.sqrt(2 / math.pi) * a * math.exp(-a * a / 2) + rounding


def best(name: str, bits: int) -> float:
    """Return the threshold of minimum error, in spreads, by trying them all."""
    candidates = np.linspace(0.5, 30, 29_501)
    return float(min(candidates, key=lambda a: error(name, a, bits)))


def spread(x: Array, name: str) -> float:
    if name.startswith("half"):
        x = x[x != 0].astype(np.float64)
        return float(
            np.sqrt((x**2).mean()) if name == "half_gauss" else np.abs(x).mean()
        )
    moments = oracles.moments(x)
    return moments["std" if name == "gauss" else "mean_abs_deviation"]


@pytest.mark.parametrize("bits", [2, 3, 4, 6, 8])
@pytest.mark.parametrize("name", ["gauss", "laplace"])
def test_the_range_reaches_the_analytic_threshold_about_the_mean(
    name: Any, bits: int
) -> None:
    x = drawn(name, scale=3.0, shift=0.5)
    reach = best(name, bits) * spread(x, name)
    mean = oracles.moments(x)["mean"]
    affine = qc.ACIQ(name).range(observed(x), qc.QuantFormat(f"uint{bits}"))
    # The best of the candidates is within half of their distance, 0.001 spreads.
    want = max(mean - reach, x.min()), min(mean + reach, x.max())
    assert affine == pytest.approx(want, abs=6e-4 * spread(x, name))
    symmetric = qc.ACIQ(name).range(observed(x), qc.QuantFormat(f"int{bits}"))
    end = max(abs(affine[0]), abs(affine[1]))
    assert symmetric == (-end, end)


@pytest.mark.parametrize("bits", [3, 4, 8])
@pytest.mark.parametrize("name", ["half_gauss", "half_laplace"])
@pytest.mark.parametrize("sign", [1, -1])
def test_half_forms_start_at_zero_with_one_bit_more(
    name: Any, bits: int, sign: int
) -> None:
    x = sign * drawn(name, scale=0.2)
    full = name.removeprefix("half_")
    unit = spread(x, name)
    affine = qc.ACIQ(name).range(observed(x), qc.QuantFormat(f"uint{bits}"))
    reach = min(best(full, bits + 1) * unit, float(np.abs(x).max()))
    want = (0.0, reach) if sign > 0 else (-reach, 0.0)
    assert affine == pytest.approx(want, abs=6e-4 * unit)
    # Symmetric scaling leaves a half form half of the codes: the bit is lost again.
    _, high = qc.ACIQ(name).range(observed(x), qc.QuantFormat(f"int{bits}"))
    reach = min(best(full, bits) * unit, float(np.abs(x).max()))
    assert high == pytest.approx(reach, abs=6e-4 * unit)


@pytest.mark.parametrize("format", ["float8_e4m3fn", "float8_e5m2", "float4_e2m1fn"])
@pytest.mark.parametrize("name", ["gauss", "laplace"])
def test_for_floats_the_error_of_the_distribution_is_least(
    name: Any, format: str
) -> None:
    x = (np.arange(12_000) + 0.5) * 5e-3  # one side, up to 60 spreads
    weights = np.exp(-x if name == "laplace" else -x * x / 2)
    weights /= weights.sum()

    def score(threshold: float) -> float:
        grid = oracles.grid(-threshold, threshold, format, symmetric=True)
        back = oracles.fake_quantize(x, format, *grid)
        return float((weights * (x - back) ** 2).sum())

    minimum = min(score(a) for a in np.geomspace(1, 250, 400))
    data = drawn(name)
    wide = np.append(data, [500, -500]).astype(np.float32)  # so that no value limits it
    _, high = qc.ACIQ(name).range(observed(wide), qc.QuantFormat(format))
    # The sum stands for an integral, in steps of 0.005 spreads.
    assert score(high / spread(wide, name)) <= 1.01 * minimum


@pytest.mark.parametrize("name", DRAWN)
@pytest.mark.parametrize("format", [INT8, UINT8, qc.QuantFormat("float8_e4m3fn")])
def test_the_right_distribution_is_chosen_and_named_in_the_report(
    name: Any, format: qc.QuantFormat
) -> None:
    x = drawn(name, scale=4.0)
    cal = qc.Calibrator()
    cal.observe("x", x)
    table = cal.compute("aciq", format=format)
    reason = table.report["x"].reason
    assert reason.startswith(f"{name}; Kolmogorov distances: {name} 0.0")
    others = {"gauss", "laplace"} | ({name} if name.startswith("half") else set())
    assert all(f"{other} 0." in reason for other in others)
    named = cal.compute(qc.ACIQ(name), format=format)
    assert named["x"].scale == table["x"].scale
    assert named["x"].strategy == f"aciq({name})"


def test_the_kolmogorov_distance_is_that_of_the_raw_values() -> None:
    x = drawn("laplace", scale=2.0)
    normal = NormalDist(*(oracles.moments(x)[key] for key in ("mean", "std")))
    values, counts = np.unique(x.astype(np.float64), return_counts=True)
    cdf = np.array([normal.cdf(value) for value in values])
    after = np.cumsum(counts) / x.size
    before = after - counts / x.size
    want = max(np.abs(cdf - after).max(), np.abs(cdf - before).max())
    reason = qc.ACIQ("gauss").explain(observed(x), INT8)
    assert f"gauss {want:.3f}" in reason


def test_half_forms_are_refused_for_values_on_both_sides() -> None:
    x = np.array([-1.5, 0, 2], np.float32)
    for name in ("half_gauss", "half_laplace"):
        with pytest.raises(
            qc.CalibrationError,
            match=f'"values".*{name} is for values on one side of zero, but they reach '
            "from -1.5 to 2; use",
        ):
            qc.calibrate(x, qc.ACIQ(name))  # type: ignore[arg-type]


@pytest.mark.parametrize("value", [0.0, 2.5, -2.5])
def test_equal_values_have_no_distribution_but_a_range(value: float) -> None:
    cal = qc.Calibrator()
    cal.observe("x", np.full(9, value, np.float32))
    table = cal.compute("aciq", format="uint8")
    assert table["x"].dequantize(
        table["x"].quantize(np.float32([value]))
    ).item() == pytest.approx(value, rel=1e-6)
    assert table.report["x"].reason


# The closed form.


@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize("name", ["gauss", "laplace"])
def test_the_closed_form_is_its_formula(name: Any, bits: int) -> None:
    x = drawn(name, scale=3.0, shift=0.5)
    moments = oracles.moments(x)
    reach = math.sqrt(2 / math.pi) * moments["std"] * math.sqrt(math.log(2**bits))
    want = moments["mean"] - reach, moments["mean"] + reach
    strategy = qc.ACIQ(name, approximation="closed_form")
    found = strategy.range(observed(x), qc.QuantFormat(f"uint{bits}"))
    assert found == pytest.approx(want, rel=1e-9)


def test_the_figures_of_the_closed_form_are_true() -> None:
    """Those that the docstring states, as far as it states them."""
    text = " ".join((qc.ACIQ.__doc__ or "").split())
    rng = np.random.default_rng(0)
    x = rng.standard_normal(1_000_000, dtype=np.float32)

    def measured(strategy: qc.Strategy, bits: int) -> float:
        p = qc.calibrate(x, strategy, format=f"int{bits}")
        return oracles.norm(x, 2, p.format, p.scale, p.zero_point)

    # At 8 bits, eight draws of a million values gave 170 to 191 times.
    for bits, closed, minimum, times, on_a_grid, scatter in (
        (4, 1.33, 2.56, 6.9, 5.0, 0.02),
        (8, 1.88, 3.92, 188, 180, 0.065),
    ):
        for figure in (f"{closed} std", f"{minimum} std", f"{times}", f"{on_a_grid}"):
            assert figure in text
        a = math.sqrt(2 / math.pi) * math.sqrt(math.log(2**bits))
        assert a == pytest.approx(closed, abs=5e-3)
        assert best("gauss", bits) == pytest.approx(minimum, abs=5e-3)
        ratio = error("gauss", a, bits) / error("gauss", best("gauss", bits), bits)
        assert ratio == pytest.approx(times, rel=5e-3)
        form = qc.ACIQ("gauss", "closed_form")
        found = measured(form, bits) / measured(qc.MSE(), bits)
        assert found == pytest.approx(on_a_grid, rel=scatter)
