"""`compare`: the figures against raw arrays, the orders, and the errors."""

from __future__ import annotations

import json
import math
import pickle
import re

import numpy as np
import pytest

import quantcal as qc
from paths import ROOT
from quantcal.comparison.api import STRATEGIES
from quantcal.comparison.score import (
    FIGURES,
    HIGHER_IS_BETTER,
    LOWER_IS_BETTER,
    Score,
)

PAGE = ROOT / "docs" / "reference" / "strategies.md"
DEFAULT = [
    "minmax",
    "percentile_99",
    "percentile_99.9",
    "percentile_99.99",
    "percentile_99.999",
    "percentile_adaptive",
    "kl",
    "mse",
    "mse(p=2.4)",
    "mse(newton)",
    "entropy",
    "aciq",
    "hybrid(percentile_99.99, kl)",
]


def bell(size: int = 20_000, seed: int = 0, dtype: type = np.float32) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(size).astype(dtype)


def calibrator(tensors: int = 3) -> qc.Calibrator:
    cal = qc.Calibrator()
    for number in range(tensors):
        cal.observe(f"layer.{number}", bell(3000, number) ** (1 + 2 * (number % 2)))
    return cal


def untimed(comparison: qc.Comparison) -> list[dict]:
    return [{**record, "seconds": 0} for record in comparison.records()]


@pytest.mark.parametrize("format", ["int8", "uint8", "int4", "uint4", "float8_e5m2"])
@pytest.mark.parametrize("shape", ["bell", "half", "heavy"])
def test_the_figures_are_those_of_the_raw_array(format: str, shape: str) -> None:
    # float16 has a bin for each value, so the histogram is the data: only rounding is left.
    x = bell(dtype=np.float16)
    if shape == "half":
        x = np.maximum(x, np.float16(0))
    if shape == "heavy":
        x = (x**3).astype(np.float16)
    reals = x.astype(np.float64)
    for row in qc.compare(x, format):
        params = row.params
        assert params is not None
        restored = params.fake_quantize(x).astype(np.float64)
        codes = params.quantize(x).view(np.uint8)
        error = np.mean((reals - restored) ** 2)
        assert row.mse == pytest.approx(error, rel=1e-5), row.strategy
        sqnr = 10 * math.log10(np.mean(reals**2) / error)
        assert row.sqnr_db == pytest.approx(sqnr, abs=1e-4)
        # A value in the middle between two levels counts to either, without a difference to the
        # error; in `quantize` the division in float32 decides. One value in 2000 may be such.
        dot = reals @ restored / math.sqrt((reals @ reals) * (restored @ restored))
        assert row.cosine == pytest.approx(dot, abs=2e-4)
        zeros = np.mean(np.abs(reals) <= params.scale / 2)
        if "float" in format:
            zeros = np.mean(restored == 0)
        assert row.rounded_to_zero == pytest.approx(zeros, abs=5e-4)
        # Codes 0 and 128 of a float are both zero: only the integers' entropies agree.
        if "int" in format:
            shares = np.unique(codes, return_counts=True)[1] / x.size
            bits = -(shares @ np.log2(shares))
            assert row.code_entropy == pytest.approx(bits, abs=5e-3)


def test_ranges_are_those_that_calibrate_gives() -> None:
    x = bell()
    for strategy, row in zip(STRATEGIES, qc.compare(x, "uint8"), strict=True):
        assert row.params == qc.calibrate(x, strategy, format="uint8")


def test_every_method_is_compared_unless_reported_otherwise() -> None:
    comparison = qc.compare(bell(1000))
    assert comparison.strategies == DEFAULT
    assert comparison.tensors == ["values"]
    assert all(row.seconds > 0 for row in comparison)


def test_kl_has_the_least_divergence_and_mse_the_least_error_of_their_candidates() -> (
    None
):
    # Both ends are searched on the same bins as the figure is computed on: affine scaling.
    comparison = qc.compare(bell(100_000), "uint8")
    assert comparison.best("mse").strategy == "mse"
    assert comparison.best("code_entropy").strategy == "entropy"
    by_name = {row.strategy: row for row in comparison}
    # Candidates end at edges of bins, the ranges of others are rounded to them: 10 % apart.
    assert by_name["kl"].divergence <= 1.1 * comparison.best("divergence").divergence


def test_an_array_its_histogram_and_a_calibrator_agree() -> None:
    x = bell()
    cal = qc.Calibrator()
    cal.observe("values", x)
    first = untimed(qc.compare(x, "uint4"))
    assert first == untimed(qc.compare(qc.Histogram().observe(x), "uint4"))
    assert first == untimed(qc.compare(cal, "uint4"))


@pytest.mark.usefixtures("keep_num_threads")
def test_threads_change_nothing() -> None:
    cal = calibrator(12)
    qc.set_num_threads(1)
    one = untimed(qc.compare(cal, strategies=["mse", "kl"]))
    qc.set_num_threads(3)
    assert untimed(qc.compare(cal, strategies=["mse", "kl"])) == one
    assert [(record["tensor"], record["strategy"]) for record in one] == [
        (name, strategy) for name in cal.names for strategy in ("mse", "kl")
    ]


def test_strategies_of_observations_get_them() -> None:
    cal = qc.Calibrator()
    for reach in (1.0, 2.0, 6.0):
        cal.observe("x", np.float32([-reach, reach]))
    (row,) = qc.compare(cal, strategies=qc.MinMax("median"))
    assert row.params is not None
    assert row.params.high == pytest.approx(2, rel=0.004)


def test_a_strategy_that_does_not_apply_says_why_and_ends_nothing() -> None:
    comparison = qc.compare(bell(), strategies=[qc.ACIQ("half_gauss"), "mse"])
    failed, done = comparison
    assert failed.params is None
    assert math.isnan(failed.mse)
    assert "one side of zero" in failed.error
    assert done.params is not None
    assert comparison.best() is done
    assert f"aciq(half_gauss): {failed.error}" in str(comparison)
    only = qc.compare(bell(), strategies=qc.ACIQ("half_gauss"))
    with pytest.raises(qc.CalibrationError, match="no strategy applies"):
        only.best()


def test_a_strategy_of_ones_own_is_compared() -> None:
    class Unit:
        def range(self, histogram: qc.Histogram, format: qc.QuantFormat):
            return -1.0, 1.0

        def __str__(self) -> str:
            return "unit"

    (row,) = qc.compare(bell(), strategies=Unit())
    assert (row.strategy, row.params.high, row.reason) == ("unit", pytest.approx(1), "")


def test_reasons_are_kept() -> None:
    (row,) = qc.compare(bell(), strategies="aciq")
    assert row.reason.startswith("gauss; Kolmogorov")


@pytest.mark.parametrize("by", FIGURES)
def test_sorting_puts_the_best_first_and_failures_last(by: str) -> None:
    x = bell() ** 3
    comparison = qc.compare(x, strategies=[qc.ACIQ("half_gauss"), *STRATEGIES])
    rows = comparison.sorted(by)
    assert sorted(map(id, rows)) == sorted(map(id, comparison))
    assert rows[-1].params is None
    figures = [getattr(row, by) for row in rows[:-1]]
    assert figures == sorted(figures, reverse=by in HIGHER_IS_BETTER)
    other = [
        getattr(row, by)
        for row in comparison.sorted(by, descending=by not in HIGHER_IS_BETTER)
    ]
    assert other[:-1] == sorted(figures, reverse=by in LOWER_IS_BETTER)
    assert rows[0] is comparison.best(by)


def test_names_sort_upwards() -> None:
    comparison = qc.compare(calibrator(3), strategies=["mse", "kl"])
    assert [row.strategy for row in comparison.sorted("strategy")] == ["kl"] * 3 + [
        "mse"
    ] * 3
    names = [row.tensor for row in comparison.sorted("tensor", descending=True)]
    assert names == sorted(names, reverse=True)


def test_parts_of_a_comparison() -> None:
    comparison = qc.compare(calibrator(3), strategies=["mse", "kl"])
    assert len(comparison) == 6
    assert isinstance(comparison[0], Score)
    assert comparison[-1] is list(comparison)[5]
    assert [row.strategy for row in comparison[::2]] == ["mse"] * 3
    part = comparison["layer.1"]
    assert part.tensors == ["layer.1"]
    assert list(part) == list(comparison)[2:4]
    assert "layer.1" in comparison
    assert "layer" not in comparison
    assert comparison[3] in comparison
    assert 3 not in comparison
    with pytest.raises(KeyError, match=r"Did you mean layer\.1"):
        comparison["layer1"]
    with pytest.raises(AttributeError):
        comparison.format = "int4"


def test_the_best_of_each_tensor() -> None:
    comparison = qc.compare(calibrator(4), "int4")
    best = comparison.best_of_each()
    assert best.tensors == comparison.tensors
    for row in best:
        assert row.mse == min(other.mse for other in comparison[row.tensor])
    with pytest.raises(qc.CalibrationError, match="there are 4 tensors"):
        comparison.best()


def test_the_summary_is_of_all_tensors_with_values() -> None:
    cal = calibrator(5)
    cal.observe("empty", np.float32([]))
    cal.observe("nan", np.float32([np.nan, np.inf]))
    chosen = ["minmax", "mse", qc.ACIQ("half_gauss")]
    comparison = qc.compare(cal, strategies=chosen)
    minmax, mse, half = comparison.summary()
    rows = [row for row in comparison if row.tensor.startswith("layer")]
    sqnr = [row.sqnr_db for row in rows if row.strategy == "minmax"]
    assert (minmax.strategy, minmax.tensors, minmax.failed) == ("minmax", 5, 0)
    assert minmax.median_sqnr_db == np.median(sqnr)
    assert minmax.min_sqnr_db == min(sqnr)
    assert minmax.worst == f"layer.{np.argmin(sqnr)}"
    assert mse.best == 5
    assert minmax.best == sum(
        a.mse == b.mse for a, b in zip(rows[::3], rows[1::3], strict=True)
    )
    assert (half.tensors, half.failed, half.worst) == (0, 5, "")
    assert math.isnan(half.median_sqnr_db)
    text = str(comparison)
    assert text.startswith("3 strategies × 7 tensors, int8 (symmetric)")
    assert "not for" in text


@pytest.mark.parametrize(
    "values",
    [[], [np.nan, np.inf], [0.0], [2.5] * 5, [-1e-45], [3.4e38, -3.4e38], [1.0, 1e30]],
    ids=str,
)
@pytest.mark.parametrize("format", ["int8", "uint4", "float4_e2m1fn"])
def test_odd_values_are_compared_too(values: list[float], format: str) -> None:
    comparison = qc.compare(np.float32(values), format)
    assert all(row.params is not None for row in comparison)
    assert "SQNR" in str(comparison)
    json.dumps(comparison.records(), allow_nan=False)
    assert comparison.summary()[0].tensors == bool(
        np.isfinite(np.float32(values)).any()
    )


def test_records_are_plain_data() -> None:
    record = qc.compare(np.float32([0.0, 0.0]), "uint8", strategies="minmax").records()[
        0
    ]
    assert record["tensor"] == "values"
    assert record["mse"] == 0
    assert record["sqnr_db"] is None  # infinite
    assert record["error"] == ""
    params = qc.calibrate(np.float32([0.0, 0.0]), "minmax", format="uint8")
    for name in ("format", "symmetric", "low", "high", "scale", "zero_point"):
        assert record[name] == getattr(params, name)
    assert set(FIGURES) < set(record)


def test_what_was_compared_stays_what_it_was() -> None:
    histogram = qc.Histogram().observe(bell())
    comparison = qc.compare(histogram, strategies="mse")
    histogram.observe(np.float32([1e9]))
    assert comparison.histograms["values"].max < 10


def test_it_pickles() -> None:
    comparison = qc.compare(bell(), "uint8", strategies=["mse", "kl"])
    again = pickle.loads(pickle.dumps(comparison))
    assert again.scores == comparison.scores
    assert again.histograms == comparison.histograms


def test_columns_stand_in_line() -> None:
    lines = str(qc.compare(bell(), "uint8")).splitlines()[2:]
    assert len(lines) == 1 + len(DEFAULT)
    assert {len(line) for line in lines} == {len(lines[0])}
    ends = [match.end() for match in re.finditer(r"(?<=\S)(?=  |$)", lines[0])]
    for line in lines[1:]:
        # Numbers end where their heading ends; the first column starts on the left.
        assert all(line[end - 1] != " " for end in ends[1:])


def test_html_shows_the_same_and_escapes_names() -> None:
    cal = qc.Calibrator()
    cal.observe("<b>&", bell())
    one = qc.compare(cal, strategies=["mse", qc.ACIQ("half_gauss")])
    html = one._repr_html_()
    assert "&lt;b&gt;&amp;" in html
    assert "<b>" not in html
    assert html.count("<tr>") == 3
    assert "one side of zero" in html
    cal.observe("other", bell())
    summary = qc.compare(cal, strategies="mse")._repr_html_()
    assert "median SQNR" in summary
    assert "&lt;b&gt;&amp;" in summary  # the tensor with the minimum SQNR, of two alike
    assert "<b>" not in summary


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"format": "int3.5"}, qc.CalibrationError, "int3.5"),
        ({"strategies": "klx"}, qc.CalibrationError, 'Did you mean "kl"'),
        ({"strategies": []}, qc.CalibrationError, "strategies is empty"),
        ({"strategies": ["kl", qc.KL()]}, qc.CalibrationError, '"kl" is given 2 times'),
        ({"strategies": [3]}, TypeError, "3 is not a strategy"),
        ({"strategies": 3}, TypeError, "3 is not a strategy"),
        ({"tensors": ["a"]}, TypeError, "not a Calibrator"),
        ({"values": [1, 2]}, TypeError, "float32"),
        ({"values": qc.Calibrator()}, qc.CalibrationError, "observed nothing"),
    ],
)
def test_what_cannot_be_compared_is_reported(
    arguments: dict, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=re.escape(message)):
        qc.compare(**{"values": bell(100), **arguments})


def test_by_channel_every_channel_has_its_range() -> None:
    x = bell(6000).reshape(4, 1500) * np.float32([[1], [10], [100], [1000]])
    chosen = ["minmax", "mse", qc.MinMax("mean")]
    comparison = qc.compare(x, "uint8", strategies=chosen, axis=0)
    minmax, mse, mean = comparison
    cal = qc.Calibrator()
    cal.observe("x", x, axis=0)
    table = cal.compute("mse", format="uint8")
    assert mse.params == table["x"]
    assert mse.mse == table.report["x"].mse
    assert mse.sqnr_db == table.report["x"].sqnr_db
    # A range for all would leave little of the first channel.
    assert minmax.sqnr_db > qc.compare(x, "uint8", strategies="minmax")[0].sqnr_db
    assert "not kept by channel" in mean.error
    assert math.isnan(mse.divergence)
    record = mse.record()
    assert record["scale"] == list(mse.params.scale)
    assert record["code_entropy"] is None
    json.dumps(comparison.records(), allow_nan=False)
    assert " … " in str(comparison)
    assert comparison.sorted("divergence")[0].strategy == "minmax"  # as they were
    with pytest.raises(qc.CalibrationError, match="by channel there is no divergence"):
        comparison.best("divergence")
    with pytest.raises(qc.CalibrationError, match="values is by channel"):
        comparison.plot()
    assert (
        qc.compare(cal.channels("x"), "uint8", strategies="mse")[0].params == mse.params
    )
    with pytest.raises(TypeError, match="only an array takes an axis"):
        qc.compare(cal, axis=0)


def test_only_some_tensors() -> None:
    cal = calibrator(4)
    assert qc.compare(
        cal, tensors=["layer.2", "layer.0"], strategies="mse"
    ).tensors == [
        "layer.2",
        "layer.0",
    ]
    with pytest.raises(qc.CalibrationError, match=r"Did you mean layer\.3"):
        qc.compare(cal, tensors=["layer3"])


def test_orders_that_do_not_exist_are_reported() -> None:
    comparison = qc.compare(bell(100), strategies="mse")
    with pytest.raises(qc.CalibrationError, match=r"by is 'sqnr', but .*sqnr_db"):
        comparison.sorted("sqnr")
    with pytest.raises(qc.CalibrationError, match="by is 'strategy'"):
        comparison.best("strategy")


def test_the_table_in_the_reference_is_what_is_printed() -> None:
    text = PAGE.read_text("utf-8")
    shown = re.search(
        r"^```text\n(5,000 values.*?)^```", text, re.MULTILINE | re.DOTALL
    )
    assert shown is not None
    x = np.random.default_rng(0).standard_normal(5000, dtype=np.float32)
    chosen = ["minmax", "percentile_99.99", "kl", "mse"]
    printed = str(qc.compare(x, "int4", strategies=chosen).sorted())
    # The last column is the time of this machine.
    untimed = [re.sub(r"\s+\S+$", "", line) for line in printed.splitlines()[2:]]
    expected = [re.sub(r"\s+\S+$", "", line) for line in shown[1].splitlines()[2:]]
    assert [line.split() for line in untimed] == [line.split() for line in expected]


def test_a_strategy_given_for_a_tensor_is_reported_so() -> None:
    comparison = qc.compare(np.ones(3, np.float32), strategies=["mse"])
    with pytest.raises(
        KeyError, match='"mse" is a strategy: give the name of a tensor'
    ):
        comparison["mse"]


def test_one_name_is_one_tensor_and_none_is_an_error() -> None:
    cal = qc.Calibrator()
    cal.observe("ab", np.ones(3, np.float32))
    assert qc.compare(cal, tensors="ab", strategies="minmax").tensors == ["ab"]
    with pytest.raises(qc.CalibrationError, match="tensors is empty"):
        qc.compare(cal, tensors=[])
    with pytest.raises(TypeError, match="5 is not a strategy"):
        qc.compare(cal, strategies=5)  # type: ignore[arg-type]
