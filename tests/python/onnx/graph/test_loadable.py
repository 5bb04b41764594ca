"""Models are written in forms that onnxruntime's optimizer can load."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

import onnx_models as models
import quantcal as qc
from fused_kernels import Net, decibels, kernels
from matmul_forms import FORMS, SHAPES, SIGNED

MOVERS: dict[str, tuple[list[str], dict[str, Any]]] = {
    "Transpose": ([], {"perm": [0, 2, 3, 1]}),
    "Reshape": (["shape"], {}),
    "Squeeze": (["axes"], {}),
    "Unsqueeze": (["axes"], {}),
    "Slice": (["starts", "ends"], {}),
    "MaxPool": ([], {"kernel_shape": [2, 2]}),
    "Flatten": ([], {}),
    "Identity": ([], {}),
    "Gather": (["indices"], {"axis": 1}),
}
CONSTANTS = {
    "w": models.random(4, 4, 3, 3),
    "shape": np.array([1, 4, -1]),
    "axes": np.array([0]),
    "starts": np.array([0, 0]),
    "ends": np.array([1, 3]),
    "indices": np.array([0, 2]),
}
FEEDS = [{"x": models.random(1, 4, 8, 8, seed=seed)} for seed in range(4)]


def moved(movers: list[str], after: list[str], opset: int) -> onnx.ModelProto:
    """A Conv, operators that move its result, and others after them."""
    nodes = [helper.make_node("Conv", ["x", "w"], ["h0"], "conv", pads=[1] * 4)]
    for op_type in (*movers, *after):
        extra, attributes = MOVERS.get(op_type, ([], {}))
        names = [f"h{len(nodes) - 1}", *extra], [f"h{len(nodes)}"], f"n{len(nodes)}"
        nodes.append(helper.make_node(op_type, *names, **attributes))
    read = {name for node in nodes for name in node.input}
    weights = {name: array for name, array in CONSTANTS.items() if name in read}
    last = models.value(nodes[-1].output[0], None)
    graph = helper.make_graph(
        nodes,
        "moved",
        [models.value("x", [1, 4, 8, 8])],
        [last],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    imports = [helper.make_opsetid("", opset)]
    model = helper.make_model(graph, opset_imports=imports, ir_version=10)
    return onnx.shape_inference.infer_shapes(model)


@pytest.mark.parametrize("opset", [20, 21, 22])
@pytest.mark.parametrize("mover", MOVERS)
def test_signed_codes_are_moved_at_every_opset(
    tmp_path: Path, mover: str, opset: int
) -> None:
    """From opset 21 on, onnxruntime's optimizer made such models invalid."""
    for after in ([], ["Tanh"], ["Relu", "Tanh"]):
        model, path = moved([mover], after, opset), tmp_path / "q.onnx"
        qc.onnx.quantize(
            model, path, FEEDS, activation_type="int8", progress=False, strategy="mse"
        )
        assert decibels(model, path, FEEDS) > 25
        assert kernels(path)["QLinearConv"] == 1


@pytest.mark.parametrize("first", ["Flatten", "Identity", "Transpose", "Unsqueeze"])
def test_signed_codes_are_moved_twice(tmp_path: Path, first: str) -> None:
    model, path = moved([first, "Unsqueeze"], ["Tanh"], 21), tmp_path / "q.onnx"
    qc.onnx.quantize(
        model, path, FEEDS, activation_type="int8", progress=False, strategy="mse"
    )
    assert decibels(model, path, FEEDS) > 25


def test_rounding_again_after_moved_signed_codes_changes_no_value(
    tmp_path: Path,
) -> None:
    found = []
    for opset in (20, 21):
        path = tmp_path / f"{opset}.onnx"
        model = moved(["Transpose", "Slice"], [], opset)
        qc.onnx.quantize(
            model, path, FEEDS, activation_type="int8", progress=False, strategy="mse"
        )
        found.append(models.session(str(path), exact=True).run(None, FEEDS[0])[0])
    np.testing.assert_array_equal(*found)


def test_unsigned_codes_are_not_rounded_again(tmp_path: Path) -> None:
    counts = []
    for opset in (20, 21):
        result = qc.onnx.quantize(
            moved(["Transpose"], ["Tanh"], opset),
            tmp_path / "q.onnx",
            FEEDS,
            progress=False,
            strategy="mse",
        )
        counts.append(result.quantize_nodes)
    assert counts == [2, 2]


TARGETS = [
    {"target": "onnxruntime", "activation_type": "int8"},
    {"target": "onnxruntime", "activation_type": "int8", "placement": "stock"},
    {"target": "tensorrt"},
]


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.__name__)
@pytest.mark.parametrize("options", TARGETS, ids=["minimal", "stock", "tensorrt"])
@pytest.mark.parametrize("shape", ["fixed stack", "open stack"])
def test_signed_stacks_are_multiplied_and_added_at_opset_21(
    tmp_path: Path, form: Any, options: dict[str, Any], shape: str
) -> None:
    """onnxruntime inserts a Reshape before the product. A Sub of the negative avoids it."""
    net = Net(SHAPES[shape])
    model = net.model(*form(net))
    model.opset_import[0].version = 21
    model = onnx.shape_inference.infer_shapes(model)
    path = tmp_path / "q.onnx"
    qc.onnx.quantize(model, path, net.feeds(), **options, progress=False)
    assert decibels(model, path, net.feeds()) > 30
    if form in SIGNED and options["target"] == "onnxruntime":
        found = kernels(path)
        assert not any(found[kind] for kind in ("MatMul", "Gemm", "FusedMatMul"))


@pytest.mark.parametrize("format", ["float8_e4m3fn", "float8_e5m2"])
@pytest.mark.parametrize("bounds", [("low", "high"), ("low",), ("", "high"), ()])
def test_a_clip_before_small_floats_is_loaded(
    tmp_path: Path, bounds: tuple[str, ...], format: str
) -> None:
    """As in networks with ReLU6, which onnxruntime did not load."""
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], "conv", pads=[1] * 4),
        helper.make_node("Clip", ["c", *bounds], ["r"], "clip"),
        helper.make_node("Conv", ["r", "w"], ["y"], "conv2", pads=[1] * 4),
    ]
    limits = {"low": np.float32(0), "high": np.float32(6)}
    weights = {name: limits[name] for name in bounds if name} | {"w": CONSTANTS["w"]}
    shape = [1, 4, 8, 8]
    x, y = models.value("x", shape), models.value("y", shape)
    model = models.build(nodes, [x], [y], weights)
    path = tmp_path / "q.onnx"
    result = qc.onnx.quantize(
        model,
        path,
        FEEDS,
        activation_type=format,
        progress=False,
        strategy="mse",
    )
    assert result.quantized_nodes == {"Conv": 2}
    assert decibels(model, path, FEEDS) > (20 if format == "float8_e4m3fn" else 14)


@pytest.mark.parametrize("options", [{}, {"activation_type": "none"}])
def test_tied_weights_are_not_rounded_again(
    tmp_path: Path, options: dict[str, Any]
) -> None:
    """A Transpose of dequantized weights is computed once, before the moves."""
    counts = []
    for opset in (20, 21):
        nodes = [
            helper.make_node("MatMul", ["x", "w"], ["h"], "first"),
            helper.make_node("Transpose", ["w"], ["t"], "turn", perm=[1, 0]),
            helper.make_node("MatMul", ["h", "t"], ["y"], "second"),
        ]
        x, y = (models.value(name, ["n", 8]) for name in "xy")
        weights = {"w": models.random(8, 64)}
        model = models.build(nodes, [x], [y], weights, opset=opset, ir=10)
        feeds = None if options else [{"x": models.random(4, 8)}]
        path = tmp_path / "q.onnx"
        result = qc.onnx.quantize(model, path, feeds, **options, progress=False)
        counts.append((result.quantize_nodes, result.dequantize_nodes))
    assert counts[0] == counts[1]
