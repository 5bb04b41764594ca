"""Inputs and outputs of types that numpy lacks: bfloat16, 8-bit floats, 4-bit integers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import onnx_models as models
import quantcal as qc
from quantcal.onnx._runtime.ort_values import run_session

TYPES = {
    "bfloat16": (TensorProto.BFLOAT16, ml_dtypes.bfloat16),
    "float8_e4m3fn": (TensorProto.FLOAT8E4M3FN, ml_dtypes.float8_e4m3fn),
    "float8_e4m3fnuz": (TensorProto.FLOAT8E4M3FNUZ, ml_dtypes.float8_e4m3fnuz),
    "float8_e5m2": (TensorProto.FLOAT8E5M2, ml_dtypes.float8_e5m2),
    "float8_e5m2fnuz": (TensorProto.FLOAT8E5M2FNUZ, ml_dtypes.float8_e5m2fnuz),
    "int4": (TensorProto.INT4, ml_dtypes.int4),
    "uint4": (TensorProto.UINT4, ml_dtypes.uint4),
}
each_type = pytest.mark.parametrize("name", TYPES)


def net(name: str) -> onnx.ModelProto:
    """A float32 MatMul between casts from a type and to it. Outputs both results."""
    kind = TYPES[name][0]
    nodes = [
        helper.make_node("Cast", ["x"], ["xf"], to=TensorProto.FLOAT),
        helper.make_node("MatMul", ["xf", "w"], ["m"], "product"),
        helper.make_node("Cast", ["m"], ["y"], to=kind),
    ]
    return models.build(
        nodes,
        [models.value("x", ["n", 7], kind)],
        [models.value("y", ["n", 5], kind), models.value("m", ["n", 5])],
        {"w": models.random(7, 5)},
        opset=21,
        ir=10,
    )


def sample(name: str, seed: int = 0) -> dict[str, Any]:
    values = 3 * models.random(3, 7, seed=seed)
    low = 0 if name == "uint4" else -8
    return {"x": values.clip(low, 7).astype(TYPES[name][1])}


@each_type
def test_both_observers_agree(name: str) -> None:
    model, feeds = net(name), [sample(name, seed) for seed in range(3)]
    one, other = (
        qc.onnx.observe(model, feeds, tensors="all", observer=method)
        for method in ("in_graph", "outputs")
    )
    assert one.to_bytes() == other.to_bytes()
    want = [feed["x"].astype(np.float32) for feed in feeds]
    assert (one["xf"].min, one["xf"].max) == (np.min(want), np.max(want))
    product = np.concatenate(want) @ models.random(7, 5)
    assert one["m"].max == pytest.approx(product.max(), rel=1e-5)
    if name == "bfloat16":  # the only one of these types with histograms
        assert one["x"].max == np.max(want)
        assert one["y"].max == product.astype(ml_dtypes.bfloat16).max()


@each_type
def test_a_model_is_quantized_checked_and_evaluated(name: str, tmp_path: Path) -> None:
    model, feeds = net(name), [sample(name, seed) for seed in range(3)]
    out = tmp_path / "q.onnx"
    assert (
        qc.onnx.quantize(model, out, feeds, progress=False, strategy="mse").samples == 3
    )
    seen: list[Any] = []

    def metric(number: int, feed: Any, outputs: Any) -> float:
        seen.append((outputs["y"].dtype, outputs["y"].shape))
        return float(number)

    found = qc.onnx.evaluate(model, out, feeds, metric=metric)
    assert found.outputs["m"]["exact"].sqnr_db is not None
    assert found.outputs["m"]["exact"].sqnr_db > 30
    assert found.outputs["y"]["exact"].sqnr_db is not None
    assert found.outputs["y"]["exact"].sqnr_db > 10
    assert set(seen) == {(np.dtype(TYPES[name][1]), (3, 5))}


@each_type
@pytest.mark.parametrize("shape", [(3, 7), (1, 7), (0, 7)])
def test_values_pass_through_a_session_bit_by_bit(
    name: str, shape: tuple[int, ...]
) -> None:
    """4-bit values are packed. An odd number of them leaves half a byte unused."""
    kind, dtype = TYPES[name]
    back = models.build(
        [
            helper.make_node("Cast", ["x"], ["f"], to=TensorProto.FLOAT),
            helper.make_node("Cast", ["f"], ["y"], to=kind),
        ],
        [models.value("x", ["n", 7], kind)],
        [models.value("y", ["n", 7], kind), models.value("f", ["n", 7])],
        {},
        opset=21,
        ir=10,
    )
    array = np.resize(np.arange(-8, 8).clip(0 if name == "uint4" else -8), shape)
    array = np.asfortranarray(array.astype(dtype))
    y, f = run_session(models.session(back), ["y", "f"], {"x": array})
    assert (y.dtype, f.dtype) == (array.dtype, np.float32)
    np.testing.assert_array_equal(f, array.astype(np.float32))
    np.testing.assert_array_equal(y.astype(np.float32), f)


def test_unused_bits_do_not_reach_the_neighbors() -> None:
    """In an array, a 4-bit value takes a byte, of which only the lower half counts."""
    dirty = np.array([[0xF3, 0x21, 0x7F, 0, 0, 0, 0]], np.uint8).view(ml_dtypes.int4)
    [xf] = run_session(probe("int4"), ["xf"], {"x": dirty})
    assert xf.tolist() == [[3, 1, -1, 0, 0, 0, 0]]


def probe(name: str) -> Any:
    model = net(name)
    model.graph.output.append(models.value("xf", None))
    return models.session(model)


def test_ordinary_inputs_beside_such_types_may_have_any_layout() -> None:
    model = net("bfloat16")
    model.graph.input.append(models.value("other", [2, 3]))
    model.graph.node.append(helper.make_node("Relu", ["other"], ["positive"]))
    model.graph.output.append(models.value("positive", [2, 3]))
    model.graph.input.append(models.value("scalar", []))
    model.graph.node.append(helper.make_node("Relu", ["scalar"], ["single"]))
    model.graph.output.append(models.value("single", []))
    other = np.asfortranarray(np.arange(6, dtype=np.float32).reshape(2, 3))
    feed = {**sample("bfloat16"), "other": other, "scalar": np.float32(2)}
    made = run_session(models.session(model), ["positive", "single"], feed)
    np.testing.assert_array_equal(made[0], other)
    assert (made[1].shape, made[1]) == ((), 2)


def test_such_a_type_may_occur_in_outputs_only() -> None:
    model = models.build(
        [
            helper.make_node("MatMul", ["x", "w"], ["m"]),
            helper.make_node("Cast", ["m"], ["y"], to=TensorProto.BFLOAT16),
        ],
        [models.value("x", ["n", 4])],
        [models.value("y", ["n", 4], TensorProto.BFLOAT16)],
        {"w": models.random(4, 4)},
    )
    feeds = [{"x": models.random(2, 4)}]
    cal = qc.onnx.observe(model, feeds, tensors="all", observer="outputs")
    want = (feeds[0]["x"] @ models.random(4, 4)).astype(ml_dtypes.bfloat16)
    assert cal["y"].max == want.max()


def test_the_advice_for_a_wrong_type_works() -> None:
    model, wrong = net("bfloat16"), {"x": models.random(3, 7)}
    with pytest.raises(
        qc.CalibrationError, match=r"array\.astype\(ml_dtypes\.bfloat16\)"
    ):
        qc.onnx.observe(model, [wrong])
    assert qc.onnx.observe(model, [{"x": wrong["x"].astype(ml_dtypes.bfloat16)}])


@pytest.mark.parametrize("name", ["bfloat16", "float8_e4m3fn", "int4"])
def test_numpy_files_which_lose_the_type_are_read(name: str, tmp_path: Path) -> None:
    feed = sample(name)
    np.savez(tmp_path / "0.npz", **feed)
    np.save(tmp_path / "0.npy", feed["x"])
    model = net(name)
    want = qc.onnx.observe(model, [feed]).to_bytes()
    assert qc.onnx.observe(model, tmp_path / "0.npz").to_bytes() == want
    assert qc.onnx.observe(model, tmp_path / "0.npy").to_bytes() == want


def test_a_type_that_numpy_writes_but_cannot_read_is_named(tmp_path: Path) -> None:
    np.savez(tmp_path / "0.npz", **sample("float8_e5m2"))
    with pytest.raises(qc.CalibrationError, match="holds float8_e5m2, which numpy"):
        qc.onnx.observe(net("float8_e5m2"), tmp_path / "0.npz")


def test_bytes_of_another_size_are_not_read_as_bfloat16() -> None:
    with pytest.raises(qc.CalibrationError, match=r"has dtype \|V4; the model takes"):
        qc.onnx.observe(net("bfloat16"), [{"x": np.zeros((3, 7), "V4")}])


def test_strings_beside_such_types_are_refused_by_name() -> None:
    model = net("bfloat16")
    model.graph.input.append(models.value("s", ["n"], TensorProto.STRING))
    model.graph.node.append(helper.make_node("Identity", ["s"], ["t"]))
    model.graph.output.append(models.value("t", ["n"], TensorProto.STRING))
    feed = {**sample("bfloat16"), "s": np.array(["a"], object)}
    with pytest.raises(
        qc.CalibrationError, match=r"sample 0: Input 's' is a tensor\(string\)"
    ):
        qc.onnx.observe(model, [feed])
