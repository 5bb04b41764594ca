"""Operators of other domains may compute anything, whatever their names.

Each operator name that quantcal handles is given to a function of another domain. The
result must be as accurate as with an unknown name.
"""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

import onnx_models as models
import quantcal as qc

DOMAIN = "mine"
OPSET = [helper.make_opsetid("", 17)]
MOVING = [
    *("Reshape", "Transpose", "Squeeze", "Unsqueeze", "Flatten", "Identity"),
    *("Split", "Slice", "MaxPool", "Expand", "DepthToSpace"),
    *("SpaceToDepth", "Concat", "Relu", "Clip", "QuantizeLinear"),
    *("DequantizeLinear", "Dropout", "RandomNormal"),
]
# Constant is not tested: onnxruntime ignores the domain of such nodes. Gather, Add and
# others are tested with two inputs only. onnxruntime 1.32 reads the second input of any
# node with such a name, and aborts without it.
PRODUCTS = ["Add", "Sub", "Mul", "Div", "MatMul", "Gemm", "Conv", "ConvTranspose"]
OTHER = "Something"
"""An unknown operator name."""


def function(
    name: str, inputs: Sequence[str], nodes: Sequence[onnx.NodeProto], *made: str
) -> onnx.FunctionProto:
    return helper.make_function(DOMAIN, name, inputs, made or ["o"], nodes, OPSET)


def scaled(name: str) -> onnx.FunctionProto:
    """o = 100 a."""
    nodes = [
        helper.make_node("Constant", [], ["k"], value_float=100.0),
        helper.make_node("Mul", ["a", "k"], ["o"]),
    ]
    return function(name, ["a"], nodes)


def grown(name: str) -> onnx.FunctionProto:
    """o = exp(a / 4)."""
    nodes = [
        helper.make_node("Constant", [], ["k"], value_float=0.25),
        helper.make_node("Mul", ["a", "k"], ["q"]),
        helper.make_node("Exp", ["q"], ["o"]),
    ]
    return function(name, ["a"], nodes)


def mixed(name: str) -> onnx.FunctionProto:
    """o = a + 30 b; later inputs are unused."""
    nodes = [
        helper.make_node("Constant", [], ["k"], value_float=30.0),
        helper.make_node("Mul", ["b", "k"], ["m"]),
        helper.make_node("Add", ["a", "m"], ["o"]),
    ]
    return function(name, ["a", "b", "c", "d", "e"], nodes)


@dataclass(frozen=True)
class Case:
    """A model that calls the function."""

    nodes: list[onnx.NodeProto]
    weights: dict[str, Any]
    x: tuple[int, ...]
    y: tuple[int, ...]
    options: dict[str, Any] = field(default_factory=dict)

    def model(self, made: onnx.FunctionProto) -> onnx.ModelProto:
        arrays = [numpy_helper.from_array(a, n) for n, a in self.weights.items()]
        graph = helper.make_graph(
            self.nodes,
            "g",
            [models.value("x", self.x)],
            [models.value("y", self.y)],
            arrays,
        )
        opsets = [*OPSET, helper.make_opsetid(DOMAIN, 1)]
        return helper.make_model(
            graph, opset_imports=opsets, functions=[made], ir_version=8
        )


def own(name: str, inputs: str, output: str) -> onnx.NodeProto:
    return helper.make_node(name, inputs.split(), [output], "own", domain=DOMAIN)


def between(name: str, body: onnx.FunctionProto) -> Case:
    """MatMul → own → MatMul."""
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["h"], "first"),
        own(name, "h", "t"),
        helper.make_node("MatMul", ["t", "v"], ["y"], "last"),
    ]
    weights = {"w": models.random(16, 8, seed=1), "v": models.random(8, 4, seed=2)}
    return Case(nodes, weights, (32, 16), (32, 4))


def of_two(name: str, body: onnx.FunctionProto) -> Case:
    """The inputs are in the places of a weight, a bias and parameters of a norm."""
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["h"], "first"),
        own(name, "h b c d e", "t"),
        helper.make_node("MatMul", ["t", "v"], ["y"], "last"),
    ]
    weights = {"w": models.random(16, 8, seed=1), "v": models.random(8, 4, seed=2)}
    weights |= {k: models.random(8, seed=n) for n, k in enumerate("bcde", 3)}
    return Case(nodes, weights, (32, 16), (32, 4))


def after_conv(name: str, body: onnx.FunctionProto) -> Case:
    """Conv → own → Conv. A norm or a sum in this place is merged into the first Conv."""
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["h"], "conv"),
        own(name, "h b c d e", "t"),
        helper.make_node("Conv", ["t", "v"], ["y"], "last"),
    ]
    weights = {k: models.random(4, 4, 1, 1, seed=n) for n, k in enumerate("wv")}
    weights |= {k: np.abs(models.random(4, seed=n)) for n, k in enumerate("bcde", 3)}
    return Case(nodes, weights, (1, 4, 8, 4), (1, 4, 8, 4))


def of_weights(name: str, body: onnx.FunctionProto) -> Case:
    """The function computes the weight of a MatMul."""
    inputs = "w" if len(body.input) == 1 else "w b c d e"
    made = own(name, inputs, "v")
    nodes = [made, helper.make_node("MatMul", ["x", "v"], ["y"], "mm")]
    weights = {k: models.random(16, 8, seed=n) for n, k in enumerate("wbcde")}
    return Case(nodes, weights, (32, 16), (32, 8))


@functools.cache
def control(build: Any, body: Any, target: str) -> tuple[float, dict[str, int]]:
    with tempfile.TemporaryDirectory() as folder:
        return loss(build, body(OTHER), Path(folder) / "q.onnx", target=target)


def loss(
    build: Any, made: onnx.FunctionProto, path: Path, **options: Any
) -> tuple[float, dict[str, int]]:
    case = build(made.name, made)
    model = case.model(made)
    feeds = [{"x": models.random(*case.x, seed=n)} for n in range(4)]
    result = qc.onnx.quantize(
        model, path, feeds, strategy="minmax", progress=False, **options
    )
    (want,) = models.session(model).run(None, feeds[0])
    (got,) = models.session(str(path), exact=True).run(None, feeds[0])
    return models.signal_to_noise(want, got), result.quantized_nodes


CASES = [
    *((name, between, body) for name in MOVING for body in (scaled, grown)),
    *((name, of_two, mixed) for name in [*PRODUCTS, "Concat", "Clip", "Gather"]),
    *((name, after_conv, mixed) for name in ["BatchNormalization", "Add", "Concat"]),
    *((name, of_weights, scaled) for name in MOVING),
    *((name, of_weights, mixed) for name in [*PRODUCTS, "Gather"]),
]


@pytest.mark.parametrize("target", ["onnxruntime", "tensorrt"])
@pytest.mark.parametrize(
    ("name", "case", "body"), CASES, ids=lambda part: getattr(part, "__name__", part)
)
def test_names_of_other_domains_have_no_effect(
    name: str, case: Any, body: Any, target: str, tmp_path: Path
) -> None:
    path = tmp_path / "q.onnx"
    found, nodes = loss(case, body(name), path, target=target)
    wanted, others = control(case, body, target)
    assert found > wanted - 3
    assert nodes == others


@pytest.mark.parametrize("name", ["Transpose", "Relu", "BatchNormalization"])
def test_nodes_of_other_domains_are_not_chosen_by_bare_name(
    name: str, tmp_path: Path
) -> None:
    with pytest.raises(qc.CalibrationError, match=f"has no '{name}' node"):
        loss(between, scaled(name), tmp_path / "q", op_types=["MatMul", name])


def contrib(nodes: list[onnx.NodeProto], weights: dict[str, Any]) -> onnx.ModelProto:
    graph = helper.make_graph(
        nodes,
        "g",
        [models.value("x", ["n", 16])],
        [models.value("y", ["n", 8])],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    opsets = [*OPSET, helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)


def ms(kind: str, inputs: str, output: str, **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(
        kind, inputs.split(), [output], output, domain="com.microsoft", **attributes
    )


FUSED = {
    "FusedMatMul": ms("FusedMatMul", "h v", "y", alpha=3.0),
    "TransposeMatMul": ms("TransposeMatMul", "h v", "y", alpha=3.0),
    "FusedGemm": ms("FusedGemm", "h v b", "y", activation="Relu"),
}


@pytest.mark.parametrize("name", FUSED)
def test_nodes_that_onnxruntime_fused_stay_in_float_with_advice(
    name: str, tmp_path: Path
) -> None:
    nodes = [helper.make_node("MatMul", ["x", "w"], ["h"], "mm"), FUSED[name]]
    model = contrib(
        nodes,
        {"w": models.random(16, 8), "v": models.random(8, 8), "b": models.random(8)},
    )
    path, feeds = tmp_path / "q.onnx", [{"x": models.random(32, 16)}]
    result = qc.onnx.quantize(model, path, feeds, progress=False, strategy="mse")
    assert result.quantized_nodes == {"MatMul": 1}
    (reason,) = result.left_in_float
    assert reason.startswith(f"fused by onnxruntime (com.microsoft.{name})")
    assert "from before the optimization" in reason
    (want,) = models.session(model).run(None, feeds[0])
    (got,) = models.session(str(path)).run(None, feeds[0])
    assert models.signal_to_noise(want, got) > 30
    with pytest.raises(qc.CalibrationError, match="from before the optimization"):
        qc.onnx.quantize(
            model, path, feeds, exclude=["mm"], progress=False, strategy="mse"
        )


@pytest.mark.parametrize("level", ["BASIC", "EXTENDED", "ALL"])
def test_models_that_onnxruntime_saved_are_quantized_or_refused(
    level: str, tmp_path: Path
) -> None:
    """At the highest level every Conv has a layout that only onnxruntime supports."""
    model, made = models.conv_net(), tmp_path / "saved.onnx"
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.optimized_model_filepath = str(made)
    options.graph_optimization_level = getattr(
        ort.GraphOptimizationLevel, f"ORT_ENABLE_{level}"
    )
    ort.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    path, feeds = tmp_path / "q.onnx", [{"x": models.random(1, 3, 9, 12)}]
    if all(
        "Conv" not in node.op_type or node.domain for node in onnx.load(made).graph.node
    ):
        advice = "all 2 Conv nodes are fused by onnxruntime.*before the optimization"
        with pytest.raises(qc.CalibrationError, match=advice):
            qc.onnx.quantize(made, path, feeds, progress=False, strategy="mse")
        return
    result = qc.onnx.quantize(made, path, feeds, progress=False, strategy="mse")
    fused = sum(n for why, n in result.left_in_float.items() if "fused" in why)
    assert result.quantized_nodes["Conv"] + fused == 2
    (want,) = models.session(model).run(None, feeds[0])
    (got,) = models.session(str(path)).run(None, feeds[0])
    assert models.signal_to_noise(want, got) > 25


def two_products() -> onnx.ModelProto:
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["h"], "first"),
        helper.make_node("Tanh", ["h"], ["t"], "between"),
        helper.make_node("Gemm", ["t", "v", "b"], ["y"], "last"),
    ]
    weights = {"w": models.random(16, 8), "v": models.random(8, 8)}
    inputs, outputs = [models.value("x", ["n", 16])], [models.value("y", ["n", 8])]
    return models.build(nodes, inputs, outputs, weights | {"b": models.random(8)})


def quantized_by_integer_operators(folder: Path, half: bool) -> onnx.ModelProto:
    """A model with Q/DQ nodes as onnxruntime saves it: QLinearMatMul, QGemm."""
    path, made = folder / "qdq.onnx", folder / "integers.onnx"
    feeds = [{"x": models.random(32, 16)}]
    exclude = ["first"] if half else []
    qc.onnx.quantize(
        two_products(), path, feeds, exclude=exclude, progress=False, strategy="mse"
    )
    models.save_optimized(path, made)
    return onnx.load(made)


def quantized_dynamically(folder: Path, half: bool) -> onnx.ModelProto:
    from onnxruntime.quantization import quantize_dynamic

    source, made = folder / "float.onnx", folder / "dynamic.onnx"
    onnx.save(two_products(), source)
    quantize_dynamic(source, made, nodes_to_exclude=["first"] if half else [])
    return onnx.load(made)


def quantized_by_contrib_pairs(folder: Path, half: bool) -> onnx.ModelProto:
    """Quantized weights with DequantizeLinear of onnxruntime's domain."""
    model = two_products()
    model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    for name, node in zip("wv", model.graph.node[::2], strict=True):
        if half and name == "w":
            continue
        tensor = next(t for t in model.graph.initializer if t.name == name)
        params = qc.QuantParams.from_range(-4, 4, format="int16")
        codes = params.quantize(numpy_helper.to_array(tensor))
        tensor.CopyFrom(numpy_helper.from_array(codes, name))
        scale = np.array(params.scale, np.float32)
        model.graph.initializer.append(numpy_helper.from_array(scale, f"{name}_s"))
        made = ms("DequantizeLinear", f"{name} {name}_s", f"{name}_d")
        node.input[1] = f"{name}_d"
        model.graph.node.insert(0, made)
    return model


@pytest.mark.parametrize(
    "make",
    [
        quantized_by_integer_operators,
        quantized_dynamically,
        quantized_by_contrib_pairs,
    ],
)
def test_nodes_that_are_already_quantized_stay_and_are_counted(
    make: Any, tmp_path: Path
) -> None:
    path, feeds = tmp_path / "q.onnx", [{"x": models.random(32, 16)}]
    with pytest.raises(qc.CalibrationError, match="already quantized"):
        qc.onnx.quantize(
            make(tmp_path, False), path, feeds, progress=False, strategy="mse"
        )
    assert not path.exists()
    model = make(tmp_path, True)
    result = qc.onnx.quantize(model, path, feeds, progress=False, strategy="mse")
    assert sum(result.quantized_nodes.values()) == 1
    assert result.left_in_float == {"already quantized": 1}
    (want,) = models.session(model).run(None, feeds[0])
    (got,) = models.session(str(path)).run(None, feeds[0])
    assert models.signal_to_noise(want, got) > 25


def test_a_model_without_standard_operators_gets_the_standard_opset(
    tmp_path: Path,
) -> None:
    graph = helper.make_graph(
        [ms("QuickGelu", "x", "h", alpha=1.0), ms("QuickGelu", "h", "y", alpha=1.0)],
        "g",
        [models.value("x", ["n", 6], TensorProto.FLOAT)],
        [models.value("y", ["n", 6], TensorProto.FLOAT)],
    )
    opsets = [helper.make_opsetid("com.microsoft", 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    path, feeds = tmp_path / "q.onnx", [{"x": models.random(32, 6)}]
    result = qc.onnx.quantize(
        model,
        path,
        feeds,
        op_types=["com.microsoft.QuickGelu"],
        placement="stock",
        progress=False,
        strategy="mse",
    )
    assert result.quantized_nodes == {"com.microsoft.QuickGelu": 2}
    (want,) = models.session(model).run(None, feeds[0])
    (got,) = models.session(str(path)).run(None, feeds[0])
    assert models.signal_to_noise(want, got) > 30
