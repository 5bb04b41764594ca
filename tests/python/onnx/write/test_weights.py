"""Weights: codes, scales and blocks, against numpy and onnxruntime."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

import onnx_models as models
import quantcal as qc
from quantcal.onnx._model.model import opset_of
from quantcal.onnx._write.weight_quantization import (
    codes_to_tensor,
    quantize_blocks,
    quantize_weight,
)

Array = np.ndarray[Any, Any]


def rows(width: int = 64, count: int = 3) -> list[dict[str, Any]]:
    return [{"x": models.random(9, width, seed=n)} for n in range(count)]


def matmul(k: int = 64, n: int = 24, **more: Any) -> onnx.ModelProto:
    node = helper.make_node("MatMul", ["x", "w"], ["y"], "matmul")
    shapes = models.value("x", ["n", k]), models.value("y", ["n", n])
    return models.build(
        [node], [shapes[0]], [shapes[1]], {"w": models.random(k, n)}, **more
    )


def decoded(path: Path, name: str) -> Array:
    """The weight after onnxruntime's DequantizeLinear."""
    model = onnx.load(path)
    (node,) = [n for n in model.graph.node if n.input[0] == f"{name}_quantized"]
    found = [t for t in model.graph.initializer if t.name in node.input]
    kind = onnx.TensorProto.FLOAT
    out = helper.make_tensor_value_info(node.output[0], kind, None)
    graph = helper.make_graph([node], "weight", [], [out], found)
    part = helper.make_model(
        graph, opset_imports=model.opset_import, ir_version=model.ir_version
    )
    return np.asarray(models.session(part, exact=True).run(None, {})[0])


def by_hand(w: Array, format: str, axis: int | None) -> Array:
    """The oracle: fake quantization from the extremes, in numpy alone."""
    axes = None if axis is None else tuple(k for k in range(w.ndim) if k != axis)
    if format.startswith("u"):
        most = 2 ** int(format[4:]) - 1
        low = np.minimum(w.min(axis=axes, keepdims=True), 0)
        high = np.maximum(w.max(axis=axes, keepdims=True), 0)
        scale = ((high.astype(np.float64) - low) / most).astype(np.float32)
        zero = np.rint(-low / scale)
        return ((np.clip(np.rint(w / scale) + zero, 0, most) - zero) * scale).astype(
            np.float32
        )
    top = np.abs(w).max(axis=axes, keepdims=True).astype(np.float64)
    if format.startswith("float8"):
        kind = getattr(ml_dtypes, format)
        scale = (top / float(ml_dtypes.finfo(kind).max)).astype(np.float32)
        return (w / scale).astype(kind).astype(np.float32) * scale
    if format == "int7":  # stored in 8 bits, as −64 to 64
        scale = (top / 64).astype(np.float32)
        return np.clip(np.rint(w / scale), -64, 64) * scale
    most = 2 ** (int(format[3:]) - 1) - 1
    scale = (top / most).astype(np.float32)
    return np.clip(np.rint(w / scale), -most - 1, most) * scale


@pytest.mark.parametrize("per_channel", [True, False])
@pytest.mark.parametrize(
    "format",
    [
        *("int8", "int7", "uint8", "uint7", "int4", "uint4", "int16"),
        *("float8_e4m3fn", "float8_e5m2"),
    ],
)
def test_every_weight_format_dequantizes_to_the_fake_quantized_weight(
    tmp_path: Path, format: str, per_channel: bool
) -> None:
    path = tmp_path / "q.onnx"
    result = qc.onnx.quantize(
        matmul(),
        path,
        activation_type="none",
        weight_type=format,
        weight_strategy="minmax",
        per_channel=per_channel,
        reduce_range=False,
        block_size=0,
    )
    assert result.weight_formats == {format: 1}
    assert (result.samples, len(result.table), result.quantize_nodes) == (0, 0, 0)
    want = by_hand(models.random(64, 24), format, 1 if per_channel else None)
    np.testing.assert_allclose(decoded(path, "w"), want, rtol=1e-6, atol=1e-7)
    onnx.checker.check_model(onnx.load(path))
    (y,) = models.session(str(path), exact=True).run(None, rows()[0])
    np.testing.assert_allclose(y, rows()[0]["x"] @ want, atol=1e-4)


@pytest.mark.parametrize("format", ["int4", "uint4"])
@pytest.mark.parametrize("size", [16, 32])
@pytest.mark.parametrize(("rows_", "axis"), [(64, 0), (72, 0), (64, 1)])
def test_each_block_has_its_scale(
    format: str, size: int, rows_: int, axis: int
) -> None:
    w = models.random(rows_, 10) * np.exp(models.random(rows_, 1, seed=3))
    given = w if axis == 0 else np.ascontiguousarray(w.T)
    found = quantize_blocks(given, format, "minmax", axis, size)
    scale, codes = found.scale, found.codes.astype(np.float32)
    zero = found.zero_point
    if axis == 1:
        scale, codes = scale.T, codes.T
        zero = None if zero is None else zero.T
    assert scale.shape == (-(-rows_ // size), 10)
    for k in range(scale.shape[0]):
        part = slice(k * size, (k + 1) * size)
        offset = 0 if zero is None else zero[k].astype(np.float32)
        got = (codes[part] - offset) * scale[k]
        np.testing.assert_allclose(got, by_hand(w[part], format, 1), atol=1e-6)


def test_four_bits_in_blocks_run_in_onnxruntime(tmp_path: Path) -> None:
    path = tmp_path / "q.onnx"
    result = qc.onnx.quantize(
        matmul(), path, activation_type="none", weight_type="int4"
    )
    assert opset_of(onnx.load(path)) == 21
    assert result.weights == "int4: as asked for"
    w = decoded(path, "w")
    (exact,) = models.session(str(path), exact=True).run(None, rows()[0])
    np.testing.assert_allclose(exact, rows()[0]["x"] @ w, atol=1e-4)
    # The fused kernel rounds activations to 8 bits itself: about 40 dB.
    (fused,) = models.session(str(path)).run(None, rows()[0])
    assert models.signal_to_noise(exact, fused) > 30
    stored = {t.name: t for t in onnx.load(path).graph.initializer}["w_quantized"]
    assert len(stored.raw_data) == 64 * 24 // 2


def test_blocks_of_a_gemm_lie_along_the_axis_of_the_sum(
    tmp_path: Path,
) -> None:
    for transposed in (0, 1):
        shape = (20, 64) if transposed else (64, 20)
        node = helper.make_node("Gemm", ["x", "w", "b"], ["y"], transB=transposed)
        model = models.build(
            [node],
            [models.value("x", ["n", 64])],
            [models.value("y", ["n", 20])],
            {"w": models.random(*shape), "b": models.random(20)},
        )
        path = tmp_path / f"{transposed}.onnx"
        qc.onnx.quantize(model, path, activation_type="none", weight_type="int4")
        scale = {t.name: t for t in onnx.load(path).graph.initializer}["w_scale"]
        assert list(scale.dims) == ([20, 2] if transposed else [2, 20])
        (want,) = models.session(model).run(None, rows()[0])
        (got,) = models.session(str(path), exact=True).run(None, rows()[0])
        assert models.signal_to_noise(want, got) > 18


@pytest.mark.parametrize("axis", [None, 0, 1])
@pytest.mark.parametrize("format", ["int4", "int8"])
def test_the_search_is_no_worse_than_any_of_many_ranges(
    format: str, axis: int | None
) -> None:
    w = np.random.default_rng(5).standard_t(4, (6, 512)).astype(np.float32)
    if axis == 1:
        w = np.ascontiguousarray(w.T)

    def error(params: qc.QuantParams) -> Array:
        axes = None if axis is None else 1 - axis
        return np.square(params.fake_quantize(w) - w).sum(axis=axes, dtype=np.float64)

    found = quantize_weight(w, format, "mse", axis)
    scale = found.scale if axis is None else np.expand_dims(found.scale, 1 - axis)
    got = np.square(found.codes.astype(np.float32) * scale - w)
    got = got.sum(axis=None if axis is None else 1 - axis, dtype=np.float64)
    top = np.abs(w).max(axis=None if axis is None else 1 - axis)
    best = np.inf
    for share in np.linspace(0.2, 1, 400):
        high = top * share
        best = np.minimum(
            best,
            error(qc.QuantParams.from_range(-high, high, format=format, axis=axis)),
        )
    # The search takes values as uniform in bins of 0.2 %: about 1 % of the error.
    assert np.all(got <= 1.01 * best)


def test_searched_blocks_have_less_error_than_unclipped_ones() -> None:
    w = np.random.default_rng(5).standard_t(3, (256, 32)).astype(np.float32)

    def error(strategy: str) -> float:
        found = quantize_blocks(w, "int4", strategy, 0, 32)
        real = found.codes.astype(np.float32) * np.repeat(found.scale, 32, axis=0)
        return float(np.square(real - w).sum())

    assert error("mse") < 0.97 * error("minmax")


def test_codes_are_packed_as_onnx_unpacks_them() -> None:
    codes = np.array([[1, -8, 7], [0, -1, 3], [5, 5, 5]], np.int8)
    unpacked = numpy_helper.to_array(codes_to_tensor(codes, "int4", "t"))
    np.testing.assert_array_equal(unpacked.astype(np.int8), codes)
    unsigned = np.array([[0, 15, 7, 8, 1]], np.uint8)
    unpacked = numpy_helper.to_array(codes_to_tensor(unsigned, "uint4", "t"))
    np.testing.assert_array_equal(unpacked.astype(np.uint8), unsigned)
    floats = np.array([0.5, -448, 3], ml_dtypes.float8_e4m3fn)
    unpacked = numpy_helper.to_array(codes_to_tensor(floats, "float8_e4m3fn", "t"))
    np.testing.assert_array_equal(unpacked.astype(np.float32), [0.5, -448, 3])


def test_formats_of_single_weights(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("MatMul", ["x", "w1"], ["h"], "first"),
        helper.make_node("MatMul", ["h", "w2"], ["y"], "second"),
    ]
    data = {"w1": models.random(32, 32), "w2": models.random(32, 32, seed=2)}
    shapes = models.value("x", ["n", 32]), models.value("y", ["n", 32])
    model = models.build(nodes, [shapes[0]], [shapes[1]], data)
    path = tmp_path / "q.onnx"
    rules = {"node:sec*": "int4", "w1": "int8"}
    result = qc.onnx.quantize(
        model,
        path,
        rows(32),
        weight_formats=rules,
        reduce_range=False,
        progress=False,
        strategy="mse",
    )
    assert result.weight_formats == {"int8": 1, "int4": 1}
    found = {t.name: t.data_type for t in onnx.load(path).graph.initializer}
    assert found["w1_quantized"] == onnx.TensorProto.INT8
    assert found["w2_quantized"] == onnx.TensorProto.INT4
    with pytest.raises(qc.CalibrationError, match=r"'w3' matches no.*Near names: w"):
        qc.onnx.quantize(
            model, path, rows(32), weight_formats={"w3": "int4"}, strategy="mse"
        )


def test_a_bias_fits_32_bits_beside_tiny_weights(tmp_path: Path) -> None:
    """Its scale is the product of two scales, which may be tiny."""
    bias = np.full(5, 1e6, np.float32)
    model = models.gemm_net(bias)
    model.graph.initializer[0].CopyFrom(
        numpy_helper.from_array(models.random(8, 5) * np.float32(1e-7), "w")
    )
    path = tmp_path / "q.onnx"
    qc.onnx.quantize(model, path, rows(8), progress=False, strategy="mse")
    for exact in (True, False):
        (y,) = models.session(str(path), exact=exact).run(None, rows(8)[0])
        np.testing.assert_allclose(y, 1e6, rtol=1e-2)


def test_only_the_scales_of_channels_that_need_it_are_raised(tmp_path: Path) -> None:
    """A depthwise Conv with a dead channel, a channel of zeros, and a bias that just fits."""
    w, bias = models.random(8, 1, 3, 3), models.random(8, seed=1)
    w[2] *= 1e-15
    w[4] = 0
    w[6] *= 1e-4
    shape = ["n", 8, "h", "w"]
    node = helper.make_node("Conv", ["x", "w", "b"], ["y"], group=8, pads=[1, 1, 1, 1])
    x, y = models.value("x", shape), models.value("y", shape)
    feeds = [{"x": models.random(1, 8, 9, width, seed=width)} for width in (8, 12)]
    found = []
    for given in (bias, np.zeros_like(bias)):
        model = models.build([node], [x], [y], {"w": w, "b": given})
        path = tmp_path / "q.onnx"
        qc.onnx.quantize(
            model, path, feeds, reduce_range=False, progress=False, strategy="mse"
        )
        graph = onnx.load(path).graph
        found.append({t.name: numpy_helper.to_array(t) for t in graph.initializer})
        if given is bias:
            for feed in feeds:
                (want,) = models.session(model).run(None, feed)
                for exact in (True, False):
                    got = models.session(str(path), exact=exact).run(None, feed)[0]
                    assert models.signal_to_noise(want, got) > 30
    raised, plain = found
    changed = raised["w_scale"] != plain["w_scale"]
    # Any scale represents zeros. The chosen one represents the bias most accurately.
    assert list(changed.nonzero()[0]) == [2, 4]
    assert raised["w_scale"][4] < plain["w_scale"][4]
    same = ~changed
    for kept in (same, [4]):
        np.testing.assert_array_equal(
            raised["w_quantized"][kept], plain["w_quantized"][kept]
        )
    codes = raised["b_quantized"].astype(np.int64)
    assert np.abs(codes).max() <= 2**30
    assert abs(codes[2]) > 0.99 * 2**30  # no more than needed
    decoded = codes * raised["b_quantized_scale"].astype(np.float64)
    half = raised["b_quantized_scale"].astype(np.float64) / 2
    assert (np.abs(decoded - bias) <= half * (1 + 1e-6) + 1e-7 * np.abs(bias)).all()
