"""Formats: their names and dtypes, their codes against ml_dtypes, ONNX and plain numpy."""

from __future__ import annotations

import dataclasses
import pickle
from collections.abc import Iterator
from typing import Any

import ml_dtypes
import numpy as np
import onnxruntime
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator

import oracles
import quantcal as qc
import samples
from quantcal.formats import FORMATS
from samples import Array

INTEGERS = [f"{sign}int{bits}" for bits in range(2, 17) for sign in ("", "u")]
FLOATS = ["float8_e4m3fn", "float8_e5m2", "float4_e2m1fn"]

# Scales of all sizes: powers of two, odd ones, the smallest normal float and one below it.
SCALES = [1.0, 0.5, 2.0**-20, 2.0**20, 0.1, 1 / 127, 3.7e-5, 1e30, 1e-30]
SCALES += [float(np.finfo(np.float32).tiny), 1e-38]


def zero_points(format: str) -> list[int]:
    if format in FLOATS:
        return [0]
    qmin, qmax = oracles.QMIN[format], oracles.QMAX[format]
    return sorted({qmin, qmax, 0, qmin + 1, (qmin + qmax) // 2 + 1})


def params(format: str, scale: float, zero_point: int) -> qc.QuantParams:
    """Return parameters of any scale and zero point."""
    scale = float(np.float32(scale))
    low, high = (scale * (level - zero_point) for level in oracles.ends(format))
    return qc.QuantParams(
        scale, zero_point, low, high, format, symmetric=format in FLOATS
    )


def grids(format: str) -> Iterator[qc.QuantParams]:
    for number, scale in enumerate(SCALES):
        points = zero_points(format)
        for zero_point in {
            points[number % len(points)],
            points[-1 - number % 2 * (len(points) - 1)],
        }:
            yield params(format, scale, zero_point)


def values_for(p: qc.QuantParams, seed: int = 0) -> Array:
    """Return all levels, ties and their neighbors, what overflows, and everything odd."""
    levels = oracles.levels(p.format) - p.zero_point
    if levels.size > 4096:  # both ends, the middle, and some between
        some = np.random.default_rng(seed).choice(levels, 2000)
        middle = levels.size // 2
        near = levels[middle - 500 : middle + 500]
        levels = np.unique(np.concatenate([levels[:500], some, near, levels[-500:]]))
    ends = levels[[0, -1]] * np.array([[1.01], [1.5], [2.0], [1e6]])
    with np.errstate(over="ignore", under="ignore"):
        exact = np.concatenate([levels, (levels[1:] + levels[:-1]) / 2, ends.ravel()])
        x = (exact * p.scale).astype(np.float32)
        up, down = np.float32(np.inf), np.float32(-np.inf)
        x = np.concatenate([x, np.nextafter(x, up), np.nextafter(x, down)])
    odd = [0.0, np.inf, np.nan, samples.MAX, samples.TINY, 1e-40, 1e-30, 1.0, 1e10]
    odd_array = np.array(odd, dtype=np.float32)
    return np.concatenate([x, odd_array, -odd_array, samples.any_bits(2000, seed)])


# Against onnxruntime.

KERNELS = {
    "int2": (25, 13),
    "uint2": (25, 13),
    "int4": (21, 10),
    "uint4": (21, 10),
    "int8": (13, 8),
    "uint8": (13, 8),
    "int16": (21, 10),
    "uint16": (21, 10),
    "float8_e4m3fn": (19, 9),
    "float8_e5m2": (19, 9),
}
"""Opset and IR version of the formats for which onnxruntime has kernels."""


def onnx_type(format: str) -> int:
    names = {"float8_e4m3fn": "FLOAT8E4M3FN", "float8_e5m2": "FLOAT8E5M2"}
    names["float4_e2m1fn"] = "FLOAT4E2M1"
    number: int = TensorProto.DataType.Value(names.get(format, format.upper()))
    return number


def model(p: qc.QuantParams, opset: int, ir_version: int) -> Any:
    """Return a model that gives what values become, and their codes as numbers.

    Dequantized with scale 1 and zero point 0, a code is its own number: small types need not
    leave the model.
    """
    real, code = TensorProto.FLOAT, onnx_type(p.format)
    graph = helper.make_graph(
        [
            helper.make_node("QuantizeLinear", ["x", "scale", "zero_point"], ["q"]),
            helper.make_node("DequantizeLinear", ["q", "scale", "zero_point"], ["y"]),
            helper.make_node("DequantizeLinear", ["q", "one", "zero"], ["code"]),
        ],
        "grid",
        [helper.make_tensor_value_info("x", real, [None])],
        [helper.make_tensor_value_info(name, real, [None]) for name in ("y", "code")],
        [
            helper.make_tensor("scale", real, [], [p.scale]),
            helper.make_tensor("zero_point", code, [], [p.zero_point]),
            helper.make_tensor("one", real, [], [1.0]),
            helper.make_tensor("zero", code, [], [0]),
        ],
    )
    opsets = [helper.make_opsetid("", opset)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=ir_version)


def numbers(codes: Array) -> Array:
    """Return codes as the float32 numbers that they are."""
    own = codes.dtype.name in FLOATS or codes.dtype.name in KERNELS
    result: Array = codes.astype(np.float32) if own else codes
    return result


def assert_same_bits(got: Array, want: Array) -> None:
    """Assert equality to the last bit, the sign of zero included; one NaN is as another."""
    got, want = (np.asarray(a, dtype=np.float32) for a in (got, want))
    nan = np.isnan(want)
    np.testing.assert_array_equal(np.isnan(got), nan)
    np.testing.assert_array_equal(got[~nan].view(np.int32), want[~nan].view(np.int32))


@pytest.mark.parametrize("format", KERNELS)
def test_codes_and_values_are_those_of_onnxruntime(format: str) -> None:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = (
        onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    )
    options.intra_op_num_threads = 1
    for seed, p in enumerate(grids(format)):
        session = onnxruntime.InferenceSession(
            model(p, *KERNELS[format]).SerializeToString(),
            options,
            providers=["CPUExecutionProvider"],
        )
        x = values_for(p, seed)
        y, code = session.run(None, {"x": x})
        codes = p.quantize(x)
        assert_same_bits(numbers(codes), code)
        assert_same_bits(p.dequantize(codes), y)
        assert_same_bits(p.fake_quantize(x), y)
        assert np.unique(code[~np.isnan(code)]).size >= min(1 << p_bits(p), 240)


def p_bits(p: qc.QuantParams) -> int:
    return qc.QuantFormat(p.format).bits


def test_four_bit_floats_are_those_of_the_onnx_reference() -> None:
    """onnxruntime has no kernel for them."""
    for seed, p in enumerate(grids("float4_e2m1fn")):
        x = values_for(p, seed)
        x = x[
            ~np.isnan(x)
        ]  # the format has no NaN, and ONNX does not say what becomes of it
        evaluator = ReferenceEvaluator(model(p, 23, 11))
        with np.errstate(over="ignore"):
            y, code = evaluator.run(None, {"x": x})
        codes = p.quantize(x)
        # The reference adds the zero point to zeros of either sign, which makes them positive.
        np.testing.assert_array_equal(numbers(codes), code)
        np.testing.assert_array_equal(p.dequantize(codes), y)
        np.testing.assert_array_equal(p.fake_quantize(x), y)


# Against ml_dtypes.


@pytest.mark.parametrize("format", FLOATS)
def test_codes_of_floats_are_the_bits_of_ml_dtypes(format: str) -> None:
    dtype = np.dtype(getattr(ml_dtypes, format))
    maximum = float(ml_dtypes.finfo(dtype).max)
    for seed, p in enumerate(grids(format)):
        x = values_for(p, seed)
        with np.errstate(over="ignore", invalid="ignore"):
            steps = x / np.float32(p.scale)
        # What saturates does so before the conversion, which would give NaN or infinity.
        limited = np.where(np.isnan(steps), steps, np.clip(steps, -maximum, maximum))
        want = limited.astype(np.float32).astype(dtype)
        codes = p.quantize(x)
        assert codes.dtype == dtype
        np.testing.assert_array_equal(codes.view(np.uint8), want.view(np.uint8))


@pytest.mark.parametrize("format", FLOATS)
def test_every_code_of_a_float_has_the_value_of_ml_dtypes(format: str) -> None:
    dtype = np.dtype(getattr(ml_dtypes, format))
    codes = np.arange(1 << qc.QuantFormat(format).bits, dtype=np.uint8).view(dtype)
    for scale in SCALES:
        with np.errstate(over="ignore", invalid="ignore"):
            want = codes.astype(np.float32) * np.float32(scale)
        got = params(format, scale, 0).dequantize(codes)
        assert_same_bits(got, want)
        stored = params(format, scale, 0).dequantize(codes.view(np.uint8))
        assert_same_bits(stored, want)


@pytest.mark.parametrize("format", FLOATS)
def test_codes_of_floats_survive_the_way_to_values_and_back(format: str) -> None:
    dtype = np.dtype(getattr(ml_dtypes, format))
    codes = np.arange(1 << qc.QuantFormat(format).bits, dtype=np.uint8)
    finite = codes[np.isfinite(codes.view(dtype).astype(np.float32))]
    for scale in (1.0, 0.1, 3.3e-5, 1e20):
        p = params(format, scale, 0)
        back = p.quantize(p.dequantize(finite)).view(np.uint8)
        np.testing.assert_array_equal(back, finite)


# Against numpy.


@pytest.mark.parametrize("format", INTEGERS)
def test_codes_of_every_integer_width_are_those_of_numpy(format: str) -> None:
    for seed, p in enumerate(grids(format)):
        x = values_for(p, seed)
        want = oracles.codes(x, format, p.scale, p.zero_point)
        codes = p.quantize(x)
        assert codes.dtype == qc.QuantFormat(format).dtype
        np.testing.assert_array_equal(codes.astype(np.int64), want)
        with np.errstate(over="ignore"):
            steps = (want - p.zero_point).astype(np.float32)
            real = steps * np.float32(p.scale)
        assert_same_bits(p.dequantize(codes), real)
        assert_same_bits(p.fake_quantize(x), real)


@pytest.mark.parametrize("format", INTEGERS)
def test_every_integer_code_survives_the_way_to_values_and_back(format: str) -> None:
    levels = oracles.levels(format).astype(np.int32)
    codes = levels.astype(qc.QuantFormat(format).storage)
    for scale in (1.0, 0.1, 3.3e-5, 1e20):
        for zero_point in zero_points(format):
            p = params(format, scale, zero_point)
            back = p.quantize(p.dequantize(codes)).astype(np.int32)
            np.testing.assert_array_equal(back, levels)


@pytest.mark.parametrize("format", FORMATS)
def test_values_of_any_shape_and_size_keep_it(format: str) -> None:
    p = qc.QuantParams.from_range(-3, 3, format=format)
    x = samples.shape("student_t3", 140_000).reshape(2, -1, 7)  # on several threads
    codes = p.quantize(x)
    assert codes.shape == x.shape
    np.testing.assert_array_equal(
        codes[1, ::9].view(p_storage(p)), p.quantize(x[1, ::9]).view(p_storage(p))
    )
    assert_same_bits(p.dequantize(codes), p.fake_quantize(x))


def p_storage(p: qc.QuantParams) -> np.dtype[Any]:
    return qc.QuantFormat(p.format).storage


# QuantFormat.


def test_the_formats_are_these() -> None:
    assert set(FORMATS) == {*INTEGERS, *FLOATS}
    assert len(FORMATS) == 33


@pytest.mark.parametrize("name", INTEGERS)
def test_an_integer_format_has_the_bits_that_it_says(name: str) -> None:
    format = qc.QuantFormat(name)
    signed = name.startswith("int")
    bits = int(name.removeprefix("u").removeprefix("int"))
    assert (format.bits, format.is_float, format.power_of_two) == (bits, False, False)
    assert format.symmetric is signed
    assert format.storage == f"{'int' if signed else 'uint'}{8 if bits <= 8 else 16}"
    own = {2, 4}  # ml_dtypes has these
    want = getattr(ml_dtypes, name) if bits in own else format.storage
    assert format.dtype == want
    other = qc.QuantFormat(name, not signed)
    assert other.symmetric is not signed


@pytest.mark.parametrize(("name", "bits"), list(zip(FLOATS, (8, 8, 4), strict=True)))
def test_a_float_format_has_the_dtype_of_ml_dtypes(name: str, bits: int) -> None:
    format = qc.QuantFormat(name)
    assert (format.bits, format.is_float, format.symmetric) == (bits, True, True)
    assert (format.storage, format.dtype) == (np.uint8, getattr(ml_dtypes, name))
    with pytest.raises(
        qc.CalibrationError, match=f"{name} has no zero point, so it cannot be affine"
    ):
        qc.QuantFormat(name, symmetric=False)


@pytest.mark.parametrize("name", FORMATS)
def test_formats_are_frozen_values(name: str) -> None:
    format = qc.QuantFormat(name)
    same = qc.QuantFormat(name, format.symmetric, False)
    assert format == same
    assert hash(format) == hash(same)
    assert format != qc.QuantFormat(name, power_of_two=True)
    assert pickle.loads(pickle.dumps(format)) == format
    assert dataclasses.replace(format, power_of_two=True).power_of_two is True
    assert qc.QuantFormat.of(format) == format == qc.QuantFormat.of(name)
    with pytest.raises(dataclasses.FrozenInstanceError):
        format.name = "int8"  # type: ignore[misc]


def test_a_format_is_printed_with_its_scaling() -> None:
    assert str(qc.QuantFormat("int4")) == "int4 (symmetric)"
    assert str(qc.QuantFormat("uint4")) == "uint4 (affine)"
    power = qc.QuantFormat("uint8", symmetric=True, power_of_two=True)
    assert str(power) == "uint8 (symmetric, power-of-two scale)"


def test_scaling_given_beside_a_format_replaces_its_own() -> None:
    format = qc.QuantFormat("uint8", symmetric=True)
    assert qc.QuantFormat.of(format, symmetric=False).symmetric is False
    assert qc.QuantFormat.of(format).symmetric is True
    assert qc.QuantFormat.of(format, power_of_two=True).power_of_two is True
    x = samples.shape("skewed", 1000)
    for options in ({"format": format}, {"format": "uint8", "symmetric": True}):
        assert qc.calibrate(x, **options).zero_point == 128  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "name",
    ["int1", "int17", "uint", "int08", "INT", "float16", "bfloat16", "", " int"],
)
def test_an_unknown_format_is_refused_with_those_that_exist(name: str) -> None:
    message = f'Format "{name}" is not known.*Known formats: int2 to int16, uint2 to'
    for call in (
        lambda: qc.QuantFormat(name),
        lambda: qc.QuantParams.from_range(-1, 1, format=name),
        lambda: qc.calibrate([0.5], format=name),
    ):
        with pytest.raises(qc.CalibrationError, match=message):
            call()


@pytest.mark.parametrize("wrong", [0, 1, "yes", 1.0, [True]])
def test_scaling_is_true_or_false(wrong: Any) -> None:
    for call in (
        lambda: qc.QuantFormat("int8", power_of_two=wrong),
        lambda: qc.QuantFormat("int8", wrong),
        lambda: qc.QuantFormat.of("int8", None, wrong),
        lambda: qc.QuantFormat.of(qc.QuantFormat("int8"), wrong),
        lambda: qc.calibrate(np.ones(3, np.float32), power_of_two=wrong),
    ):
        with pytest.raises(qc.CalibrationError, match="but it must be True or False"):
            call()


@pytest.mark.parametrize("wrong", [6, None, b"int8", ["int8"], np.dtype("f4")])
def test_a_format_is_a_name_or_a_format(wrong: Any) -> None:
    for call in (
        lambda: qc.QuantFormat.of(wrong),
        lambda: qc.calibrate(np.ones(3, np.float32), format=wrong),
        lambda: qc.QuantParams.from_range(-1, 1, format=wrong),
    ):
        with pytest.raises(TypeError, match="it must be a name or a QuantFormat"):
            call()


# Scales.

KINDS = [
    (name, symmetric)
    for name in FORMATS
    for symmetric in ([True] if name in FLOATS else [True, False])
]
ranges = st.tuples(st.floats(-1e30, 1e30), st.floats(-1e30, 1e30)).map(sorted)


@given(ranges, st.sampled_from(KINDS))
def test_scale_and_zero_point_of_a_range_follow_their_formulas(
    ends: list[float], kind: tuple[str, bool]
) -> None:
    (low, high), (name, symmetric) = ends, kind
    p = qc.QuantParams.from_range(low, high, format=name, symmetric=symmetric)
    scale, zero_point = oracles.grid(low, high, name, symmetric)
    if scale == 0 or scale < np.finfo(np.float32).tiny:
        scale = 1.0 if max(-low, high) == 0 else float(np.finfo(np.float32).tiny)
        assert p.scale == scale
    else:
        assert (p.scale, p.zero_point) == (scale, zero_point)
    assert p.dequantize(p.quantize(np.zeros(1, np.float32))).tolist() == [0.0]


@given(ranges, st.sampled_from(KINDS))
def test_a_power_of_two_scale_is_the_smallest_that_clips_nothing_more(
    ends: list[float], kind: tuple[str, bool]
) -> None:
    (low, high), (name, symmetric) = ends, kind
    plain = qc.QuantParams.from_range(low, high, format=name, symmetric=symmetric)
    p = qc.QuantParams.from_range(
        low, high, format=name, symmetric=symmetric, power_of_two=True
    )
    assert np.frexp(p.scale)[0] == 0.5
    # To the precision of a float32, in which the plain scale is rounded.
    assert plain.scale <= p.scale * (1 + 2**-23)
    assert p.scale == 1 or p.scale < 2 * plain.scale * (1 + 2**-23)
    if symmetric:
        assert p.high >= max(-low, high) or p.scale <= np.finfo(np.float32).tiny
    else:  # the zero point is rounded, so each end moves by half a step at most
        assert p.low <= min(low, 0) + p.scale / 2
        assert p.high >= max(high, 0) - p.scale / 2


@pytest.mark.parametrize("power_of_two", [False, True])
@pytest.mark.parametrize(("name", "symmetric"), KINDS)
def test_minmax_clips_nothing_on_any_grid(
    name: str, symmetric: bool, power_of_two: bool
) -> None:
    format = qc.QuantFormat(name, symmetric, power_of_two)
    for seed, shape in enumerate(samples.SHAPES):
        cal = qc.Calibrator()
        cal.observe(shape, samples.shape(shape, 2000, seed))
        table = cal.compute("minmax", format=format)
        assert table.report[shape].clipped == 0
        assert table[shape].format == name


@pytest.mark.parametrize("strategy", ["minmax", "kl", "mse", "entropy", "aciq"])
@pytest.mark.parametrize("name", ["int4", "uint8", "float8_e5m2", "float4_e2m1fn"])
def test_every_strategy_takes_power_of_two_scales(name: str, strategy: str) -> None:
    format = qc.QuantFormat(name, power_of_two=True)
    x = samples.shape("laplace", 5000)
    p = qc.calibrate(x, strategy, format=format)
    assert np.frexp(p.scale)[0] == 0.5
    if strategy in (
        "minmax",
        "kl",
        "aciq",
    ):  # these choose a range, which is kept whole
        plain = qc.calibrate(x, strategy, format=name)
        assert plain.scale <= p.scale < 2 * plain.scale
