"""Nodes inside `If`, `Loop` and `Scan` are planned, observed and quantized."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import onnx_models as models
import quantcal as qc
from quantcal.onnx._graph.graph import all_nodes, inputs_of, names_of
from quantcal.onnx._graph.nested_scopes import scopes, unify_names
from tests.models import MODELS


def branches(*, constant: bool) -> onnx.ModelProto:
    """An If whose branches use the same inner names; weights inside, or captured."""

    def branch(sign: str, seed: int) -> onnx.GraphProto:
        nodes = [
            helper.make_node("MatMul", ["h", f"w{sign}" if constant else "w"], ["m"]),
            helper.make_node("Relu", ["m"], ["r"]),
            helper.make_node("MatMul", ["r", "v"], [f"out{sign}"]),
        ]
        if constant:
            weight = numpy_helper.from_array(models.random(6, 6, seed=seed))
            nodes.insert(
                0, helper.make_node("Constant", [], [f"w{sign}"], value=weight)
            )
        inside = [numpy_helper.from_array(models.random(6, 6, seed=seed + 9), "v")]
        out = [models.value(f"out{sign}", ["n", 6])]
        return helper.make_graph(nodes, f"branch{sign}", [], out, inside)

    nodes = [
        helper.make_node("Tanh", ["x"], ["h"]),
        helper.make_node(
            "If", ["c"], ["y"], then_branch=branch("A", 1), else_branch=branch("B", 2)
        ),
    ]
    inputs = [models.value("x", ["n", 6]), models.value("c", [], TensorProto.BOOL)]
    outputs = [models.value("y", ["n", 6])]
    return models.build(nodes, inputs, outputs, {"w": models.random(6, 6)})


def choices(*values: bool) -> list[dict[str, Any]]:
    return [
        {"x": models.random(20, 6, seed=n), "c": np.array(value)}
        for n, value in enumerate(values)
    ]


def loop() -> onnx.ModelProto:
    """Three times s ← tanh(s · w), starting from x."""
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["go"], ["on"]),
            helper.make_node("MatMul", ["s", "w"], ["m"], "step"),
            helper.make_node("Tanh", ["m"], ["t"]),
        ],
        "body",
        [
            models.value("i", [], TensorProto.INT64),
            models.value("go", [], TensorProto.BOOL),
            models.value("s", ["n", 6]),
        ],
        [models.value("on", [], TensorProto.BOOL), models.value("t", ["n", 6])],
    )
    node = helper.make_node("Loop", ["count", "", "x"], ["y"], "loop", body=body)
    data = {"w": models.random(6, 6), "count": np.array(3)}
    x, y = models.value("x", ["n", 6]), models.value("y", ["n", 6])
    return models.build([node], [x], [y], data)


def scan() -> onnx.ModelProto:
    """Running sums of rows, each times w."""
    body = helper.make_graph(
        [
            helper.make_node("Add", ["s", "row"], ["total"]),
            helper.make_node("Unsqueeze", ["total", "first"], ["wide"]),
            helper.make_node("MatMul", ["wide", "w"], ["m"], "step"),
        ],
        "body",
        [models.value("s", [6]), models.value("row", [6])],
        [models.value("total", [6]), models.value("m", [1, 6])],
    )
    node = helper.make_node(
        "Scan", ["zero", "x"], ["last", "y"], "scan", body=body, num_scan_inputs=1
    )
    data = {
        "w": models.random(6, 6),
        "zero": np.zeros(6, np.float32),
        "first": np.array([0]),
    }
    x, y = models.value("x", ["n", 6]), models.value("y", ["n", 1, 6])
    return models.build([node], [x], [y], data)


def operators(path: Path, folder: Path) -> Counter[str]:
    """The operators that onnxruntime runs, in subgraphs too."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.log_severity_level = 4
    level = ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.graph_optimization_level = level
    options.optimized_model_filepath = str(folder / "optimized.onnx")
    ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    model = onnx.load(folder / "optimized.onnx")
    return Counter(node.op_type for node in all_nodes(model.graph))


def assert_close(
    model: onnx.ModelProto, path: Path, feeds: list[dict[str, Any]]
) -> None:
    onnx.checker.check_model(str(path))
    for exact in (True, False):
        session = models.session(str(path), exact=exact)
        for feed in feeds:
            (want,) = models.session(model, exact=True).run(["y"], feed)
            (got,) = session.run(["y"], feed)
            assert models.signal_to_noise(want, got) > 25, f"exact={exact}"


@pytest.mark.parametrize("constant", [True, False], ids=["weights inside", "captured"])
def test_both_branches_of_an_if_run_on_integers(tmp_path: Path, constant: bool) -> None:
    model, feeds = branches(constant=constant), choices(True, False, True, False)
    path = tmp_path / "q.onnx"
    result = qc.onnx.quantize(model, path, feeds, progress=False, strategy="mse")
    assert result.quantized_nodes == {"MatMul": 4}
    assert result.left_in_float == {}
    assert_close(model, path, feeds)
    kinds = operators(path, tmp_path)
    assert kinds["MatMul"] == 0
    # The output of one node per branch is rounded, the other is the float result.
    assert kinds["QLinearMatMul"] == kinds["MatMulIntegerToFloat"] == 2


def test_inner_tensors_have_the_histograms_of_their_own_branch(tmp_path: Path) -> None:
    """Both branches have a tensor r. The attribute else_branch comes first."""
    model, feeds = branches(constant=True), choices(True, False, True)
    result = qc.onnx.quantize(
        model, tmp_path / "q.onnx", feeds, strategy="minmax", progress=False
    )
    for name, seed, taken in (("r", 2, feeds[1:2]), ("r_2", 1, feeds[::2])):
        h = np.concatenate([np.tanh(f["x"]) for f in taken])
        want = np.maximum(h @ models.random(6, 6, seed=seed), 0)
        report = result.table.report[name]
        assert report.count == want.size
        assert report.max == pytest.approx(want.max(), rel=1e-5)


def test_a_branch_that_no_sample_takes_stays_in_float_and_is_counted(
    tmp_path: Path,
) -> None:
    model, feeds = branches(constant=True), choices(True, True)
    path = tmp_path / "q.onnx"
    result = qc.onnx.quantize(model, path, feeds, progress=False, strategy="mse")
    # One node of the other branch reads a tensor of the main graph, whose range is known.
    assert result.quantized_nodes == {"MatMul": 3}
    reason = "never reached by the calibration data (inside If)"
    assert result.left_in_float == {reason: 1}
    assert reason in result.summary()
    assert_close(model, path, choices(True, False))


def test_an_error_is_raised_when_no_sample_reaches_any_node(tmp_path: Path) -> None:
    model = branches(constant=True)
    with pytest.raises(
        qc.CalibrationError, match=r"3 are excluded.*1 are never reached"
    ):
        qc.onnx.quantize(
            model,
            tmp_path / "q.onnx",
            choices(True),
            exclude=["outA", "w*A", "m*"],
            progress=False,
            strategy="mse",
        )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("make", [loop, scan])
def test_the_bodies_of_loops_run_on_integers(tmp_path: Path, make: Any) -> None:
    model = make()
    feeds = [{"x": models.random(7, 6, seed=n)} for n in range(4)]
    path = tmp_path / "q.onnx"
    result = qc.onnx.quantize(model, path, feeds, progress=False, strategy="mse")
    assert result.quantized_nodes == {"MatMul": 1}
    assert_close(model, path, feeds)
    kinds = operators(path, tmp_path)
    assert kinds["MatMulIntegerToFloat"] == 1
    assert kinds["MatMul"] == 0


def test_every_iteration_of_a_loop_is_counted(tmp_path: Path) -> None:
    feeds = [{"x": models.random(7, 6, seed=n)} for n in range(4)]
    result = qc.onnx.quantize(
        loop(), tmp_path / "q.onnx", feeds, strategy="minmax", progress=False
    )
    s = np.stack([feed["x"] for feed in feeds])
    seen = []
    for _ in range(3):
        seen.append(s)
        s = np.tanh(s @ models.random(6, 6))
    report = result.table.report["s"]
    assert report.count == 3 * s.size
    assert report.max == pytest.approx(max(part.max() for part in seen))


def test_tensorrt_models_have_pairs_in_subgraphs_too(tmp_path: Path) -> None:
    model, feeds = branches(constant=True), choices(True, False)
    path = tmp_path / "q.onnx"
    qc.onnx.quantize(
        model, path, feeds, target="tensorrt", progress=False, strategy="mse"
    )
    assert_close(model, path, feeds)
    inner = [
        Counter(node.op_type for node in scope.node)
        for scope in list(scopes(onnx.load(path).graph))[1:]
    ]
    assert [kinds["QuantizeLinear"] for kinds in inner] == [2, 2]
    assert [kinds["DequantizeLinear"] for kinds in inner] == [4, 4]


def test_weights_in_subgraphs_are_quantized_without_data(tmp_path: Path) -> None:
    model = branches(constant=True)
    path = tmp_path / "q.onnx"
    result = qc.onnx.quantize(model, path, activation_type="none", reduce_range=False)
    assert result.quantized_nodes == {"MatMul": 4}
    assert_close(model, path, choices(True, False))


def test_unified_names_mean_one_value_and_compute_the_same() -> None:
    model = branches(constant=True)
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    unify_names(changed.graph)
    onnx.checker.check_model(changed)
    made = [n for node in all_nodes(changed.graph) for n in node.output]
    made += [t.name for scope in scopes(changed.graph) for t in scope.initializer]
    assert len(made) == len(set(made))
    assert names_of(model.graph) < names_of(changed.graph)
    assert set(inputs_of(changed.graph.node[1])) == set(inputs_of(model.graph.node[1]))
    for feed in choices(True, False):
        (want,) = models.session(model).run(None, feed)
        (got,) = models.session(changed).run(None, feed)
        np.testing.assert_array_equal(got, want)


@pytest.mark.model
@pytest.mark.parametrize("target", ["onnxruntime", "tensorrt"])
@pytest.mark.parametrize(
    ("name", "inside", "left"),
    [
        ("silero", {"Conv": 6}, 6),
        ("silero-op18-ifless", {"Conv": 6, "Gemm": 2}, 8),
    ],
)
def test_the_voice_detector_inside_an_if(
    tmp_path: Path, name: str, inside: dict[str, int], left: int, target: str
) -> None:
    """Samples of 16 kHz take one branch, so the one for 8 kHz has no data."""
    state = np.zeros((2, 1, 128), np.float32)
    feeds = [
        {
            "input": 0.1 * models.random(1, 576, seed=seed),
            "state": state,
            "sr": np.array(16000),
        }
        for seed in range(4)
    ]
    source, path = MODELS[name].fetch(), tmp_path / "q.onnx"
    result = qc.onnx.quantize(
        source, path, feeds, target=target, progress=False, strategy="mse"
    )
    assert result.quantized_nodes == inside
    reason = "never reached by the calibration data (inside If)"
    assert result.left_in_float == {reason: left}
    want = models.session(str(source)).run(None, feeds[0])
    got = models.session(str(path)).run(None, feeds[0])
    np.testing.assert_allclose(got[0], want[0], atol=0.05)
    assert models.signal_to_noise(want[1], got[1]) > 15
    if target == "onnxruntime":
        assert operators(path, tmp_path)["QLinearConv"] == 6
