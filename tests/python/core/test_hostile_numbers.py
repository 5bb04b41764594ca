"""Impossible numbers in every file that is read and in every integer option."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import quantcal as qc
from quantcal.compat import (
    modelopt_entropy,
    modelopt_mse,
    modelopt_percentile,
    onnxruntime_entropy,
)
from quantcal.exporters import onnxruntime
from quantcal.onnx import Checkpoint, QuantizeOptions

HUGE = 10**400
ODD = {  # as JSON writes them
    "1e400": "1e400",
    "-1e400": "-1e400",
    "NaN": "NaN",
    "a whole number beyond float64": str(HUGE),
    "a negative one": str(-HUGE),
    "true": "true",
    "text": '"1.5"',
    "null": "null",
    "an object": "{}",
    "an empty list": "[]",
    "lists in lists": "[" * 99 + "true" + "]" * 99,
    "a list of true": "[true]",
    "a list of text": '["1"]',
}


def cache(low: str, high: str = "2.0") -> str:
    method = '{"value": "CalibrationMethod.MinMax"}'
    entry = f'{{"lowest": {low}, "highest": {high}}}'
    return f'{{"calibration_method": {method}, "data": {{"conv1": {entry}}}}}'


@pytest.mark.parametrize("odd", ODD)
@pytest.mark.parametrize("form", ["{}", "[{}]", "[1.0, {}]", '{{"data": {}}}'])
def test_an_odd_number_in_a_cache_names_the_file_and_the_tensor(
    odd: str, form: str, tmp_path: Path
) -> None:
    path = tmp_path / "cache.json"
    number = form.format(ODD[odd])
    for text in (cache(number, "[2.0, 3.0]"), cache("-1", number), cache(number)):
        path.write_text(text)
        with pytest.raises(qc.CalibrationError, match=r'cache\.json, tensor "conv1"'):
            onnxruntime.read_cache(path)


def test_a_cache_in_lists_of_lists_is_read_and_pairs_are_not(tmp_path: Path) -> None:
    path = tmp_path / "cache.json"
    nested = "[" * 30 + "-1, -2" + "]" * 30
    path.write_text(cache(nested, "[[3], [4]]"))
    assert onnxruntime.read_cache(path)["conv1"].low == pytest.approx([-1, -2], rel=0.1)
    pairs = '[["conv1", {"lowest": -1, "highest": 1}], ["conv1", {}]]'
    path.write_text(
        cache("0").replace('{"conv1": {"lowest": 0, "highest": 2.0}}', pairs)
    )
    with pytest.raises(qc.CalibrationError, match=r"cache\.json is no calibration"):
        onnxruntime.read_cache(path)
    path.write_text(cache("0").replace('"conv1": ', '"conv1": 1, "conv1": '))
    with pytest.raises(qc.CalibrationError, match='key "conv1" occurs twice'):
        onnxruntime.read_cache(path)


@pytest.mark.parametrize("odd", ODD)
@pytest.mark.parametrize("axis", [None, 0])
def test_an_odd_number_in_a_table_names_the_file_and_the_tensor(
    odd: str, axis: int | None, tmp_path: Path
) -> None:
    cal = qc.Calibrator()
    cal.observe("conv1", np.float32([[1, 2], [3, -4]]), axis=axis)
    path = tmp_path / "table.json"
    cal.compute("minmax").save(path)
    content = json.loads(path.read_text())
    fields = set(content["tensors"]["conv1"]) - {"report", "strategy", "axis"}
    report = set(content["tensors"]["conv1"]["report"])
    report -= {"rule", "reason", "strategy", "min", "max", "sqnr_db"}
    read: list[str] = []
    for places, names in (([], fields), (["report"], report), ([], {"axis"})):
        for name in names:
            if name == "axis" and odd == "null" and axis is None:
                continue
            changed = json.loads(json.dumps(content))
            place = changed["tensors"]["conv1"]
            for key in places:
                place = place[key]
            place[name] = "@"
            text = json.dumps(changed).replace('"@"', ODD[odd])
            path.write_text(text)
            try:
                qc.CalibrationTable.load(path)
                read.append(name)
            except qc.CalibrationError as error:
                message = str(error)
                assert "table.json" in message
                assert 'tensor "conv1"' in message or "twice" in message, name
    assert set(read) <= {"symmetric"} if odd == "true" else not read, read


def test_whole_numbers_beyond_64_bits_are_shown_as_they_were_given() -> None:
    x = np.ones((2, 3), np.float32)
    h = qc.Histogram().observe(x)
    tried: dict[str, Callable[[int], Any]] = {
        "axis is {}, but an array": lambda n: qc.Calibrator().observe("x", x, axis=n),
        'Tensor "x": axis is {},': lambda n: qc.Calibrator().observe_many(
            {"x": x}, axis={"x": n}
        ),
        "axis is {}, but": lambda n: qc.calibrate(x, axis=n),
        "mantissa_bits is {}": qc.Histogram,
        "mantissa_bits is {}, but": lambda n: qc.Calibrator(mantissa_bits=n),
        "mantissa_bits is {}, ": h.coarsen,
        "num_bins is {}": lambda n: h.rebin(n, 0, 1),
        "num_bins is {}, but": qc.KL,
        "threads is {}": qc.set_num_threads,
    }
    for text, call in tried.items():
        for number in (2**70, -(2**70), 2**200, -(2**63) - 1, 2**63):
            with pytest.raises(qc.CalibrationError) as caught:
                call(number)
            assert text.format(number) in str(caught.value), text
        for number in (10**5000, -(10**5000)):  # Python refuses to write the digits
            with pytest.raises(qc.CalibrationError) as caught:
                call(number)
            sign = "a negative" if number < 0 else "a"
            assert f"is {sign} number of 16610 bits" in str(caught.value)


@pytest.mark.parametrize("value", [True, False, np.True_, 1.0, np.float32(1), "1", 1j])
def test_what_is_no_whole_number_is_no_axis_and_no_resolution(value: Any) -> None:
    x = np.ones((2, 3), np.float32)
    cal = qc.Calibrator()
    cal.observe("known", x, axis=1)
    before = cal.to_bytes()
    for name in ("known", "new"):
        with pytest.raises((TypeError, qc.CalibrationError)):
            cal.observe(name, x, axis=value)
    for call in (qc.Histogram, lambda v: qc.Calibrator(mantissa_bits=v)):
        with pytest.raises(TypeError, match="not a whole number"):
            call(value)
    with pytest.raises(TypeError, match="not a whole number"):
        qc.set_num_threads(value)
    assert cal.to_bytes() == before


@pytest.mark.parametrize("kind", [np.int8, np.int64, np.uint8, np.uint64])
def test_whole_numbers_of_numpy_are_taken(kind: Any) -> None:
    x = np.ones((2, 3), np.float32)
    cal = qc.Calibrator(mantissa_bits=kind(5))
    cal.observe("x", x, axis=kind(1))
    cal.observe("x", x, axis=1)
    assert (cal.axis("x"), len(cal.channels("x"))) == (1, 3)
    assert qc.Histogram(kind(5)).mantissa_bits == 5
    assert qc.Calibrator.from_bytes(cal.to_bytes()).mantissa_bits == 5
    with pytest.raises(qc.CalibrationError, match="mantissa_bits is 99"):
        qc.Histogram(kind(99))
    if kind is np.uint64:
        with pytest.raises(qc.CalibrationError, match=f"axis is {2**64 - 1}"):
            cal.observe("y", x, axis=np.uint64(2**64 - 1))


def test_more_levels_than_there_are_numbers_are_levels_enough() -> None:
    h = qc.Histogram().observe(np.ones(100, np.float32))
    many = qc.calibrate(h, qc.KL(num_levels=2**64))
    assert many.high == qc.calibrate(h, qc.KL(num_levels=2**62)).high
    with pytest.raises(qc.CalibrationError, match="num_levels is 18446744073709551617"):
        qc.KL(num_levels=2**64 + 1)


X = np.ones((2, 3), np.float32)
COUNTS, EDGES = np.ones(256, np.int64), np.linspace(0, 1, 257)


def seen() -> qc.Calibrator:
    cal = qc.Calibrator()
    cal.observe("x", X, axis=1)
    return cal


BEYOND: dict[str, Callable[[Any], Any]] = {
    "low is {}": lambda n: qc.QuantParams.from_range(n, 1.0),
    "high is {}": lambda n: qc.QuantParams.from_range(0, n),
    "low is {}, which": lambda n: qc.QuantParams(
        scale=1.0, zero_point=0, low=n, high=1.0, format="int8", symmetric=True
    ),
    "tolerance is {}": lambda n: qc.check_stability(seen(), seen()).summary(n),
    "tolerance is {}, which": lambda n: qc.check_stability(seen(), seen()).beyond(n),
    "seconds is {}": lambda n: Checkpoint("x", seconds=n),  # type: ignore[arg-type]
}


@pytest.mark.parametrize("text", BEYOND)
@pytest.mark.parametrize(
    "number", [10**400, -(10**400), 10**5000, -(10**5000)], ids=int.bit_length
)
def test_a_number_beyond_floats_is_refused_by_name(number: int, text: str) -> None:
    with pytest.raises(qc.CalibrationError) as caught:
        BEYOND[text](number)
    sign = "a negative" if number < 0 else "a"
    bits = f"{sign} number of {number.bit_length()} bits"
    assert text.format(bits) in str(caught.value)


@pytest.mark.parametrize("value", [-1, True, 1.5, "3", None, [10**5000]])
def test_a_checkpoint_takes_a_number_of_samples(value: Any) -> None:
    with pytest.raises(qc.CalibrationError, match=r"samples is .* Give a whole number"):
        Checkpoint("x", samples=value)  # type: ignore[arg-type]


@pytest.mark.parametrize("value", [-1, True, float("nan"), "3", None])
def test_a_checkpoint_takes_a_number_of_seconds(value: Any) -> None:
    with pytest.raises(qc.CalibrationError, match="seconds is "):
        Checkpoint("x", seconds=value)  # type: ignore[arg-type]


LONG: dict[str, Callable[[Any], Any]] = {
    "num_bins is {}": qc.KL,
    "num_levels is {}": lambda n: qc.KL(num_levels=n),
    'Rule "*": num_levels is {}': lambda n: qc.Policy(
        {"*": {"strategy": "kl", "num_levels": n}}
    ),
    "two_sided is {}": lambda n: qc.KL(two_sided=n),
    "p is {}": qc.MSE,
    "newton is {}": lambda n: qc.MSE(newton=n),
    'Strategy "mse": newton is {}': lambda n: qc.calibrate(X, "mse", newton=n),
    "percentile is {}": qc.Percentile,
    "tails is {}": lambda n: qc.Percentile(tails=n),
    "adaptive is {}": lambda n: qc.Percentile(adaptive=n),
    "reduce is {}": qc.MinMax,
    "distribution is {}": qc.ACIQ,
    "approximation is {}": lambda n: qc.ACIQ(approximation=n),
    "the range [{}, 1]": lambda n: qc.Fixed(n, 1),
    "{} is not a strategy": qc.Hybrid,
    "rules are {}": qc.Policy,
    'Policy "{}"': qc.Policy.named,
    'Format "{}"': qc.QuantFormat,
    "format is {}": qc.QuantFormat.of,
    "symmetric is {}": lambda n: qc.QuantFormat("int8", n),
    "zero_point is {}": lambda n: qc.QuantParams(
        scale=1.0, zero_point=n, low=-1.0, high=1.0, format="int8", symmetric=True
    ),
    "element is {}": qc.blocks.MXFP8,
    "on_nonfinite is {}": lambda n: qc.Calibrator(on_nonfinite=n),
    "axis is {}, but earlier": lambda n: seen().observe("x", X, axis=n),
    'Tensor "{}" was never observed': lambda n: seen().stats(n),
    "there is no channel {}": lambda n: seen().channels("x")[n],
    "target {} is": lambda n: qc.exporters.export({}, n, "x"),
    "num_bits is {}": lambda n: modelopt_entropy(COUNTS, EDGES, num_bits=n),
    "block_size is {}": lambda n: QuantizeOptions(block_size=n + 1),
    "placement={} is not": lambda n: QuantizeOptions(placement=n),
}


@pytest.mark.parametrize("text", LONG)
@pytest.mark.parametrize("sign", [1, -1])
def test_a_number_that_python_does_not_write_is_shown_by_its_length(
    sign: int, text: str
) -> None:
    with pytest.raises((qc.CalibrationError, TypeError, LookupError)) as caught:
        LONG[text](sign * 10**5000)
    number = ("a" if sign > 0 else "a negative") + " number of 16610 bits"
    assert text.format(number) in str(caught.value)


def test_a_list_that_python_does_not_write_is_shown_by_its_type() -> None:
    with pytest.raises(qc.CalibrationError, match="num_bins is a list that holds"):
        qc.KL([10**5000])  # type: ignore[arg-type]


def test_long_numbers_in_the_searches_of_other_tools() -> None:
    number = 10**5000
    plain = modelopt_entropy(COUNTS, EDGES, start_bin=200, stride=256)
    assert plain == modelopt_entropy(COUNTS, EDGES, start_bin=200, stride=number)
    for call in (
        lambda: modelopt_entropy(COUNTS, EDGES, start_bin=number),
        lambda: modelopt_mse(COUNTS, EDGES, start_bin=number),
        lambda: modelopt_percentile(COUNTS, EDGES, percentile=number),
        lambda: onnxruntime_entropy(COUNTS, EDGES, num_quantized_bins=number),
    ):
        with pytest.raises(qc.CalibrationError, match=r"a number of 1661\d bits"):
            call()
