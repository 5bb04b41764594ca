"""Constants that no code can represent keep their node in float, which is counted."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import onnx_models as models
import quantcal as qc
from quantcal.onnx._write.weight_quantization import quantize_blocks, quantize_weight

node = helper.make_node
WIDTH = 16
INF, NAN = float("inf"), float("nan")
HUGE = 3e38
CASES = {-INF: "infinities", INF: "infinities", NAN: "NaN", -HUGE: "values beyond 1e"}


def spoilt(value: float, *shape: int, seed: int = 1) -> np.ndarray[Any, Any]:
    array = models.random(*shape, seed=seed)
    array.reshape(-1)[5] = value
    return array


def network(
    nodes: list[onnx.NodeProto], weights: models.Arrays, flags: Sequence[str] = ()
) -> onnx.ModelProto:
    """A MatMul that can be quantized, and nodes after it: [any, 16] → [any, 16]."""
    first = node("MatMul", ["x", "w"], ["h"], "first")
    x, y = models.value("x", ["n", WIDTH]), models.value("y", ["n", WIDTH])
    inputs = [x] + [models.value(name, [], TensorProto.BOOL) for name in flags]
    return models.build(
        [first, *nodes], inputs, [y], {"w": models.random(WIDTH, WIDTH), **weights}
    )


def feeds(count: int = 3) -> list[dict[str, Any]]:
    return [{"x": models.random(8, WIDTH, seed=k)} for k in range(count)]


def assert_same_special(model: onnx.ModelProto, path: Path) -> None:
    """Infinities and NaN are where the float model has them; other values are close."""
    for exact in (True, False):
        for feed in feeds():
            (want,) = models.session(model, exact=True).run(None, feed)
            (got,) = models.session(str(path), exact=exact).run(None, feed)
            np.testing.assert_array_equal(np.isnan(got), np.isnan(want))
            np.testing.assert_array_equal(np.isposinf(got), np.isposinf(want))
            np.testing.assert_array_equal(np.isneginf(got), np.isneginf(want))
            here = np.isfinite(want)
            assert models.signal_to_noise(want[here], got[here]) > 25


def assert_computes_as_before(
    written: onnx.ModelProto, odd: onnx.NodeProto, weights: models.Arrays
) -> None:
    """The node computes from its inputs what it computes alone, to the bit."""
    (left,) = [n for n in written.graph.node if n.name == "odd"]
    (at,) = [i for i, name in enumerate(odd.input) if name == "h"]
    for feed in feeds():
        h, got = models.outputs(written, feed, [left.input[at], "y"])
        given, made = models.value("h", h.shape), models.value("y", got.shape)
        alone = models.build([odd], [given], [made], weights)
        (want,) = models.session(alone, exact=True).run(None, {"h": h})
        np.testing.assert_array_equal(got, want)


KINDS = {
    "weight": (node("MatMul", ["h", "k"], ["y"], "odd"), (WIDTH, WIDTH)),
    "left weight": (node("MatMul", ["k", "h"], ["y"], "odd"), (8, 8)),
    "gemm bias": (node("Gemm", ["h", "v", "k"], ["y"], "odd"), (WIDTH,)),
    "added": (node("Add", ["h", "k"], ["y"], "odd"), (WIDTH,)),
    "subtracted": (node("Sub", ["h", "k"], ["y"], "odd"), (WIDTH,)),
    "multiplied": (node("Mul", ["k", "h"], ["y"], "odd"), (WIDTH,)),
    "divided": (node("Div", ["h", "k"], ["y"], "odd"), (WIDTH,)),
    "where": (node("Where", ["c", "h", "k"], ["y"], "odd"), (WIDTH,)),
    "max": (node("Max", ["h", "k"], ["y"], "odd"), (WIDTH,)),
    "min": (node("Min", ["h", "k"], ["y"], "odd"), (WIDTH,)),
    "concat": (node("Concat", ["h", "k"], ["y"], "odd", axis=0), (1, WIDTH)),
    "einsum": (
        node("Einsum", ["h", "k"], ["y"], "odd", equation="bi,ij->bj"),
        (WIDTH, WIDTH),
    ),
}


@pytest.mark.parametrize("from_constant", [False, True])
@pytest.mark.parametrize("value", CASES)
@pytest.mark.parametrize("kind", KINDS)
def test_a_constant_that_cannot_be_quantized_keeps_its_node_in_float(
    kind: str, value: float, from_constant: bool, tmp_path: Path
) -> None:
    odd, shape = KINDS[kind]
    weights = {
        "v": models.random(WIDTH, WIDTH, seed=2),
        "k": spoilt(value, *shape),
        "c": np.arange(WIDTH) % 2 == 0,
    }
    weights = {name: weights[name] for name in weights if name in odd.input}
    nodes, k = [odd], weights["k"]
    if from_constant:
        tensor = numpy_helper.from_array(weights.pop("k"))
        nodes.insert(0, node("Constant", [], ["k"], value=tensor))
    model, path = network(nodes, weights), tmp_path / "q.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = qc.onnx.quantize(
            model,
            path,
            feeds(),
            op_types=sorted({"MatMul", odd.op_type}),
            progress=False,
            strategy="mse",
        )
    assert result.quantized_nodes == {"MatMul": 1}
    ((reason, count),) = result.left_in_float.items()
    assert (count, "'k'" in reason) == (1, True)
    assert CASES[value] in reason
    assert_computes_as_before(onnx.load(path), odd, weights | {"k": k})


def test_a_mask_of_infinities_lets_nothing_through(tmp_path: Path) -> None:
    mask = np.where(np.arange(WIDTH) < 4, 0, -INF).astype(np.float32)
    nodes = [
        node("Add", ["h", "mask"], ["m"], "masked"),
        node("Softmax", ["m"], ["y"], "softmax", axis=-1),
    ]
    model, path = network(nodes, {"mask": mask}), tmp_path / "q.onnx"
    result = qc.onnx.quantize(
        model,
        path,
        feeds(),
        op_types=["MatMul", "Add"],
        progress=False,
        strategy="mse",
    )
    assert result.left_in_float == {"with infinities in 'mask'": 1}
    (got,) = models.session(str(path)).run(None, feeds()[0])
    assert got[:, 4:].sum() == 0


@pytest.mark.parametrize(
    "options", [{"activation_type": "none"}, {"target": "tensorrt"}]
)
def test_a_float_bias_with_infinities_leaves_its_node_quantized(
    options: dict[str, Any], tmp_path: Path
) -> None:
    """Weight-only models and TensorRT keep biases in float and do not round the sum."""
    nodes = [node("Gemm", ["h", "v", "k"], ["y"], "odd")]
    weights = {"v": models.random(WIDTH, WIDTH, seed=2), "k": spoilt(-INF, WIDTH)}
    model, path = network(nodes, weights), tmp_path / "q.onnx"
    result = qc.onnx.quantize(model, path, feeds(), progress=False, **options)
    assert result.quantized_nodes == {"MatMul": 1, "Gemm": 1}
    assert result.left_in_float == {}
    assert_same_special(model, path)


@pytest.mark.parametrize("weight", ["int8", "int4", "float8_e4m3fn"])
@pytest.mark.parametrize("value", CASES)
def test_weights_that_cannot_be_quantized_stay_in_float_without_activations(
    value: float, weight: str, tmp_path: Path
) -> None:
    nodes = [node("MatMul", ["h", "k"], ["y"], "odd")]
    model = network(nodes, {"k": spoilt(value, WIDTH, WIDTH)})
    result = qc.onnx.quantize(
        model,
        tmp_path / "q.onnx",
        activation_type="none",
        weight_type=weight,
        progress=False,
    )
    ((reason, count),) = result.left_in_float.items()
    assert count == 1
    assert CASES[value] in reason


def test_a_conv_with_a_batch_norm_without_an_end_stays_in_float(tmp_path: Path) -> None:
    norm = {
        name: np.abs(models.random(4, seed=k)) + 0.5 for k, name in enumerate("gsmv")
    }
    norm["s"][1] = -INF
    nodes = [
        node("Conv", ["x", "w"], ["c"], "conv"),
        node("BatchNormalization", ["c", *norm], ["n"], "norm"),
        node("Conv", ["n", "w"], ["y"], "last"),
    ]
    shape = ["b", 4, "h", "w"]
    model = models.build(
        nodes,
        [models.value("x", shape)],
        [models.value("n", shape)],
        {"w": models.random(4, 4, 1, 1), **norm},
    )
    samples = [{"x": models.random(1, 4, 6, 7, seed=k)} for k in range(3)]
    path = tmp_path / "q.onnx"
    result = qc.onnx.quantize(model, path, samples, progress=False, strategy="mse")
    assert result.quantized_nodes == {"Conv": 1}
    # The output of the second Conv is never finite.
    reason = "never reached by the calibration data: only NaN or infinities"
    assert result.left_in_float == {reason: 1}
    (got,) = models.session(str(path)).run(["n"], samples[0])
    assert np.isneginf(got[:, 1]).all()
    assert np.isfinite(got[:, [0, 2, 3]]).all()


def test_a_factor_that_makes_a_weight_infinite_keeps_its_node_in_float(
    tmp_path: Path,
) -> None:
    nodes = [node("Gemm", ["h", "k"], ["y"], "odd", alpha=1e20)]
    model = network(nodes, {"k": 1e20 * models.random(WIDTH, WIDTH)})
    result = qc.onnx.quantize(
        model, tmp_path / "q.onnx", feeds(), progress=False, strategy="mse"
    )
    assert result.left_in_float == {"with values beyond 1e+30 in 'k'": 1}


def test_constants_inside_subgraphs_that_cannot_be_quantized(tmp_path: Path) -> None:
    def branch(name: str, weight: np.ndarray[Any, Any]) -> onnx.GraphProto:
        inner = node("MatMul", ["h", f"{name}_w"], [name], f"{name}_matmul")
        made = numpy_helper.from_array(weight, f"{name}_w")
        return helper.make_graph([inner], name, [], [models.value(name, None)], [made])

    good, bad = models.random(WIDTH, WIDTH, seed=4), spoilt(NAN, WIDTH, WIDTH)
    choose = node(
        "If",
        ["c"],
        ["y"],
        "if",
        then_branch=branch("a", good),
        else_branch=branch("b", bad),
    )
    model = network([choose], {}, ["c"])
    samples = [{**f, "c": np.array(k > 0)} for k, f in enumerate(feeds())]
    result = qc.onnx.quantize(
        model, tmp_path / "q.onnx", samples, progress=False, strategy="mse"
    )
    assert result.quantized_nodes == {"MatMul": 2}
    assert result.left_in_float == {"with NaN in 'b_w' (inside If)": 1}


def test_a_model_of_nothing_else_is_refused_by_the_name_of_the_constant() -> None:
    model = models.gemm_net(np.array([0, 1, -INF, 2, 3], np.float32))
    with pytest.raises(qc.CalibrationError, match="infinities in 'b'"):
        qc.onnx.quantize(
            model, "never.onnx", [{"x": models.random(4, 8)}], strategy="mse"
        )
    assert not Path("never.onnx").exists()


@pytest.mark.parametrize("value", [INF, -INF, NAN])
def test_quantizing_such_a_weight_is_refused(value: float) -> None:
    weight = spoilt(value, 32, 32)
    with pytest.raises(qc.CalibrationError, match="infinities or NaN"):
        quantize_weight(weight, "int8", "minmax", 0)
    with pytest.raises(qc.CalibrationError, match="infinities or NaN"):
        quantize_blocks(weight, "int4", "minmax", 0, 32)


def test_ordinary_constants_of_such_operators_are_quantized(tmp_path: Path) -> None:
    """The limit is far from values in networks: a mask of -10,000 is quantized."""
    mask = np.where(np.arange(WIDTH) < 12, 0, -1e4).astype(np.float32)
    nodes = [
        node("Add", ["h", "m"], ["a"], "add"),
        node("Concat", ["a", "k"], ["y"], "concat", axis=0),
    ]
    model = network(nodes, {"m": mask, "k": models.random(1, WIDTH)})
    path = tmp_path / "q.onnx"
    result = qc.onnx.quantize(
        model,
        path,
        feeds(),
        op_types=["MatMul", "Add", "Concat"],
        progress=False,
        strategy="mse",
    )
    assert result.left_in_float == {}
    assert result.weight_formats["uint8"] == 2
    floats = [
        t.name
        for t in onnx.load(path).graph.initializer
        if t.data_type == TensorProto.FLOAT and len(t.dims)
    ]
    assert not {"m", "k", "w"} & set(floats)


def test_tables_and_recurrent_weights_that_cannot_be_quantized(tmp_path: Path) -> None:
    nodes = [
        node("Gather", ["t", "i"], ["g"], "rows"),
        node("LSTM", ["s", "p", "r"], ["z"], "lstm", hidden_size=4),
        node("MatMul", ["x", "w"], ["y"], "good"),
    ]
    weights = {
        "t": spoilt(NAN, 12, 4),
        "p": models.random(1, 16, 4),
        "r": spoilt(INF, 1, 16, 4),
        "w": models.random(WIDTH, WIDTH),
    }
    inputs = [
        models.value("i", ["b"], TensorProto.INT64),
        models.value("s", ["t", 1, 4]),
        models.value("x", ["n", WIDTH]),
    ]
    outputs = [
        models.value("g", ["b", 4]),
        models.value("z", ["t", 1, 1, 4]),
        models.value("y", ["n", WIDTH]),
    ]
    model = models.build(nodes, inputs, outputs, weights)
    result = qc.onnx.quantize(
        model,
        tmp_path / "q.onnx",
        activation_type="none",
        op_types=["MatMul", "Gather", "LSTM"],
        progress=False,
    )
    assert result.quantized_nodes == {"MatMul": 1}
    wanted = {"with NaN in 't'": 1, "with infinities in 'r'": 1}
    assert result.left_in_float == wanted


def test_a_table_of_ranges_serves_a_model_with_such_a_constant(tmp_path: Path) -> None:
    """The ranges of the node that stays in float are not needed."""
    mask = np.where(np.arange(WIDTH) < 4, 0, -INF).astype(np.float32)
    nodes = [
        node("Add", ["h", "mask"], ["m"], "masked"),
        node("Softmax", ["m"], ["y"], "softmax", axis=-1),
    ]
    model, path = network(nodes, {"mask": mask}), tmp_path / "m.onnx"
    onnx.save_model(
        model, str(path), save_as_external_data=True, location="d", size_threshold=16
    )
    chosen = ["MatMul", "Add"]
    seen = qc.onnx.observe(path, feeds(), op_types=chosen, progress=False)
    written = qc.onnx.write(
        path, tmp_path / "q.onnx", seen.compute("mse", format="uint8"), op_types=chosen
    )
    assert written.left_in_float == {"with infinities in 'mask'": 1}
    (got,) = models.session(str(tmp_path / "q.onnx")).run(None, feeds()[0])
    assert got[:, 4:].sum() == 0
