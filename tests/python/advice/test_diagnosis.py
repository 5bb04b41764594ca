"""`diagnose`: each reason on a distribution made for it, and on one that lacks it."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

import quantcal as qc
from quantcal.advice.diagnosis import BULK, Diagnosis, diagnose
from quantcal.advice.grid_errors import BinnedValues, relative_error
from quantcal.advice.sample_growth import range_growth

Arrays = Sequence[np.ndarray[Any, Any]]


def gauss(samples: int = 8, seed: int = 0) -> list[np.ndarray[Any, Any]]:
    """Samples of 100 tokens and 100 channels."""
    rng = np.random.default_rng(seed)
    shape = (samples, 100, 100)
    return list(rng.standard_normal(shape).astype(np.float32))


def observed(arrays: Arrays, axis: int | None = None) -> qc.Calibrator:
    cal = qc.Calibrator()
    for x in arrays:
        cal.observe("x", x.astype(np.float32), axis=axis)
    return cal


def found(
    arrays: Arrays, strategy: str = "mse", format: str = "uint8", **more: Any
) -> dict[str, Diagnosis]:
    """Return the diagnoses of samples by kind."""
    cal = observed(arrays)
    params = cal.compute(strategy, format=format)["x"]
    return {d.kind: d for d in diagnose(cal.stats("x"), params, **more)}


def massive(arrays: Arrays) -> list[np.ndarray[Any, Any]]:
    """Put two large values at the first token of each sample."""
    changed = [x.copy() for x in arrays]
    for x in changed:
        x[0, :2] = 3000, -1000
    return changed


def large_channels(
    arrays: Arrays, *channels: int, factor: float = 30
) -> list[np.ndarray[Any, Any]]:
    scale = np.ones(100, np.float32)
    scale[list(channels)] = factor
    return [x * scale for x in arrays]


@pytest.mark.parametrize("format", ["int8", "uint8", "int4", "float8_e4m3fn"])
def test_gauss_values_with_the_range_of_least_error_have_no_fault(format: str) -> None:
    assert found(gauss(), format=format) == {}


HARMLESS: dict[str, Callable[[], Arrays]] = {
    "laplace": lambda: list(np.random.default_rng(0).laplace(size=(8, 10_000))),
    "relu": lambda: [np.maximum(x, 0) for x in gauss()],
    "products": lambda: [a * b for a, b in zip(gauss(), gauss(seed=1), strict=True)],
    "zero or one": lambda: [(x > 0).astype(np.float32) for x in gauss()],
    "mostly zero": lambda: [x * (x > 3) for x in gauss()],
    "one value": lambda: [np.ones(10)] * 3,
    "zeros": lambda: [np.zeros(10)] * 3,
}


@pytest.mark.parametrize("name", HARMLESS)
def test_harmless_distributions_have_no_fault(name: str) -> None:
    assert found(HARMLESS[name](), format="uint8") == {}


def test_values_that_are_not_finite_have_no_fault_to_report() -> None:
    with pytest.warns(UserWarning, match="no finite value"):
        assert found([np.full(3, np.nan)] * 2) == {}


def test_massive_activations_are_counted_and_their_cost_is_told() -> None:
    report = found(massive(gauss()))["massive activation"]
    bulk = np.quantile(np.abs(massive(gauss())), BULK)
    assert report.figure == pytest.approx(3000 / bulk, rel=0.02)
    assert report.text == (
        "16 values above 1,000 hold the range: 99.9 % lie below 3.35; 8 bits leave 1 code "
        "for them"
    )


def test_massive_activations_that_the_range_gave_up_are_clipped() -> None:
    report = found(massive(gauss()), "percentile_99")
    assert (
        "16 values above 1,000 are clipped to 2." in report["massive activation"].text
    )
    assert report["clipping"].figure > 0.99


def test_one_massive_value_is_named_in_the_singular() -> None:
    arrays = gauss()
    arrays[0][3, 4] = 500
    text = found(arrays, "minmax")["massive activation"].text
    assert text.startswith("1 value above 500 holds the range")


def test_a_value_ten_times_the_bulk_is_not_massive() -> None:
    arrays = gauss()
    for x in arrays:
        x[0, 0] = 30
    assert "massive activation" not in found(arrays, "minmax")


def test_more_than_a_thousandth_of_large_values_are_no_massive_activation() -> None:
    arrays = gauss()
    for x in arrays:
        x[0, :20] = 3000  # 0.2 %
    assert "massive activation" not in found(arrays)


def test_floats_have_more_codes_for_the_bulk() -> None:
    texts = [
        found(massive(gauss()), format=f)["massive activation"].text
        for f in ("int8", "float8_e4m3fn")
    ]
    assert "8 bits leave 1 code for them" in texts[0]
    codes = int(texts[1].split("leave ")[1].split()[0])
    assert codes > 50


def outliers(arrays: Arrays, **more: Any) -> Diagnosis | None:
    channels = observed(arrays, axis=-1).channels("x")
    return found(arrays, channels=channels, **more).get("outlier channels")


def test_outlier_channels_are_named_by_size() -> None:
    arrays = large_channels(large_channels(gauss(), 7), 40, factor=60)
    report = outliers(arrays)
    assert report is not None
    largest = np.abs(arrays).max(axis=(0, 1))
    assert report.figure == pytest.approx(largest.max() / np.median(largest))
    assert report.text.startswith("2 of 100 channels (40, 7) reach ")


def test_alike_many_and_slightly_larger_channels_are_no_outliers() -> None:
    assert outliers(gauss()) is None
    assert outliers(large_channels(gauss(), 7, factor=5)) is None
    assert outliers(large_channels(gauss(), *range(20))) is None


def test_massive_values_make_no_outlier_channels() -> None:
    assert outliers(massive(gauss())) is None
    report = outliers(massive(large_channels(gauss(), 7)))
    assert report is not None
    assert report.text.startswith("1 of 100 channels (7) reach ")


def test_channels_are_read_from_statistics_too() -> None:
    arrays = large_channels(gauss(), 7)
    stats = observed(arrays, axis=-1).stats("x")
    params = observed(arrays).compute("mse")["x"]
    assert [d.kind for d in diagnose(stats, params)] == ["outlier channels"]


def test_values_on_two_codes_are_dense() -> None:
    arrays = [np.append(x.ravel(), [400, -400]) for x in gauss()]
    report = found(arrays, "minmax", format="int8")["dense near zero"]
    cal = observed(arrays)
    codes = cal.compute("minmax", format="int8")["x"].quantize(np.ravel(arrays))
    assert report.figure == pytest.approx(np.mean(codes == 0), abs=0.002)
    assert "lie on 1 of 256 codes" in report.text


def test_four_bits_of_a_gauss_distribution_are_not_dense() -> None:
    for strategy in ("mse", "minmax"):
        assert "dense near zero" not in found(gauss(), strategy, format="int4")


def test_a_long_tail_reports_both_kinds_of_error() -> None:
    arrays = list(np.random.default_rng(0).standard_t(2.5, (8, 10_000)))
    report = found(arrays, format="int8")["long tail"]
    x = np.ravel(arrays)
    moments = np.mean((x - x.mean()) ** 4) / np.var(x) ** 2
    assert report.figure == pytest.approx(moments, rel=0.01)
    params = observed(arrays).compute("mse", format="int8")["x"]
    error = (x - params.fake_quantize(x.astype(np.float32))) ** 2
    outside = (x < params.low) | (x > params.high)
    expected = error[outside].sum() / error.sum()
    shown = float(report.text.split("clipping makes ")[1].split(" %")[0])
    assert shown == pytest.approx(100 * expected, rel=0.03)


def test_a_laplace_distribution_on_four_bits_has_no_long_tail() -> None:
    arrays = list(np.random.default_rng(0).laplace(size=(8, 10_000)))
    assert found(arrays, format="int4") == {}


def test_a_range_that_is_too_narrow_clips() -> None:
    report = found(gauss(), "percentile_97")["clipping"]
    assert report.figure > 0.9
    assert report.text.startswith("the range clips 3.0")


def test_clipping_without_loss_is_not_reported() -> None:
    assert "clipping" not in found(gauss(), "percentile_99.999")
    assert "clipping" not in found(gauss(), "minmax")


def test_a_range_from_one_observation_needs_more() -> None:
    assert "too few samples" in found(gauss(1))
    assert "too few samples" in found(gauss(), samples=1)
    assert "too few samples" not in found(gauss(1), samples=64)  # all in one batch
    assert "too few samples" not in found(gauss(2))


def test_a_maximum_of_one_sample_shows_that_samples_are_too_few() -> None:
    arrays = gauss()
    arrays[3][0, 0] = 40
    report = found(arrays, "minmax")["too few samples"]
    assert "the second half of 8 samples adds" in report.text
    # A range that has given the value up does not grow with it.
    assert "too few samples" not in found(arrays, "percentile_99.9")


def test_growth_is_the_mean_over_all_halves() -> None:
    rng = np.random.default_rng(0)
    for number in (2, 3, 5, 8):
        arrays = [rng.standard_normal(3).astype(np.float32) for _ in range(number)]
        cal = observed(arrays)
        params = cal.compute("minmax", format="uint8")["x"]
        top, bottom = (np.maximum([(s * x).max() for x in arrays], 0) for s in (1, -1))
        halves = list(itertools.combinations(range(number), number // 2))
        inside = np.mean([top[list(h)].max() + bottom[list(h)].max() for h in halves])
        expected = 1 - inside / (top.max() + bottom.max())
        growth = range_growth(cal.stats("x"), params)  # type: ignore[arg-type]
        assert growth == pytest.approx(expected, abs=0.01)


def test_overflow_and_weights_are_reported_above_their_limits() -> None:
    report = found(gauss(), overflow=0.01, weight=0.02)
    assert list(report) == ["16-bit overflow", "weights"]
    assert "1.00 %" in report["16-bit overflow"].text
    assert "17.0 dB" in report["weights"].text
    assert found(gauss(), overflow=1e-7, weight=1e-5) == {}
    assert found(gauss(), "percentile_90", weight=2e-3).keys() == {"clipping"}


def test_ranges_by_channel_are_examined_by_channel() -> None:
    cal = observed(large_channels(gauss(), 7), axis=-1)
    params = cal.compute("minmax", format="int8")["x"]
    assert diagnose(cal.stats("x"), params) == ()
    narrow = cal.compute("percentile_95", format="int8")["x"]
    kinds = [d.kind for d in diagnose(cal.stats("x"), narrow)]
    assert kinds == ["clipping"]


def test_relative_errors_are_those_of_all_values() -> None:
    x = np.ravel(gauss())
    cal = observed([x])
    params = cal.compute("minmax", format="int4")["x"]
    expected = np.sum((x - params.fake_quantize(x)) ** 2) / np.sum(x.astype(float) ** 2)
    assert relative_error(x, params) == pytest.approx(expected)
    binned = BinnedValues.of(cal["x"], params)
    assert binned.relative_error == pytest.approx(expected, rel=0.01)
    assert relative_error(np.zeros(3, np.float32), params) == 0


def test_wrong_statistics_are_refused() -> None:
    cal = observed(gauss())
    params = cal.compute("mse")["x"]
    by_channel = observed(gauss(), axis=-1)
    wrong: Any = gauss()[0]
    with pytest.raises(TypeError, match="not ndarray"):
        diagnose(wrong, params)
    of_channels = by_channel.compute("mse")["x"]
    with pytest.raises(qc.CalibrationError, match="100 channels, but the histogram"):
        diagnose(cal.stats("x"), of_channels)
    fewer = observed([x[:, :9] for x in gauss()], axis=-1).stats("x")
    with pytest.raises(qc.CalibrationError, match="but the statistics have 9"):
        diagnose(fewer, of_channels)
