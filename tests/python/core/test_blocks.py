"""Block formats: codes and scales equal their definition bit for bit, in ml_dtypes."""

from __future__ import annotations

import json
import pickle
from typing import Any

import hypothesis.extra.numpy as arrays
import ml_dtypes
import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st

import quantcal as qc
from paths import GOLDEN
from quantcal.blocks import MXFP4, MXFP8, NVFP4, BlockFormat, BlockTensor
from samples import DTYPES, SHAPES, Array, any_bits, cast, f32, shape

GOLDEN = GOLDEN / "float8.json"
FORMATS = [MXFP8(), MXFP8("float8_e5m2"), MXFP4(), NVFP4(), NVFP4(2.5e-3)]
ELEMENTS = {
    "float8_e4m3fn": (ml_dtypes.float8_e4m3fn, 448.0, 8),
    "float8_e5m2": (ml_dtypes.float8_e5m2, 57344.0, 15),
    "float4_e2m1fn": (ml_dtypes.float4_e2m1fn, 6.0, 2),
}

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning:test_blocks")


def naive(format: BlockFormat, x: Array) -> tuple[Array, Array, Array]:
    """Return codes, scales and values of an array.

    It pads with zeros, takes maxima with numpy and exponents with frexp in float64. The types
    of ml_dtypes do all rounding.
    """
    dtype, top, emax = ELEMENTS[format.element]
    size, length = format.block_size, x.shape[-1]
    padding = [(0, 0)] * (x.ndim - 1) + [(0, -length % size)]
    count = -(-length // size)
    blocks = np.pad(x, padding).reshape(*x.shape[:-1], count, size)
    amax = np.abs(blocks).max(axis=-1)
    if format.scale_format == "float8_e8m0fnu":
        exponent = np.frexp(amax.astype(np.float64))[1] - 1.0
        exponent = np.where(amax == 0, -np.inf, exponent)
        exponent = np.where(np.isinf(amax), np.inf, exponent) - emax
        exponent = np.clip(exponent, -127, 127)
        scales = np.exp2(np.where(np.isnan(amax), np.nan, exponent))
        scales = scales.astype(ml_dtypes.float8_e8m0fnu)
        real = scales.astype(np.float32)
    else:
        assert format.global_scale is not None
        global_scale = np.float32(format.global_scale)
        wanted = amax / np.float32(6) / global_scale
        scales = np.clip(wanted, 2.0**-9, 448).astype(ml_dtypes.float8_e4m3fn)
        real = scales.astype(np.float32) * global_scale
    codes = np.clip(blocks / real[..., None], -top, top)
    codes = np.where(np.isnan(amax)[..., None], 0, codes).astype(dtype)
    values = codes.astype(np.float32) * real[..., None]

    def cut(array: Array) -> Array:
        whole = array.reshape(*x.shape[:-1], count * size)
        return whole[..., :length]

    return cut(codes.view(np.uint8)), scales.view(np.uint8), cut(values)


def same(a: Array, b: Array) -> bool:
    """Whether the bits are equal; any NaN equals any other."""
    either = np.isnan(a) & np.isnan(b)
    return bool(np.all(either | (a.view(np.uint32) == b.view(np.uint32))))


def assert_as_defined(format: BlockFormat, x: Array) -> None:
    with np.errstate(all="ignore"):
        tensor = format.quantize(x)
        codes, scales, values = naive(tensor.format, x)
    assert np.array_equal(tensor.codes, codes)
    assert np.array_equal(tensor.scales, scales)
    assert tensor.shape == x.shape
    for restored in (tensor.dequantize(), format.dequantize(tensor)):
        assert restored.dtype == np.float32
        assert same(restored, values)
    assert same(format.fake_quantize(x), values)


@pytest.mark.parametrize("format", FORMATS, ids=repr)
@pytest.mark.parametrize("name", SHAPES)
def test_activations_are_quantized_as_defined(format: BlockFormat, name: str) -> None:
    x = shape(name, 24_000)
    for dimensions in [(24_000,), (5, 96, 50), (1000, 24), (3000, 8), (24_000, 1)]:
        assert_as_defined(format, x.reshape(dimensions))


@pytest.mark.parametrize("format", FORMATS, ids=repr)
def test_any_bits_are_quantized_as_defined(format: BlockFormat) -> None:
    assert_as_defined(format, any_bits(60_000).reshape(600, 100))
    # Each value is a block.
    assert_as_defined(format, any_bits(1000)[:, None])
    assert_as_defined(format, cast(shape("gaussian", 4096), np.dtype(np.float32)))


@pytest.mark.parametrize("format", FORMATS, ids=repr)
@given(data=st.data())
def test_any_shape_and_any_value(format: BlockFormat, data: st.DataObject) -> None:
    special = [0.0, -0.0, 1e-45, 3e38, np.inf, -np.inf, np.nan, 448.0, 6.0, 0.25]
    values = st.one_of(
        st.sampled_from(special), st.floats(-9, 9, width=32), st.floats(width=32)
    )
    dimensions = arrays.array_shapes(min_dims=1, max_dims=4, min_side=0, max_side=70)
    small = dimensions.filter(lambda d: np.prod(d) <= 5000)
    x = data.draw(arrays.arrays(np.float32, small, elements=values, fill=values))
    assert_as_defined(format, x)


@pytest.mark.parametrize("name", ELEMENTS)
def test_elements_are_rounded_as_quantize_linear_rounds_them(name: str) -> None:
    """A block with 2^emax has the scale 1, so its codes are those of the type."""
    golden = json.loads(GOLDEN.read_text("utf-8"))[name]
    x = np.array(golden["inputs"], dtype=np.uint32).view(np.float32)
    _, _, emax = ELEMENTS[name]
    leader = np.float32(2.0**emax)
    kept = np.abs(x) < 2 * leader
    rows = np.stack([x[kept], np.full(kept.sum(), leader)], axis=1)
    format = MXFP4() if name == "float4_e2m1fn" else MXFP8(name)
    tensor = format.quantize(rows)
    assert kept.sum() > 60
    assert np.all(tensor.scales == 127)
    assert tensor.codes[:, 0].tolist() == np.array(golden["ml_dtypes"])[kept].tolist()


@pytest.mark.parametrize("format", [MXFP8(), MXFP8("float8_e5m2"), MXFP4()], ids=repr)
def test_special_blocks_in_mx(format: BlockFormat) -> None:
    x = np.zeros((3, 64), np.float32)
    x[1, 3], x[1, 40] = np.nan, 1.0
    x[2, 0], x[2, 1], x[2, 63] = -np.inf, 1e30, 5.0
    tensor = format.quantize(x)
    exponent = 127 - ELEMENTS[format.element][2]
    expected = [[0, 0], [255, exponent], [254, exponent + 2]]
    assert tensor.scales.tolist() == expected
    back = tensor.dequantize()
    assert np.isnan(back[1, :32]).all()
    assert back[1, 40] == 1.0
    assert back[2, 0] == -np.inf
    assert back[2, 1] == 0.0
    assert back[2, 63] == (5.0 if format.bits == 8 else 4.0)


def test_special_blocks_in_nvfp4() -> None:
    x = np.zeros((3, 32), np.float32)
    x[0, 20] = 2688.0
    x[1, 3], x[1, 16] = np.nan, 1e-4
    x[2, 0], x[2, 1] = -np.inf, 60.0
    # NaN and infinity do not affect the global scale.
    tensor = NVFP4().quantize(x)
    assert tensor.global_scale == 1.0
    values = tensor.scales.view(ml_dtypes.float8_e4m3fn).astype(np.float32)
    assert np.array_equal(values, [[2**-9, 448], [np.nan, 2**-9], [448, 2**-9]], True)
    back = tensor.dequantize()
    assert back[0, 20] == 2688.0
    assert np.isnan(back[1, :16]).all()
    assert back[1, 16] == 0.0
    assert back[2, 0] == -2688.0
    assert back[2, 1] == 0.0


def test_arrays_of_zeros_and_empty_arrays() -> None:
    for format in FORMATS:
        zeros = np.zeros((4, 40), np.float32)
        zeros[1] = -0.0
        back = format.fake_quantize(zeros)
        assert np.array_equal(np.signbit(back), np.signbit(zeros))
        assert not back.any()
        for empty in [(0,), (3, 0), (0, 33)]:
            tensor = format.quantize(np.empty(empty, np.float32))
            assert tensor.dequantize().shape == empty
            stats = format.statistics(np.empty(empty, np.float32))
            assert (stats.blocks, stats.elements) == (0, 0)
    assert NVFP4().quantize(np.zeros(3, np.float32)).global_scale == 1.0


@pytest.mark.parametrize("format", FORMATS, ids=repr)
@pytest.mark.parametrize("name", DTYPES)
def test_all_float_types_and_layouts(format: BlockFormat, name: str) -> None:
    x = cast(shape("gaussian", 4200).reshape(60, 70), DTYPES[name])
    expected = format.quantize(x.astype(np.float32))
    readonly = x.copy()
    readonly.flags.writeable = False
    strided = np.zeros((60, 140), x.dtype)
    strided[:, ::2] = x
    for same_values in (x, np.asfortranarray(x), readonly, strided[:, ::2]):
        tensor = format.quantize(same_values)
        assert np.array_equal(tensor.codes, expected.codes)
        assert np.array_equal(tensor.scales, expected.scales)
        assert tensor.format == expected.format


@pytest.mark.usefixtures("keep_num_threads")
@pytest.mark.parametrize("format", FORMATS, ids=repr)
def test_the_number_of_threads_changes_nothing(format: BlockFormat) -> None:
    results = []
    x = shape("outliers", 600_000)
    x[1234] = np.nan
    for threads in (1, 2, 7):
        qc.set_num_threads(threads)
        found = []
        for rows in (x, x.reshape(-1, 96), x.reshape(-1, 50)):
            tensor = format.quantize(rows)
            fake = format.fake_quantize(rows)
            found += [tensor.codes.tobytes(), tensor.scales.tobytes(), fake.tobytes()]
            assert same(tensor.dequantize(), fake)
            found += [pickle.dumps(format.statistics(rows)), tensor.global_scale]
        results.append(found)
    assert results[0] == results[1] == results[2]


@pytest.mark.parametrize("format", FORMATS, ids=repr)
def test_statistics_count_blocks_and_elements(format: BlockFormat) -> None:
    x = shape("student_t3", 7000).reshape(100, 70)
    x[3, 3], x[50, 69] = np.nan, np.inf
    stats = format.statistics(x)
    size = format.block_size
    padded = np.pad(x, [(0, 0), (0, -70 % size)]).reshape(100, -1, size)
    maxima = np.abs(padded).max(axis=-1)
    assert stats.block_maxima == qc.Histogram().observe(maxima)
    assert stats.blocks == maxima.size
    assert stats.elements == x.size
    if format.global_scale is None and isinstance(format, NVFP4):
        assert stats.scale_counts is stats.scale_exponents() is None
        assert stats.saturated_share is stats.rounded_to_zero_share is None
        return
    tensor = format.quantize(x)
    codes, counts = np.unique(tensor.scales, return_counts=True)
    assert stats.scale_counts == dict(zip(codes.tolist(), counts.tolist(), strict=True))
    scales = tensor.scales.view(getattr(ml_dtypes, format.scale_format))
    scales = scales.astype(np.float64)
    exponents = np.floor(np.log2(scales[~np.isnan(scales)]))
    found = dict(zip(*np.unique(exponents, return_counts=True), strict=True))
    assert stats.scale_exponents() == found
    real = (scales * (format.global_scale or 1.0)).astype(np.float32)
    steps = np.abs(x / np.repeat(real, size, axis=1)[:, :70])
    limit = {448.0: 464, 57344.0: 61440, 6.0: 7}[ELEMENTS[format.element][1]]
    assert stats.saturated == (steps > limit).sum()
    assert stats.rounded_to_zero == (tensor.dequantize() == 0).sum()
    assert stats.saturated_share == stats.saturated / x.size
    assert stats.rounded_to_zero_share == stats.rounded_to_zero / x.size


@pytest.mark.parametrize("format", FORMATS, ids=repr)
@given(cuts=st.lists(st.integers(0, 40), max_size=4), order=st.randoms())
def test_statistics_of_parts_add_up_to_those_of_the_whole(
    format: BlockFormat, cuts: list[int], order: Any
) -> None:
    x = any_bits(2000, seed=3).reshape(40, 50)
    parts = np.split(x, sorted(cuts))
    order.shuffle(parts)
    whole = format.statistics(x)
    assert sum(format.statistics(part) for part in parts) == whole
    assert pickle.loads(pickle.dumps(whole)) == whole


def test_statistics_of_different_formats_are_not_merged() -> None:
    x = shape("gaussian", 64)
    with pytest.raises(qc.CalibrationError, match=r"MXFP8.*MXFP4.*cannot be merged"):
        MXFP8().statistics(x) + MXFP4().statistics(x)
    with pytest.raises(qc.CalibrationError, match="cannot be merged"):
        NVFP4(1.0).statistics(x) + NVFP4(2.0).statistics(x)
    with pytest.raises(TypeError):
        MXFP4().statistics(x) + 1


def test_the_global_scale_is_calibrated_from_block_maxima() -> None:
    x = shape("outliers", 160_000).reshape(-1, 160)
    halves = np.split(x, 2)
    maxima = sum(NVFP4().statistics(half) for half in halves).block_maxima
    largest = float(np.abs(x).max())
    assert NVFP4.calibrate(maxima).global_scale == np.float32(largest / 2688)
    assert NVFP4().quantize(x).format == NVFP4.calibrate(maxima)
    end = maxima.abs_quantile(0.99)
    for strategy in ("percentile_99", qc.Percentile(99)):
        assert NVFP4.calibrate(maxima, strategy).global_scale == np.float32(end / 2688)
    clipped = NVFP4.calibrate(maxima, "percentile", percentile=99)
    assert clipped.statistics(x).scale_counts[0x7E] > 0.01 * maxima.count
    assert np.abs(clipped.fake_quantize(x)).max() == 2688 * np.float32(end / 2688)


def test_searches_calibrate_the_global_scale() -> None:
    x = shape("outliers", 160_000)
    maxima = NVFP4().statistics(x).block_maxima
    minmax = NVFP4.calibrate(maxima)
    found = NVFP4.calibrate(maxima, "mse")
    # A search may leave up to an octave of the block scales unused to align them better.
    assert 0 < found.global_scale <= 2.001 * minmax.global_scale
    scales = np.abs(x.reshape(-1, 16)).max(axis=1) / 6

    def error(format: NVFP4) -> float:
        """Return the error of rounding block scales to E4M3, which the search minimizes."""
        stored = (scales / format.global_scale).astype(ml_dtypes.float8_e4m3fn)
        return float(
            np.square(stored.astype(float) * format.global_scale - scales).mean()
        )

    assert error(found) <= error(minmax)


def test_global_scales_of_extreme_data_are_usable() -> None:
    for value in (3.4e38, np.finfo(np.float32).max, 1e-38, 1e-45):
        x = np.full(16, value, np.float32)
        format = NVFP4().quantize(x).format
        assert format.global_scale >= np.finfo(np.float32).tiny
        back = format.fake_quantize(x)
        assert np.isfinite(back).all()
        assert np.allclose(back, x, rtol=0.01, atol=1e-40)

    class Nonsense:
        def range(self, *_: Any) -> tuple[float, float]:
            return 0.0, float("nan")

    with pytest.raises(qc.CalibrationError, match="not finite"):
        NVFP4.calibrate(qc.Histogram(), Nonsense())
    assert NVFP4.calibrate(qc.Histogram()).global_scale == 1.0


@pytest.mark.parametrize("length", [1, 2, 15, 64])
def test_packed_codes_are_those_that_onnx_stores(length: int) -> None:
    tensor = MXFP4().quantize(shape("gaussian", 3 * length).reshape(3, length))
    array = tensor.codes.view(ml_dtypes.float4_e2m1fn)
    assert tensor.packed().tobytes() == onnx.numpy_helper.from_array(array).raw_data
    assert tensor.nbytes == tensor.packed().nbytes + tensor.scales.nbytes
    eight = MXFP8().quantize(shape("gaussian", length))
    assert np.array_equal(eight.packed(), eight.codes)
    assert eight.nbytes == length + eight.scales.size
    four = NVFP4().quantize(shape("gaussian", length))
    assert four.nbytes == -(-length // 2) + four.scales.size + 4


@pytest.mark.parametrize("scale", [0, -1.0, np.nan, np.inf, 1e-40, 1e36, 1e300])
def test_unusable_global_scales_are_refused(scale: float) -> None:
    with pytest.raises(qc.CalibrationError, match=r"global_scale is .* 1\.26e35"):
        NVFP4(scale)


def test_bad_arguments_are_refused() -> None:
    with pytest.raises(qc.CalibrationError, match=r"'float4'.*float8_e5m2"):
        MXFP8("float4")
    for nonsense in ("1", True, [1.0]):
        with pytest.raises(qc.CalibrationError, match="must be a number or None"):
            NVFP4(nonsense)  # type: ignore[arg-type]
    for format in FORMATS:
        for method in (format.quantize, format.fake_quantize, format.statistics):
            with pytest.raises(qc.CalibrationError, match=r"\.reshape\(1\)"):
                method(np.float32(1.0))
            with pytest.raises(TypeError, match="int64"):
                method(np.arange(3))
        with pytest.raises(TypeError, match="not a BlockTensor"):
            format.dequantize(np.zeros(3))  # type: ignore[arg-type]


def test_codes_and_scales_that_do_not_match_are_refused() -> None:
    codes = np.zeros((2, 40), np.uint8)
    tensor = BlockTensor(codes, np.full((2, 2), 127, np.uint8), MXFP4())
    assert not tensor.dequantize().any()
    with pytest.raises(qc.CalibrationError, match=r"need \(2, 2\)"):
        BlockTensor(codes, np.zeros((2, 1), np.uint8), MXFP4())
    with pytest.raises(TypeError, match="codes are float32"):
        BlockTensor(f32([1.0]), np.zeros(1, np.uint8), MXFP4())  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="scales are list"):
        BlockTensor(codes, [1], MXFP4())  # type: ignore[arg-type]
    with pytest.raises(qc.CalibrationError, match="no global_scale"):
        BlockTensor(codes, np.zeros((2, 3), np.uint8), NVFP4())
    with pytest.raises(qc.CalibrationError, match="tensor is mxfp4, not mxfp8_e4m3fn"):
        MXFP8().dequantize(tensor)
    with pytest.raises(qc.CalibrationError, match=r"\.reshape\(1\)"):
        BlockTensor(np.array(1, np.uint8), np.array(1, np.uint8), MXFP4())


def test_the_compiled_part_refuses_arguments_that_do_not_match() -> None:
    from quantcal import _core

    codes, x = np.zeros(40, np.uint8), np.zeros(40, np.float32)
    with pytest.raises(qc.CalibrationError, match="40 codes need 2 scales"):
        _core.block_dequantize(codes, codes, "mxfp4", None)
    for name, scale in (("mxfp6", None), ("mxfp4", 1.0), ("nvfp4", None)):
        with pytest.raises(qc.CalibrationError, match="known: mxfp8_e4m3fn"):
            _core.block_quantize(x, name, scale)


def test_formats_are_values() -> None:
    assert MXFP8() == MXFP8("float8_e4m3fn") != MXFP8("float8_e5m2")
    assert NVFP4(0.1) == NVFP4(float(np.float32(0.1)))
    assert len({MXFP4(), MXFP4(), NVFP4(), NVFP4(1)}) == 3
    names = ["mxfp8_e4m3fn", "mxfp8_e5m2", "mxfp4", "nvfp4", "nvfp4"]
    assert [str(format) for format in FORMATS] == names
    assert repr(MXFP4()) == "MXFP4()"
    assert repr(NVFP4(0.5)) == "NVFP4(global_scale=0.5)"
    for format in FORMATS:
        assert pickle.loads(pickle.dumps(format)) == format


def sqnr(x: Array, format: BlockFormat) -> float:
    error = format.fake_quantize(x).astype(np.float64) - x
    signal = np.square(x.astype(np.float64)).mean()
    return float(10 * np.log10(signal / np.square(error).mean()))


def test_the_documented_sqnr_is_measured() -> None:
    """Measure 2^22 values; results of four seeds differ by less than 0.03 dB."""
    rng = np.random.default_rng(0)
    x = rng.laplace(size=(4096, 1024)).astype(np.float32)
    found = [sqnr(x, format) for format in FORMATS[:4]]
    assert found == pytest.approx([30.0, 25.2, 17.9, 20.7], abs=0.1)
    x = rng.standard_normal((4096, 1024), dtype=np.float32)
    found = [sqnr(x, format) for format in FORMATS[:4]]
    assert found == pytest.approx([30.6, 25.4, 18.8, 20.4], abs=0.1)
    assert MXFP4().statistics(x).saturated_share == pytest.approx(0.0086, abs=0.0005)


@pytest.mark.model
def test_weights_of_a_real_network_are_more_accurate_in_more_bits() -> None:
    from tests.models import MODELS

    graph = onnx.load(MODELS["pp-ocr-rec"].fetch()).graph
    found = [a.t for n in graph.node if n.op_type == "Constant" for a in n.attribute]
    weights = [onnx.numpy_helper.to_array(t) for t in [*found, *graph.initializer]]
    weights = [w for w in weights if w.dtype == np.float32 and w.ndim >= 2 and w.any()]
    weights = [w for w in weights if w.size >= 4096]
    assert len(weights) > 20
    for w in weights:
        rows = w.reshape(w.shape[0], -1)
        assert sqnr(rows, MXFP8()) > sqnr(rows, MXFP4()) + 6


def test_a_global_scale_beyond_float64_is_refused() -> None:
    with pytest.raises(qc.CalibrationError, match="global_scale is inf"):
        qc.blocks.NVFP4(10**400)
