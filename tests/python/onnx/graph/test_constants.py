"""Stored tensors are weights: initializers, Constant nodes, and their aliases."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import onnx_models as models
import quantcal as qc


def convolutions() -> tuple[onnx.ModelProto, list[dict[str, Any]]]:
    """Conv → norm → Clip at 0 and 6 → depthwise Conv → Clip → Conv."""
    nodes = [
        helper.make_node("Conv", ["x", "w1"], ["a"], "first"),
        helper.make_node("BatchNormalization", ["a", *"gbmv"], ["n"], "norm"),
        helper.make_node("Clip", ["n", "zero", "six"], ["c"], "clip"),
        helper.make_node("Conv", ["c", "w2"], ["d"], "depthwise", group=4),
        helper.make_node("Clip", ["d", "zero", "six"], ["e"], "clip2"),
        helper.make_node("Conv", ["e", "w3", "b3"], ["y"], "last"),
    ]
    weights = {
        "w1": models.random(4, 3, 3, 3),
        "w2": models.random(4, 1, 3, 3, seed=1),
        "w3": models.random(2, 4, 1, 1, seed=2),
        "b3": models.random(2, seed=3),
        **{k: np.abs(models.random(4, seed=n)) + 1 for n, k in enumerate("gbmv", 4)},
        "zero": np.array(0, np.float32),
        "six": np.array(6, np.float32),
    }
    x, y = models.value("x", [1, 3, 9, 9]), models.value("y", [1, 2, 5, 5])
    feeds = [{"x": models.random(1, 3, 9, 9, seed=n)} for n in range(3)]
    return models.build(nodes, [x], [y], weights), feeds


def products() -> tuple[onnx.ModelProto, list[dict[str, Any]]]:
    """MatMul → Add → Gemm → Relu → MatMul with a stack."""
    nodes = [
        helper.make_node("MatMul", ["x", "w1"], ["a"], "first"),
        helper.make_node("Add", ["a", "b1"], ["b"], "bias"),
        helper.make_node("Gemm", ["b", "w2", "b2"], ["g"], "gemm", transB=1, beta=0.5),
        helper.make_node("Relu", ["g"], ["r"], "relu"),
        helper.make_node("MatMul", ["r", "w3"], ["y"], "last"),
    ]
    shapes: dict[str, tuple[int, ...]] = {
        "w1": (8, 6),
        "b1": (6,),
        "w2": (5, 6),
        "b2": (5,),
        "w3": (2, 5, 4),
    }
    weights = {n: models.random(*s, seed=k) for k, (n, s) in enumerate(shapes.items())}
    x, y = models.value("x", [9, 8]), models.value("y", [2, 9, 4])
    feeds = [{"x": models.random(9, 8, seed=n)} for n in range(3)]
    return models.build(nodes, [x], [y], weights), feeds


def branches() -> tuple[onnx.ModelProto, list[dict[str, Any]]]:
    """One branch has own weights, the other one captures those of the main graph."""

    def branch(name: str, weight: str, own: bool) -> onnx.GraphProto:
        nodes = [
            helper.make_node("MatMul", ["h", weight], ["m"], f"{name}_product"),
            helper.make_node("Clip", ["m", "low"], ["l"], f"{name}_clip"),
            helper.make_node("MatMul", ["l", weight], [name], f"{name}_last"),
        ]
        arrays = [("u", models.random(6, 6, seed=9)), ("low", np.float32(0))]
        stored = [onnx.numpy_helper.from_array(np.asarray(a), n) for n, a in arrays]
        output = [models.value(name, ["n", 6])]
        return helper.make_graph(nodes, name, [], output, stored[0 if own else 1 :])

    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["h"], "first"),
        helper.make_node(
            "If",
            ["c"],
            ["y"],
            "if",
            then_branch=branch("p", "u", own=True),
            else_branch=branch("q", "w", own=False),
        ),
    ]
    inputs = [models.value("x", ["n", 6]), models.value("c", [], TensorProto.BOOL)]
    outputs = [models.value("y", ["n", 6])]
    model = models.build(nodes, inputs, outputs, {"w": models.random(6, 6)})
    return model, [
        {"x": models.random(9, 6, seed=n), "c": np.array(n % 2 == 0)} for n in range(4)
    ]


@pytest.mark.parametrize("target", ["onnxruntime", "tensorrt"])
@pytest.mark.parametrize("how", models.HOLDERS)
@pytest.mark.parametrize("make", [convolutions, products, branches])
def test_the_quantized_model_computes_the_same(
    make: Callable[[], Any], how: str, target: str, tmp_path: Path
) -> None:
    """Ranges, counts and results equal those of a model with initializers."""
    model, feeds = make()
    paths = tmp_path / "wanted.onnx", tmp_path / "found.onnx"
    wanted, found = (
        qc.onnx.quantize(
            each, path, feeds, target=target, progress=False, strategy="mse"
        )
        for each, path in zip((model, models.hold(model, how)), paths, strict=True)
    )
    assert found.table == wanted.table
    assert found.quantized_nodes == wanted.quantized_nodes
    assert found.left_in_float == wanted.left_in_float == {}
    assert found.weight_formats == wanted.weight_formats
    for feed in feeds:
        first, second = (
            models.session(str(p), exact=True).run(None, feed) for p in paths
        )
        np.testing.assert_array_equal(first[0], second[0])
    # No float weight is left beside its quantized copy.
    sizes = [path.stat().st_size for path in paths]
    assert sizes[1] < sizes[0] + 700


@pytest.mark.parametrize("how", models.HOLDERS)
def test_rules_and_saturation_find_such_weights(how: str, tmp_path: Path) -> None:
    model, feeds = products()
    made = models.hold(model, how)
    result = qc.onnx.quantize(
        made,
        tmp_path / "q.onnx",
        feeds,
        weight_formats={"w1": "uint8", "node:gemm": "int4"},
        progress=False,
        strategy="mse",
    )
    assert result.weight_formats == {"int8": 1, "uint8": 1, "int4": 1}
    cal = qc.onnx.observe(made, feeds)
    found = qc.onnx.find_saturation(made, cal, cal.compute(format="uint8"))
    assert list(found) == ["first", "gemm", "last"]


@pytest.mark.parametrize("how", models.HOLDERS)
def test_a_weight_that_is_also_an_output_is_quantized(how: str, tmp_path: Path) -> None:
    """The output itself stays float."""
    model, feeds = products()
    model.graph.output.append(models.value("w1", [8, 6]))
    path = tmp_path / "q.onnx"
    result = qc.onnx.quantize(
        models.hold(model, how), path, feeds, progress=False, strategy="mse"
    )
    assert result.weight_formats == {"int8": 3}
    session = models.session(str(path))
    (weights,) = session.run(["w1"], feeds[0])
    np.testing.assert_array_equal(weights, models.random(8, 6, seed=0))
    (want,) = models.session(model).run(["y"], feeds[0])
    assert models.signal_to_noise(want, session.run(["y"], feeds[0])[0]) > 25


def test_the_parts_of_a_weight_are_weights(tmp_path: Path) -> None:
    """A Split of one matrix, as in fused projections. The third part is not read."""
    nodes = [
        helper.make_node("Split", ["w", "sizes"], ["a", "b", "c"], "split", axis=1),
        helper.make_node("MatMul", ["x", "a"], ["h"], "first"),
        helper.make_node("Add", ["h", "b"], ["y"], "sum"),
    ]
    weights = {"w": models.random(8, 12), "sizes": np.array([4, 4, 4])}
    x, y = models.value("x", [8, 8]), models.value("y", [8, 4])
    model = models.build(nodes, [x], [y], weights)
    path, feeds = tmp_path / "q.onnx", [{"x": models.random(8, 8)}]
    result = qc.onnx.quantize(model, path, feeds, progress=False, strategy="mse")
    assert result.weight_formats == {"int8": 1}
    written = onnx.load(path).graph
    assert {t.name for t in written.initializer} >= {"a_quantized", "b_quantized"}
    assert not {t.name for t in written.initializer} & {*"abcw", "sizes"}
    (want,) = models.session(model).run(None, feeds[0])
    (got,) = models.session(str(path)).run(None, feeds[0])
    assert models.signal_to_noise(want, got) > 30
