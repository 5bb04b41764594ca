"""`QuantParams` computes what onnxruntime's QuantizeLinear and DequantizeLinear compute."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import numpy as np
import onnxruntime
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper

import oracles
import quantcal as qc
import samples
from samples import Array, f32

FORMATS = {"int8": TensorProto.INT8, "uint8": TensorProto.UINT8}


@functools.cache
def session(op: str, format: str) -> onnxruntime.InferenceSession:
    """Return a model of one node that takes scale and zero point as inputs."""
    real, code = TensorProto.FLOAT, FORMATS[format]
    source, target = (real, code) if op == "QuantizeLinear" else (code, real)
    graph = helper.make_graph(
        [helper.make_node(op, ["x", "scale", "zero_point"], ["y"])],
        op,
        [
            helper.make_tensor_value_info("x", source, None),
            helper.make_tensor_value_info("scale", real, []),
            helper.make_tensor_value_info("zero_point", code, []),
        ],
        [helper.make_tensor_value_info("y", target, None)],
    )
    opset = [helper.make_opsetid("", 13)]
    model = helper.make_model(graph, opset_imports=opset, ir_version=8)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


def run(op: str, p: qc.QuantParams, x: Array) -> Array:
    feeds = {
        "x": x,
        "scale": np.array(p.scale, dtype=np.float32),
        "zero_point": np.array(p.zero_point, dtype=p.format),
    }
    result: Array = session(op, p.format).run(None, feeds)[0]
    return result


def params(format: str, scale: float, zero_point: int) -> qc.QuantParams:
    scale = float(np.float32(scale))
    low, high = (
        (q - zero_point) * scale for q in (oracles.QMIN[format], oracles.QMAX[format])
    )
    return qc.QuantParams(scale, zero_point, low, high, format, symmetric=False)


def assert_as_onnxruntime(p: qc.QuantParams, x: Array) -> None:
    """Assert equality to the last bit, the sign of zero included."""
    wanted = run("QuantizeLinear", p, np.asarray(x, dtype=np.float32, order="C"))
    got = p.quantize(x)
    assert got.dtype == p.format
    assert got.shape == x.shape
    np.testing.assert_array_equal(got, wanted)
    real = run("DequantizeLinear", p, wanted)
    back = p.dequantize(got)
    assert back.dtype == np.float32
    assert back.shape == x.shape
    assert back.tobytes() == real.tobytes()
    faked = p.fake_quantize(x)
    assert faked.dtype == np.float32
    assert faked.shape == x.shape
    assert faked.tobytes() == real.tobytes()


def grids(format: str) -> list[tuple[float, int]]:
    """Return scales of all sizes, round and odd, with zero points all over."""
    rng = np.random.default_rng(len(format))
    qmin, qmax = oracles.QMIN[format], oracles.QMAX[format]
    scales = [1.0, 0.5, 0.1, 1 / 127, 3.7e-3, 1e-30, 1e30, np.finfo(np.float32).tiny]
    scales += list(10.0 ** rng.uniform(-6, 4, size=12))
    zero_points = [qmin, qmax, 0, qmin + 1, qmax - 1, *rng.integers(qmin, qmax, size=3)]
    return [
        (scale, int(zero_point))
        for i, scale in enumerate(scales)
        for zero_point in np.roll(zero_points, i)[:4]
    ]


def special_values(scale: float) -> Array:
    """Return ties, their neighbors, ends of the grid, and everything that is odd."""
    steps = np.arange(-300, 301, dtype=np.float64) / 2
    ties = (steps * scale).astype(np.float32)
    infinity = np.float32(np.inf)
    odd = [0.0, -0.0, np.inf, -np.inf, np.nan, samples.MAX, -samples.MAX, samples.TINY]
    odd += [
        -samples.TINY,
        1e-40,
        -1e-40,
        0.5,
        1e10,
        -1e10,
        2.0**23,
        2.0**31,
        -(2.0**31),
    ]
    return np.concatenate(
        [
            ties,
            np.nextafter(ties, infinity),
            np.nextafter(ties, -infinity),
            np.array(odd, dtype=np.float32),
        ]
    )


@pytest.mark.parametrize("format", FORMATS)
def test_special_values_quantize_as_in_onnxruntime(format: str) -> None:
    for scale, zero_point in grids(format):
        with np.errstate(over="ignore"):
            x = special_values(scale)
        assert_as_onnxruntime(params(format, scale, zero_point), x)


@pytest.mark.parametrize("format", FORMATS)
def test_all_bit_patterns_quantize_as_in_onnxruntime(format: str) -> None:
    for seed, (scale, zero_point) in enumerate(grids(format)):
        x = samples.any_bits(5000, seed)
        assert_as_onnxruntime(params(format, scale, zero_point), x)


@pytest.mark.parametrize("format", FORMATS)
def test_all_codes_dequantize_as_in_onnxruntime(format: str) -> None:
    codes = np.arange(oracles.QMIN[format], oracles.QMAX[format] + 1).astype(format)
    for scale, zero_point in grids(format):
        p = params(format, scale, zero_point)
        real = p.dequantize(codes)
        assert real.tobytes() == run("DequantizeLinear", p, codes).tobytes()


@pytest.mark.parametrize("format", FORMATS)
def test_codes_survive_the_way_to_real_values_and_back(format: str) -> None:
    codes = np.arange(oracles.QMIN[format], oracles.QMAX[format] + 1).astype(format)
    for scale in (1.0, 0.1, 3.3e-5, 1e20):
        p = params(format, scale, 3)
        np.testing.assert_array_equal(p.quantize(p.dequantize(codes)), codes)
        faked = p.fake_quantize(samples.shape("student_t3", 1000))
        assert p.fake_quantize(faked).tobytes() == faked.tobytes()


@pytest.mark.usefixtures("keep_num_threads")
@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("size", [0, 1, 31, 100_003, 300_007])
def test_any_size_and_number_of_threads_gives_onnxruntimes_codes(
    size: int, format: str
) -> None:
    x = samples.shape("student_t3", size)
    for threads in (1, 2, 7):
        qc.set_num_threads(threads)
        assert_as_onnxruntime(params(format, 0.03, 5), x)


@pytest.mark.parametrize("format", FORMATS)
def test_any_shape_and_layout_keeps_its_shape(format: str) -> None:
    p = params(format, 0.03, 5)
    x = samples.shape("gaussian", 4 * 5 * 6).reshape(4, 5, 6)
    for view in (
        x,
        x.T,
        x[::2, ::-1],
        x[:, 2, 3],
        x[0, 0, 0, ...],
        x[:0],
        x[None, :, :0],
    ):
        assert_as_onnxruntime(p, view)
        codes = p.quantize(view)
        np.testing.assert_array_equal(p.dequantize(codes.T), p.dequantize(codes).T)
        every_second = p.dequantize(codes[..., ::2] if codes.ndim else codes)
        want = p.dequantize(codes)
        np.testing.assert_array_equal(
            every_second, want[..., ::2] if want.ndim else want
        )


@given(
    st.lists(st.floats(width=32), max_size=30),
    st.floats(2.0**-100, 2.0**100),
    st.integers(-128, 255),
)
def test_drawn_values_quantize_as_in_onnxruntime(
    values: list[float], scale: float, zero_point: int
) -> None:
    x = np.array(values, dtype=np.float32)
    for format in FORMATS:
        limited = min(max(zero_point, oracles.QMIN[format]), oracles.QMAX[format])
        assert_as_onnxruntime(params(format, scale, limited), x)


@pytest.mark.parametrize("dtype", samples.DTYPES.values(), ids=samples.DTYPES)
def test_other_float_types_are_quantized_as_float32(dtype: np.dtype[Any]) -> None:
    x = samples.cast(samples.shape("laplace", 1000), dtype)
    p = params("uint8", 0.05, 100)
    np.testing.assert_array_equal(p.quantize(x), p.quantize(x.astype(np.float32)))
    assert p.fake_quantize(x).dtype == np.float32
    assert p.quantize(x.reshape(10, 100)).shape == (10, 100)


def test_numbers_and_lists_are_quantized() -> None:
    p = params("int8", 0.5, 0)
    assert p.quantize([0.5, -1.0, 1e9]).tolist() == [1, -2, 127]
    single = p.quantize(1.0)
    assert (single.shape, int(single)) == ((), 2)
    assert p.dequantize(np.int8(4)).item() == 2.0


def test_nan_becomes_the_lowest_code() -> None:
    nan = f32([np.nan])
    assert params("int8", 1.0, 5).quantize(nan).tolist() == [-128]
    assert params("uint8", 1.0, 5).quantize(nan).tolist() == [0]


def test_halves_round_to_even() -> None:
    x = f32([-2.5, -1.5, -0.5, 0.5, 1.5, 2.5])
    assert params("int8", 1.0, 0).quantize(x).tolist() == [-2, -2, 0, 0, 2, 2]
    # The zero point is added after rounding, odd or even.
    assert params("uint8", 1.0, 11).quantize(x).tolist() == [9, 9, 11, 11, 13, 13]


@pytest.mark.parametrize(("format", "symmetric"), samples.TARGETS)
@pytest.mark.parametrize(
    ("low", "high"),
    [(-1.0, 1.0), (-0.3, 2.2), (0.0, 6.0), (1.0, 6.0), (-5.0, -1.0), (-2, 0)],
)
def test_scale_and_zero_point_of_a_range_follow_their_formulas(
    low: float, high: float, format: str, symmetric: bool
) -> None:
    p = qc.QuantParams.from_range(low, high, format=format, symmetric=symmetric)
    assert (p.scale, p.zero_point) == oracles.grid(low, high, format, symmetric)
    assert p.quantize(f32([0.0])).tolist() == [p.zero_point]
    assert p.dequantize(p.quantize(f32([0.0]))).tolist() == [0.0]
    if symmetric:
        assert p.low == -p.high
        assert p.high == pytest.approx(max(-low, high), rel=1e-7)  # scale is a float32
    else:
        # The range is the one that the rounded zero point gives: half a step off at most.
        assert p.low == pytest.approx(min(low, 0), abs=0.51 * p.scale)
        assert p.high == pytest.approx(max(high, 0), abs=0.51 * p.scale)
        assert p.low <= 0 <= p.high
    assert (p.format, p.symmetric, p.strategy) == (format, symmetric, "fixed")


def test_the_ends_of_the_range_are_exact_multiples_of_the_scale() -> None:
    p = qc.QuantParams.from_range(-0.3, 2.2, format="uint8")
    assert p.low == (0 - p.zero_point) * p.scale
    assert p.high == (255 - p.zero_point) * p.scale
    assert p.scale == float(np.float32(p.scale))


def test_int8_is_symmetric_and_uint8_affine_unless_reported_otherwise() -> None:
    assert qc.QuantParams.from_range(0, 1, format="int8").symmetric is True
    assert qc.QuantParams.from_range(0, 1, format="uint8").symmetric is False
    int8 = qc.QuantParams.from_range(0, 1.27, format="int8")
    assert (int8.zero_point, int8.low, int8.high) == (
        0,
        -127 * int8.scale,
        127 * int8.scale,
    )
    assert (
        qc.QuantParams.from_range(-1, 1, format="uint8", symmetric=True).zero_point
        == 128
    )


@pytest.mark.parametrize(("format", "symmetric"), samples.TARGETS)
@pytest.mark.parametrize(
    ("low", "high"),
    [
        (0.0, 0.0),
        (0.0, 5e-324),
        (-1e-45, 1e-45),
        (-3.4e38, 3.4e38),
        (0.0, 1.7e308),
        (-1.7e308, 1.7e308),
    ],
)
def test_every_finite_range_gives_a_usable_scale(
    low: float, high: float, format: str, symmetric: bool
) -> None:
    p = qc.QuantParams.from_range(low, high, format=format, symmetric=symmetric)
    assert np.finfo(np.float32).tiny <= p.scale <= samples.MAX
    assert np.isfinite([p.low, p.high]).all()
    assert p.dequantize(p.quantize(f32([0.0]))).tolist() == [0.0]


def test_params_are_frozen_values() -> None:
    p = qc.QuantParams.from_range(-1, 1)
    assert p == qc.QuantParams.from_range(-1, 1)
    assert hash(p) == hash(qc.QuantParams.from_range(-1, 1))
    assert p != qc.QuantParams.from_range(-1, 2)
    with pytest.raises(dataclasses.FrozenInstanceError):
        p.scale = 2.0  # type: ignore[misc]


def test_float64_beyond_float32_saturates_without_a_warning() -> None:
    params = qc.QuantParams.from_range(-1, 1)
    huge = np.array([1e300, -1e300, 0.5])  # warnings are errors here
    np.testing.assert_array_equal(params.quantize(huge), [127, -128, 64])
    assert params.fake_quantize(huge)[0] == np.float32(127 * params.scale)


def test_the_format_is_a_name_and_numpys_truth_is_pythons() -> None:
    made = qc.QuantParams(1.0, 0, -127.0, 127.0, "int8", np.bool_(True))  # type: ignore[arg-type]
    assert made == qc.QuantParams(1.0, 0, -127.0, 127.0, "int8", True)
    assert made.symmetric is True
    with pytest.raises(
        qc.CalibrationError, match=r"format is QuantFormat.* must be a str"
    ):
        qc.QuantParams(1.0, 0, -127.0, 127.0, qc.QuantFormat("int8"), True)  # type: ignore[arg-type]


def test_numpys_numbers_are_pythons() -> None:
    made = qc.QuantParams(
        np.float32(0.1), np.int64(3), np.float32(-1), np.float64(1), "int8", False
    )  # type: ignore[arg-type]
    assert made == qc.QuantParams(float(np.float32(0.1)), 3, -1.0, 1.0, "int8", False)
    kinds = [type(v) for v in (made.scale, made.zero_point, made.low, made.high)]
    assert kinds == [float, int, float, float]
    assert (
        qc.QuantParams([1.0], [0], [-1.0], [1.0], "int8", True, axis=np.int64(1)).axis
        == 1
    )  # type: ignore[arg-type]


@pytest.mark.parametrize("field", ["scale", "low", "high"])
def test_whole_numbers_beyond_any_float_are_refused(field: str) -> None:
    fields = qc.QuantParams.from_range(-1, 1).to_dict()
    with pytest.raises(
        qc.CalibrationError, match=f"{field} is a .* exceeds the range of a float"
    ):
        qc.QuantParams(**{**fields, field: 10**400})
    with pytest.raises(qc.CalibrationError, match=f"zero_point is {2**70}"):
        qc.QuantParams(**{**fields, "zero_point": 2**70})
