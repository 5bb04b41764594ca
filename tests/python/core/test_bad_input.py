"""Bad input raises an error that names it and says what to do; no data are lost."""

from __future__ import annotations

import re
import sys
from typing import Any

import numpy as np
import pytest

import quantcal as qc
import samples
from quantcal._text import shown

X = samples.shape("gaussian", 1000)


def calibrator() -> qc.Calibrator:
    cal = qc.Calibrator()
    for name in ("conv1.input", "conv2.input", "dense.output"):
        cal.observe(name, X)
    return cal


def fails(message: str, error: type[Exception] = qc.CalibrationError) -> Any:
    return pytest.raises(error, match=message)


# Values.


def test_a_calibration_error_is_a_value_error() -> None:
    assert issubclass(qc.CalibrationError, ValueError)
    assert qc.CalibrationError.__module__ == "quantcal"


@pytest.mark.parametrize("values", [np.arange(3), 1j, None, "abc", [1, 2]])
def test_arrays_of_other_types_name_the_tensor_and_the_types_accepted(
    values: Any,
) -> None:
    cal = calibrator()
    before = cal.to_bytes()
    for name in ("conv1.input", "new.name"):
        with fails(
            f'Tensor "{name}": .*float16, bfloat16, float32 and float64', TypeError
        ):
            cal.observe(name, values)
        with fails(f'Tensor "{name}": ', TypeError):
            cal.observe_many({"dense.output": X, name: values})
    assert cal.to_bytes() == before


@pytest.mark.parametrize("values", [None, iter([1.0]), {1.0}, len, object()])
def test_what_is_no_array_is_called_so(values: Any) -> None:
    kind = type(values).__name__
    with fails(
        f'Tensor "x": {kind} is not an array; quantcal takes arrays of', TypeError
    ):
        calibrator().observe("x", values)
    with fails(f"{kind} is not an array", TypeError):
        qc.QuantParams.from_range(0, 1).quantize(values)


def test_codes_of_rows_that_differ_in_length_are_no_array() -> None:
    with fails("list cannot be read as an array", TypeError):
        qc.QuantParams.from_range(0, 1).dequantize([[1], [1, 2]])


@pytest.mark.parametrize("name", [5, None, b"x", 1.5, ("a",)])
def test_names_must_be_text(name: Any) -> None:
    cal = calibrator()
    before = cal.to_bytes()
    with fails("name must be a str, not", TypeError):
        cal.observe(name, X)
    with fails("name must be a str, not", TypeError):
        cal.observe_many({"conv1.input": X, name: X})
    assert cal.to_bytes() == before


# Names, formats and options.


def test_an_unknown_strategy_lists_those_that_exist() -> None:
    for call in (calibrator().compute, lambda s: qc.calibrate(X, s)):
        with fails(
            '"msee" is not known. Did you mean "mse"?.*minmax, .*, percentile_<number>'
        ):
            call("msee")
        for name in ("percentile_high", "percentile_9_9", "percentile_"):
            with fails(f'Strategy "{name}" is not known'):
                call(name)
        with fails('Strategy "" is not known'):
            call("")
        with fails("percentile is 101.0, but it must be above 0 and at most 100"):
            call("percentile_101")
        with fails("percentile is nan"):
            call("percentile_nan")


@pytest.mark.parametrize("strategy", [3, None, int, ["mse"], object()])
def test_what_is_no_strategy_is_refused(strategy: Any) -> None:
    with fails("is not a strategy; give a name .*mse.* or an object", TypeError):
        calibrator().compute(strategy)
    with fails("is not a strategy", TypeError):
        calibrator().compute({"*": strategy})


def test_an_unknown_format_lists_those_that_exist() -> None:
    message = (
        'Format "int1" is not known.*Known formats: int2 to int16, uint2 to uint16'
    )
    for call in (
        lambda: calibrator().compute("mse", format="int1"),
        lambda: qc.calibrate(X, format="int1"),
        lambda: qc.QuantParams.from_range(-1, 1, format="int1"),
    ):
        with fails(message):
            call()


def test_an_unknown_option_lists_those_that_exist() -> None:
    cal = calibrator()
    with fails('Strategy "mse" has no option "bins"; it takes p, newton'):
        cal.compute("mse", bins=3)
    with fails('"percentile_99" has no option "num_bins"; it takes percentile'):
        cal.compute("percentile_99", num_bins=3)
    with fails('"kl" has no option "bins"; it takes num_bins'):
        cal.compute("kl", bins=3)
    with fails(r"options \(bins\) go with a name", TypeError):
        cal.compute(qc.KL(), bins=3)
    with fails(r"options \(num_bins\) go with one name, not with a mapping", TypeError):
        cal.compute({"*": "kl"}, num_bins=3)


@pytest.mark.parametrize("percentile", [0, -1, 100.001, float("nan"), float("inf")])
def test_percentiles_outside_their_range_are_refused(percentile: float) -> None:
    with fails(f"percentile is {percentile}, but it must be above 0 and at most 100"):
        qc.Percentile(percentile)
    with fails(f"percentile is {percentile}"):
        calibrator().compute("percentile", percentile=percentile)


@pytest.mark.parametrize("num_bins", [0, -5, (1 << 24) + 1])
def test_numbers_of_bins_outside_their_range_are_refused(num_bins: int) -> None:
    with fails(
        f"num_bins is {num_bins}, but it must be a whole number between 1 and 16777216"
    ):
        qc.KL(num_bins)


# Each option with values that it must refuse, by its name and the value.
WRONG: list[tuple[Any, str, list[Any]]] = [
    (qc.MinMax, "reduce", ["max", None, True, 1, ["mean"]]),
    (qc.Percentile, "percentile", ["99", None, True, [99], 1j, 10**400]),
    (qc.Percentile, "tails", ["both", None, True]),
    (qc.Percentile, "adaptive", [1, 0, "yes", None]),
    (qc.KL, "num_bins", [2.5, float("nan"), float("inf"), True, "512", None, 1 << 70]),
    (qc.KL, "num_levels", [1, 0, -4, 2.5, float("nan"), True, "64"]),
    (qc.KL, "two_sided", [1, 0, "no", 1.0]),
    (qc.MSE, "p", [0.99, 4.01, float("nan"), float("inf"), "2", None, True, 10**400]),
    (qc.MSE, "newton", [1, "yes", None]),
    (qc.ACIQ, "distribution", ["normal", None, True, 3]),
    (qc.ACIQ, "approximation", ["closed", True, 1]),
]


@pytest.mark.parametrize(
    ("strategy", "option", "value"),
    [
        (strategy, option, value)
        for strategy, option, values in WRONG
        for value in values
    ],
)
def test_an_option_of_a_wrong_value_or_type_is_refused_by_name_with_the_value(
    strategy: Any, option: str, value: Any
) -> None:
    message = f"^{option} is {re.escape(shown(value))}, but it must be "
    with fails(message):
        strategy(**{option: value})
    name = strategy.__name__.lower()
    with pytest.raises((qc.CalibrationError, TypeError)) as caught:
        calibrator().compute(name, **{option: value})
    assert f"{option} is {shown(value)}, but it must be " in str(caught.value)


def test_the_fixed_point_is_for_the_squared_error_only() -> None:
    with fails("p is 2.4, but the fixed point .* is for p=2 only"):
        qc.MSE(2.4, newton=True)


@pytest.mark.parametrize(
    ("low", "high"),
    [
        (1, 0),
        (float("nan"), 1),
        (0, float("inf")),
        ("0", 1),
        (False, True),
        (None, 1),
        (0, 10**400),
    ],
)
def test_fixed_ranges_must_be_numbers_finite_and_in_order(low: Any, high: Any) -> None:
    with fails(
        re.escape(
            f"the range [{shown(low)}, {shown(high)}] must have finite ends, the lower"
        )
    ):
        qc.Fixed(low, high)


def test_a_fixed_range_needs_both_ends() -> None:
    with fails('Strategy "fixed" needs low and high'):
        calibrator().compute("fixed")
    with fails('Strategy "fixed" needs high'):
        calibrator().compute("fixed", low=-1)
    with fails('"softmax" has no option "high"; it takes none'):
        calibrator().compute("softmax", high=2)


@pytest.mark.parametrize("wrong", [3, None, int, ["mse"]])
def test_a_hybrid_takes_strategies_only(wrong: Any) -> None:
    for parts in ((wrong, "mse"), ("mse", wrong)):
        with fails("is not a strategy; give a name", TypeError):
            qc.Hybrid(*parts)
    with fails('"msee" is not known'):
        qc.Hybrid("msee", "kl")  # type: ignore[arg-type]
    with fails('"kl" has no option "bins"'):
        qc.Hybrid("mse", {"strategy": "kl", "bins": 3})  # type: ignore[arg-type]


def test_options_may_be_numpys_numbers_and_are_kept_as_pythons() -> None:
    for given, plain in (
        (qc.KL(np.int64(512), np.uint8(64), np.bool_(True)), qc.KL(512, 64, True)),  # type: ignore[arg-type]
        (qc.MSE(np.float32(2.5), np.False_), qc.MSE(2.5, False)),  # type: ignore[arg-type]
        (qc.Percentile(np.float64(99.5)), qc.Percentile(99.5)),
        (qc.Fixed(np.float32(-0.5), np.int8(2)), qc.Fixed(-0.5, 2)),  # type: ignore[arg-type]
    ):
        assert repr(given) == repr(plain)
        assert given == plain
        assert qc.Policy({"*": given}).to_dict() == qc.Policy({"*": plain}).to_dict()


@pytest.mark.parametrize("value", [2.5, float("nan"), "8", True, [8]])
def test_what_is_no_whole_number_is_refused_with_the_value(value: Any) -> None:
    h = qc.Histogram().observe(X)
    for call in (
        lambda: qc.Histogram(value),
        lambda: qc.Calibrator(mantissa_bits=value),
        lambda: h.coarsen(value),
        lambda: h.rebin(value, 0.0, 1.0),
        lambda: qc.set_num_threads(value),
    ):
        with fails(f"{re.escape(repr(value))} is not a whole number", TypeError):
            call()


@pytest.mark.parametrize("mantissa_bits", [0, 2, 13, 300, -1, 1 << 40])
def test_resolutions_outside_their_range_are_refused(mantissa_bits: int) -> None:
    message = f"mantissa_bits is {mantissa_bits}, but it must be 3 to 12"
    h = qc.Histogram().observe(X)
    for call in (
        lambda: qc.Histogram(mantissa_bits),
        lambda: qc.Calibrator(mantissa_bits=mantissa_bits),
        lambda: h.coarsen(mantissa_bits),
    ):
        with fails(message):
            call()


def test_a_histogram_cannot_be_made_finer() -> None:
    with fails(
        "cannot coarsen from 5 to 9 mantissa bits.*observe again with mantissa_bits=9"
    ):
        qc.Histogram(5).observe(X).coarsen(9)


@pytest.mark.parametrize("q", [-0.001, 1.001, float("nan"), float("inf")])
def test_quantiles_outside_their_range_are_refused(q: float) -> None:
    for h in (qc.Histogram(), qc.Histogram().observe(X)):
        with fails("quantile is .*, but it must be between 0 and 1"):
            h.quantile(q)
        with fails("quantile is .*, but it must be between 0 and 1"):
            h.abs_quantile(q)


def test_uniform_views_need_bins_and_ends_in_order() -> None:
    h = qc.Histogram().observe(X)
    for num_bins in (0, (1 << 24) + 1, -1):
        with fails(f"num_bins is {num_bins}, but it must be between 1 and 16777216"):
            h.rebin(num_bins, 0.0, 1.0)
    infinity, nan = float("inf"), float("nan")
    for low, high in [
        (1, 0),
        (nan, 1),
        (0, infinity),
        (-infinity, 0),
    ]:
        with fails("the interval .* is not usable: both ends must be finite"):
            h.rebin(10, low, high)


def test_ranges_must_be_finite_and_in_order() -> None:
    for low, high in [(1.0, -1.0), (float("nan"), 1.0), (0.0, float("inf"))]:
        with fails(r"the interval \[.*\] is not usable"):
            qc.QuantParams.from_range(low, high)


def test_a_strategy_that_returns_no_range_is_named_with_the_tensor() -> None:
    class Wrong:
        def range(self, *_: Any) -> tuple[float, float]:
            return float("nan"), 1.0

        def __str__(self) -> str:
            return "my own"

    with fails('Tensor "conv1.input", strategy my own: the interval'):
        calibrator().compute(Wrong())


@pytest.mark.parametrize("axis", [None, 0])
@pytest.mark.parametrize("wrong", [3, None, ("a", "b"), (1.0,), (0.0, 1.0, 2.0)])
def test_what_is_no_range_is_named_with_the_tensor(wrong: Any, axis: Any) -> None:
    class Odd:
        def range(self, histogram: Any, format: Any) -> Any:
            return wrong

        def __str__(self) -> str:
            return "odd"

    cal = qc.Calibrator()
    cal.observe("conv1.input", X.reshape(10, 100), axis=axis)
    message = re.escape(f"it returned {wrong!r}, but a range is two numbers")
    with fails(f'Tensor "conv1.input".*odd: {message}'):
        cal.compute(Odd())
    (row,) = qc.compare(cal, strategies=[Odd()])
    assert "two numbers" in row.error


@pytest.mark.skipif(sys.version_info < (3, 11), reason="exceptions have no notes")
@pytest.mark.parametrize(("axis", "channel"), [(None, ""), (0, ", channel 0")])
def test_whatever_a_strategy_raises_says_where(axis: Any, channel: str) -> None:
    class Broken:
        def range(self, histogram: Any, format: Any) -> Any:
            raise KeyError("threshold")

        def __str__(self) -> str:
            return "broken"

    cal = qc.Calibrator()
    cal.observe("conv1.input", X.reshape(10, 100), axis=axis)
    with pytest.raises(KeyError, match="threshold") as raised:
        cal.compute(Broken())
    assert f'Tensor "conv1.input"{channel}, strategy broken' in raised.value.__notes__


def test_a_range_beyond_all_floats_is_named_with_the_tensor() -> None:
    class Huge:
        def range(self, histogram: Any, format: Any) -> Any:
            return 0, 10**400

    with fails('Tensor "conv1.input".*it returned .*two numbers'):
        calibrator().compute(Huge())


@pytest.mark.parametrize("fails_to", [True, False])
def test_what_explains_may_fail_or_have_nothing_to_say(fails_to: bool) -> None:
    class Quiet:
        def range(self, histogram: Any, format: Any) -> Any:
            return 0.0, 1.0

        def explain(self, histogram: Any, format: Any) -> Any:
            if fails_to:
                raise qc.CalibrationError("nothing comes to mind")

        def __str__(self) -> str:
            return "quiet"

    cal = calibrator()
    (row, *_) = qc.compare(cal, strategies=[Quiet()])
    if fails_to:
        with fails('Tensor "conv1.input", strategy quiet: nothing comes to mind'):
            cal.compute(Quiet())
        assert row.error == "nothing comes to mind"
    else:
        assert cal.compute(Quiet()).report["conv1.input"].reason == ""
        assert row.reason == ""


def test_non_finite_is_ignored_or_raised_and_nothing_else() -> None:
    wrong: Any = "warn"
    with fails('on_nonfinite is \'warn\', but it must be "ignore" or "raise"'):
        qc.Calibrator(on_nonfinite=wrong)


def test_no_threads_are_too_few_and_a_million_too_many() -> None:
    before = qc.get_num_threads()
    for threads in (0, -1, 1025, 1_000_000):
        with fails(
            f"the number of threads is {threads}, but it must be between 1 and 1024"
        ):
            qc.set_num_threads(threads)
    assert qc.get_num_threads() == before


def test_unusable_parameters_are_refused_when_used() -> None:
    good = qc.QuantParams.from_range(-1, 1)
    fields: dict[str, Any] = {
        "low": -1.0,
        "high": 1.0,
        "format": "int8",
        "symmetric": True,
    }
    for scale in (0.0, -1.0, float("nan"), float("inf")):
        with fails("scale is .*, but it must be finite and positive"):
            qc.QuantParams(scale=scale, zero_point=0, **fields).quantize(X)
    with fails("zero_point is 128, but the format has codes -128 to 127 only"):
        qc.QuantParams(scale=1.0, zero_point=128, **fields).fake_quantize(X)
    with fails("elements of type int64", TypeError):
        good.quantize(np.arange(3))
    with fails("codes are uint8, but this format has int8", TypeError):
        good.dequantize(np.arange(3, dtype=np.uint8))
    with fails("codes are float32", TypeError):
        good.dequantize(X)


# Names that were never observed.


def test_a_name_never_observed_is_refused_with_names_like_it() -> None:
    cal = calibrator()
    for call in (lambda: cal["conv.input"], lambda: cal.stats("conv.input")):
        with fails(
            '"conv.input" was never observed.*Did you mean conv[12].input or', KeyError
        ):
            call()
    with fails(r'"zzz" was never observed \(3 tensors were\)', KeyError):
        cal["zzz"]
    assert len(cal) == 3
    one = qc.Calibrator()
    one.observe("alone", np.zeros(1, np.float32))
    with fails(r'"zzz" was never observed \(1 tensor was\)', KeyError):
        one["zzz"]


def test_a_rule_for_a_name_never_observed_is_refused() -> None:
    with fails('"conv3.input" was never observed.*Did you mean'):
        calibrator().compute({"conv3.input": "kl", "*": "mse"})


def test_patterns_may_match_nothing() -> None:
    table = calibrator().compute({"attention*": "kl", "*": "mse"})
    assert {p.strategy for p in table.values()} == {"mse"}


def test_a_tensor_that_no_rule_matches_is_named() -> None:
    with fails('No rule matches tensor "dense.output".*"conv\\*".*add a rule "\\*"'):
        calibrator().compute({"conv*": "mse"})


def test_a_policy_needs_rules() -> None:
    with fails("The policy has no rules"):
        calibrator().compute({})


def test_patterns_are_case_sensitive() -> None:
    with fails('No rule matches 3 tensors: "conv1.input", '):
        calibrator().compute({"CONV*": "mse"})


def test_an_empty_calibrator_has_nothing_to_compute() -> None:
    with fails(r"has observed nothing; call observe\(\) first"):
        qc.Calibrator().compute("mse")


def test_an_axis_for_a_tensor_that_is_not_given_is_refused_by_name() -> None:
    cal = calibrator()
    before = cal.to_bytes()
    with fails("axis names 'conv2.inptu', but no such tensor is given"):
        cal.observe_many({"conv2.input": X}, axis={"conv2.inptu": 0})
    assert cal.to_bytes() == before


def test_containers_of_other_types_are_refused_with_what_is_wanted() -> None:
    cal = calibrator()
    before = cal.to_bytes()
    with fails("mapping of names to arrays, not list", TypeError):
        cal.observe_many([X])  # type: ignore[arg-type]
    with fails("a Calibrator can be merged, not Histogram", TypeError):
        cal.merge(cal["conv1.input"])  # type: ignore[arg-type]
    with fails('Tensor "0" was never observed', KeyError):
        cal[0]  # type: ignore[index]
    for wrong in (None, 3, "mse"):
        with fails("must be a mapping of patterns", TypeError):
            qc.Policy(wrong)  # type: ignore[arg-type]
    assert cal.to_bytes() == before


def test_a_name_that_no_file_can_keep_is_refused_before_anything_is_kept() -> None:
    cal = calibrator()
    with fails("half a surrogate pair"):
        cal.observe("conv\ud800", X)
    assert qc.Calibrator.from_bytes(cal.to_bytes()) == cal


@pytest.mark.parametrize(
    ("given", "meant"), [("MES", "mse"), ("KLD", "kl"), ("MinMx", "minmax")]
)
def test_a_mistyped_name_is_reported_the_right_one(given: str, meant: str) -> None:
    with fails(f'Did you mean "{meant}"'):
        calibrator().compute(given)


@pytest.mark.parametrize("value", ["a", None, [0.5], np.array([0.1, 0.5])])
def test_what_is_no_number_is_refused_with_the_value(value: Any) -> None:
    histogram = calibrator()["conv1.input"]
    message = re.escape(f"{value!r} is not a number")
    for call in (
        lambda: histogram.quantile(value),
        lambda: histogram.abs_quantile(value),
        lambda: histogram.rebin(10, value, 1.0),
        lambda: qc.QuantParams.from_range(value, 1.0),
    ):
        with fails(message, TypeError):
            call()


def test_an_interval_beyond_float64_is_reported_in_few_characters() -> None:
    message = re.escape(
        "the interval [-1e308, 1e308] is not usable: it is wider than the largest float64"
    )
    with fails(message):
        calibrator()["conv1.input"].rebin(10, -1e308, 1e308)
    histogram = qc.Histogram()
    histogram.observe(np.array([-3e38, 1e-45], np.float32))
    assert "min=-3e38, max=1e-45" in repr(histogram)
