"""Which nodes overflow 16-bit sums: the kernel, the estimate, and what is written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

import kernels
import onnx_models as models
import quantcal as qc
from quantcal.demo import LineSamples, render_lines
from quantcal.onnx._model.model import load_model
from quantcal.onnx._options import cpu
from quantcal.onnx._options.resolved import Options
from quantcal.onnx._plan.preparation import prepare
from quantcal.onnx._write.pair_sums import code_shares, pair_overflow, rounding_error
from quantcal.onnx._write.saturation import column_scales, weight_codes, weighted_nodes
from tests.models import MODELS

NO_VNNI = cpu.weight_bits().reduce and cpu.cpu_flags() is not None


@pytest.mark.skipif(not NO_VNNI, reason="this CPU's kernels add in 32 bits")
@pytest.mark.parametrize("shape", [(1, 64, 16), (7, 65, 33), (50, 130, 20), (3, 2, 4)])
def test_the_emulation_is_the_kernel_bit_for_bit(shape: tuple[int, int, int]) -> None:
    m, k, n = shape
    rng = np.random.default_rng(0)
    codes = rng.integers(0, 256, (m, k), dtype=np.uint8)
    weights = rng.integers(-127, 128, (k, n), dtype=np.int8)
    graph = helper.make_graph(
        [helper.make_node("MatMulInteger", ["a", "w"], ["y"])],
        "g",
        [helper.make_tensor_value_info("a", TensorProto.UINT8, [m, k])],
        [helper.make_tensor_value_info("y", TensorProto.INT32, None)],
        [numpy_helper.from_array(weights, "w")],
    )
    opset = [helper.make_opsetid("", 13)]
    model = helper.make_model(graph, opset_imports=opset, ir_version=8)
    session = ort.InferenceSession(model.SerializeToString())
    (found,) = session.run(None, {"a": codes})
    want, saturated = kernels.pair_sums(codes, weights)
    np.testing.assert_array_equal(found, want)
    exact = codes.astype(np.int64) @ weights.astype(np.int64)
    assert (saturated.sum() > 0) == bool((found != exact).any())


def matmul_model(weights: Any) -> onnx.ModelProto:
    node = helper.make_node("MatMul", ["x", "w"], ["y"], "mm")
    k, n = weights.shape
    return models.build(
        [node],
        [models.value("x", ["m", k])],
        [models.value("y", ["m", n])],
        {"w": weights},
    )


@pytest.mark.parametrize("strategy", ["minmax", "mse"])
@pytest.mark.parametrize("format", ["uint8", "int8"])
@pytest.mark.parametrize("k", [64, 65])
def test_the_estimate_is_what_is_counted_on_independent_values(
    k: int, format: str, strategy: str
) -> None:
    rng = np.random.default_rng(3)
    weights = rng.standard_t(4, (k, 24)).astype(np.float32)
    x = np.abs(rng.standard_normal((4000, k))).astype(np.float32)
    model = matmul_model(weights)
    cal = qc.onnx.observe(model, [{"x": x}])
    table = cal.compute("percentile_99", format=format)
    found = qc.onnx.find_saturation(model, cal, table, weight_strategy=strategy)["mm"]
    coded = weight_codes(weights, True, strategy)
    codes, steps = coded.codes.astype(np.int64), column_scales(coded, weights)
    unsigned = table["x"].quantize(x).astype(np.int64) + (
        128 if format == "int8" else 0
    )
    total, saturated = kernels.pair_sums(unsigned, codes)
    share = saturated.sum() / (len(x) * (k // 2) * 24)
    assert share > 2e-5
    np.testing.assert_allclose(found.share, share, rtol=0.05)
    lost = (unsigned @ codes - total) * steps * table["x"].scale
    np.testing.assert_allclose(found.error, (lost**2).mean(), rtol=0.05)


@pytest.mark.parametrize("strategy", ["minmax", "mse"])
def test_the_estimate_is_of_the_codes_that_are_written(
    strategy: str, tmp_path: Path
) -> None:
    """A range that clips the weights makes all other codes larger."""
    weights = np.random.default_rng(3).standard_t(3, (64, 24)).astype(np.float32)
    model, path = matmul_model(weights), tmp_path / "q.onnx"
    feeds = [{"x": models.random(5, 64)}]
    qc.onnx.quantize(
        model,
        path,
        feeds,
        weight_strategy=strategy,
        reduce_range=False,
        progress=False,
        strategy="mse",
    )
    stored = {
        t.name: numpy_helper.to_array(t) for t in onnx.load(path).graph.initializer
    }
    (written,) = (array for array in stored.values() if array.shape == (64, 24))
    np.testing.assert_array_equal(written, weight_codes(weights, True, strategy).codes)


def pair_by_pair(shares: Any, codes: Any, unit: Any) -> tuple[float, float]:
    """Share and error by visiting all pairs of weights, and of codes."""
    code = np.arange(256.0)
    chances, biases, spreads, pairs = 0.0, [], [], 0
    for column in codes.T.astype(np.int64):
        bias = spread = 0.0
        for a, b in zip(column[: len(column) - 1 : 2], column[1::2], strict=False):
            total = code[:, None] * a + code * b
            lost = np.maximum(total - 32767, 0) - np.maximum(-32768 - total, 0)
            weights = np.outer(shares, shares)
            mean = (weights * lost).sum()
            chances += (weights * (lost != 0)).sum()
            bias += mean
            spread += (weights * lost**2).sum() - mean**2
            pairs += 1
        biases.append(bias)
        spreads.append(spread)
    error = np.mean(unit**2 * (np.square(biases) + spreads))
    return chances / max(pairs, 1), float(error)


@pytest.mark.parametrize("rows", [1, 2, 7, 24])
def test_the_estimate_is_the_sum_over_all_pairs(rows: int) -> None:
    """The weights include both ends of int8, also -128, and pairs of either sign."""
    rng = np.random.default_rng(rows)
    codes = rng.choice(
        np.array([-128, -127, -90, -65, -64, -1, 0, 1, 64, 65, 100, 127], np.int8),
        (rows, 9),
    )
    shares = rng.random(256) ** 4
    shares /= shares.sum()
    unit = rng.random(9)
    found = pair_overflow(shares, codes, unit)
    expected = pair_by_pair(shares, codes, unit)
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12)
    assert (found[0] > 0) == (rows > 1)


@pytest.mark.parametrize("zero", [0, 3, 200])
def test_the_loss_of_rounding_is_that_of_independent_codes(zero: int) -> None:
    """Over all combinations of codes of three weights; errors of one sign add up."""
    rng = np.random.default_rng(zero)
    shares = np.zeros(256)
    shares[[0, 3, 90, 200, 255]] = rng.random(5)
    shares /= shares.sum()
    weights = rng.uniform(-127, 127, (3, 4)).astype(np.float32)
    weights[:, 0] = 50.4
    weights[:, 1] = 0
    codes, unit = np.rint(weights).astype(np.int8), rng.random(4)
    seen = np.flatnonzero(shares)
    draws = np.stack(np.meshgrid(seen, seen, seen), axis=-1).reshape(-1, 3)
    chance = shares[draws].prod(axis=1)
    lost = ((draws - zero) @ (codes - weights.astype(np.float64)) * unit) ** 2
    want = float((chance @ lost).mean())
    found = rounding_error(shares, zero, weights, codes, unit)
    assert found == pytest.approx(want, rel=1e-5)


def test_the_cost_of_the_bit_is_the_added_rounding_error() -> None:
    rng = np.random.default_rng(4)
    weights = rng.uniform(-1, 1, (256, 64)).astype(np.float32)
    x = rng.standard_normal((2000, 256)).astype(np.float32)
    model = matmul_model(weights)
    cal = qc.onnx.observe(model, [{"x": x}])
    table = cal.compute("minmax", format="uint8")
    found = qc.onnx.find_saturation(model, cal, table)["mm"]
    errors = []
    for levels in (127, 64):
        step = np.abs(weights).max(axis=0) / levels
        rounded = np.rint(weights / step) * step
        errors.append(float(((x @ (rounded - weights)) ** 2).mean()))
    # The data are random, so the estimate is not exact.
    np.testing.assert_allclose(found.rounding, errors[1] - errors[0], rtol=0.05)


def test_shares_of_codes_are_those_of_the_codes_themselves() -> None:
    x = np.maximum(models.random(100_000), 0)
    histogram = qc.Histogram().observe(x)
    for format in ("uint8", "int8"):
        params = qc.QuantParams.from_range(-0.4, 2.5, format=format)
        shares, zero = code_shares(histogram, params)
        codes = params.quantize(x).astype(np.int64) + (128 if format == "int8" else 0)
        want = np.bincount(codes, minlength=256) / x.size
        assert zero == params.zero_point + (128 if format == "int8" else 0)
        assert shares.sum() == pytest.approx(1)
        # Values in one bin of the histogram, 0.4 % wide, may lie on both sides of a boundary.
        np.testing.assert_allclose(np.cumsum(shares), np.cumsum(want), atol=2e-3)


@pytest.mark.model
def test_the_estimate_finds_the_nodes_of_a_network_that_overflow() -> None:
    """Overflows are counted on the activations of other lines, node by node."""
    path = MODELS["pp-ocr-rec"].fetch()
    cal = qc.onnx.observe(path, LineSamples(render_lines(6, split="calibration")))
    table = cal.compute("mse", format="uint8")
    found = qc.onnx.find_saturation(path, cal, table)
    prepared = prepare(load_model(path), Options.of())
    nodes = list(weighted_nodes(prepared))
    (feed,) = LineSamples(render_lines(1, split="evaluation"))
    names = sorted({node.input[0] for node, *_ in nodes} - {"x"})
    arrays = dict(zip(names, models.outputs(prepared.proto, feed, names), strict=True))
    counted = {}
    rng = np.random.default_rng(0)
    kernel_of = {t.name: tuple(t.dims)[2:] for t in prepared.proto.graph.initializer}
    for node, weights, _ in nodes:
        x = arrays.get(node.input[0], feed.get(node.input[0]))
        params = table[node.input[0]]
        codes = params.quantize(x)
        if node.op_type == "Conv":
            shifted = codes.astype(np.int64) - params.zero_point
            rows = kernels.columns(shifted, node, kernel_of[node.input[1]])
            rows = rows + params.zero_point  # padding is the code of zero
        else:
            rows = codes.reshape(-1, codes.shape[-1])
        rows = rows[rng.permutation(len(rows))[:48]]
        coded = weight_codes(weights, per_channel=True)
        integers, steps = coded.codes.astype(np.int64), column_scales(coded, weights)
        total, saturated = kernels.pair_sums(rows, integers)
        unit = steps * params.scale
        lost = (rows.astype(np.int64) @ integers - total) * unit
        share = saturated.sum() / (len(rows) * (len(weights) // 2) * weights.shape[1])
        counted[node.name] = (share, float((lost**2).mean()))
    price = {n: error / found[n].rounding for n, (_, error) in counted.items()}
    needed = {n for n, s in found.items() if s.needs_bit}
    clear = {n for n, ratio in price.items() if ratio > 10}
    assert len(clear) >= 2
    # Neighbors are not independent, and lines differ. Near the limit both choices are right.
    assert clear <= needed <= {n for n, ratio in price.items() if ratio > 0.1}
    for name, (share, _) in counted.items():
        if share > 1e-3:
            assert share / 4 < found[name].share < share * 4, name


def test_only_the_named_nodes_take_7_bits(tmp_path: Path) -> None:
    for per_channel in (True, False):
        model = models.conv_net()
        model.graph.node[0].name, model.graph.node[2].name = "first", "last"
        cal = qc.onnx.observe(model, [{"x": models.random(1, 3, 9, 12)}])
        table = cal.compute("mse", format="uint8")
        path = tmp_path / "out.onnx"
        written = qc.onnx.write(
            model, path, table, reduce_range=["last"], per_channel=per_channel
        )
        assert written.weight_bits == 8
        assert "1 node" in written.weight_bits_reason
        graph = onnx.load(path).graph
        codes = {t.name: numpy_helper.to_array(t) for t in graph.initializer}
        largest = {
            n: np.abs(codes[f"{n}_quantized"].astype(int)).max() for n in ("w1", "w2")
        }
        assert largest == {"w1": 127, "w2": 64}
        scales = (codes["w1_scale"].shape, codes["w2_scale"].shape)
        assert scales == (((4,), (2,)) if per_channel else ((), ()))


def test_gemm_and_matmul_take_7_bits_by_channel(tmp_path: Path) -> None:
    for model, name in (
        (models.gemm_net(models.random(5)), "gemm"),
        (models.gemm_net(models.random(5), transB=1), "gemm"),
        (matmul_model(models.random(8, 5)), "mm"),
    ):
        cal = qc.onnx.observe(model, [{"x": models.random(9, 8)}])
        table = cal.compute("mse", format="uint8")
        path = tmp_path / "out.onnx"
        qc.onnx.write(model, path, table, reduce_range=[name])
        tensors = {t.name: t for t in onnx.load(path).graph.initializer}
        codes = numpy_helper.to_array(tensors["w_quantized"]).astype(int)
        assert np.abs(codes).max() == 64
        assert numpy_helper.to_array(tensors["w_scale"]).shape == (5,)


def test_quantize_takes_7_bits_only_where_the_target_needs_them(tmp_path: Path) -> None:
    weights = np.full((64, 8), 0.01, np.float32)
    weights[0] = 1.0
    hot = np.full((64, 8), 1.0, np.float32)
    node = helper.make_node("MatMul", ["x", "w"], ["h"], "calm")
    other = helper.make_node("MatMul", ["x", "v"], ["y"], "hot")
    shapes = [models.value("h", ["m", 8]), models.value("y", ["m", 8])]
    model = models.build(
        [node, other], [models.value("x", ["m", 64])], shapes, {"w": weights, "v": hot}
    )
    feeds = [{"x": np.random.default_rng(1).uniform(0, 1, (50, 64)).astype(np.float32)}]
    path = tmp_path / "out.onnx"

    def bits(target: str) -> dict[str, int]:
        result = qc.onnx.quantize(
            model, path, feeds, cpu=target, progress=False, strategy="mse"
        )
        assert not result.reduce_range
        tensors = {t.name: t for t in onnx.load(path).graph.initializer}
        codes = {n: numpy_helper.to_array(tensors[f"{n}_quantized"]) for n in "wv"}
        return {n: int(np.abs(c.astype(int)).max()) for n, c in codes.items()}

    assert bits("no-vnni") == {"w": 127, "v": 64}
    assert bits("vnni") == bits("arm") == {"w": 127, "v": 127}


@pytest.mark.parametrize(
    ("target", "reduce", "why"),
    [
        ("vnni", False, "the target CPU has VNNI"),
        ("no-vnni", True, "the target CPU has no VNNI"),
        ("arm", False, "arm64 kernels add products in 32 bits"),
    ],
)
def test_the_target_decides_and_not_this_machine(
    target: str, reduce: bool, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for flags in (frozenset({"avx512_vnni"}), frozenset({"avx2"})):
        monkeypatch.setattr(cpu, "cpu_flags", lambda flags=flags: flags)
        bits = cpu.weight_bits("auto", cpu=target)
        assert bits.reduce is reduce
        assert why in bits.reason


def test_wrong_values_of_reduce_range_are_reported(tmp_path: Path) -> None:
    model = models.gemm_net(models.random(5))
    cal = qc.onnx.observe(model, [{"x": models.random(9, 8)}])
    table = cal.compute("mse", format="uint8")
    path = tmp_path / "out.onnx"
    with pytest.raises(qc.CalibrationError, match="Known: auto, vnni, no-vnni, arm"):
        qc.onnx.write(model, path, table, cpu="sparc")
    with pytest.raises(qc.CalibrationError, match="'Gemm_7', which is no quantized"):
        qc.onnx.write(model, path, table, reduce_range=["Gemm_7"])
    with pytest.raises(qc.CalibrationError, match=r"find_saturation finds"):
        qc.onnx.write(model, path, table, reduce_range="nodes", cpu="no-vnni")
    assert not path.exists()
