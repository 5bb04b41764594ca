"""Small ONNX models, made in memory, for the tests of quantcal.onnx."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

from quantcal.onnx._graph.nested_scopes import scopes

RNG_SEED = 7
Arrays = dict[str, np.ndarray[Any, Any]]


def random(*shape: int, seed: int = RNG_SEED) -> np.ndarray[Any, Any]:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def value(name: str, shape: Sequence[Any] | None, kind: int = TensorProto.FLOAT) -> Any:
    return helper.make_tensor_value_info(name, kind, shape)


def build(
    nodes: Sequence[onnx.NodeProto],
    inputs: Sequence[Any],
    outputs: Sequence[Any],
    weights: Arrays,
    *,
    opset: int = 17,
    ir: int = 8,
) -> onnx.ModelProto:
    made = [numpy_helper.from_array(array, name) for name, array in weights.items()]
    graph = helper.make_graph(list(nodes), "small", list(inputs), list(outputs), made)
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=ir
    )
    onnx.checker.check_model(model)
    return model


def conv_net(*, opset: int = 17, ir: int = 8) -> onnx.ModelProto:
    """Conv → Relu → Conv over [any, 3, any, any]; the nodes have no names."""
    weights = {
        "w1": random(4, 3, 3, 3),
        "b1": random(4, seed=1),
        "w2": random(2, 4, 1, 1, seed=2),
    }
    nodes = [
        helper.make_node("Conv", ["x", "w1", "b1"], ["c1"]),
        helper.make_node("Relu", ["c1"], ["r1"]),
        helper.make_node("Conv", ["r1", "w2"], ["y"]),
    ]
    image = value("x", ["n", 3, "h", "w"])
    inputs = [image]
    if ir < 4:  # weights had to be inputs then
        inputs += [value(name, array.shape) for name, array in weights.items()]
    return build(
        nodes, inputs, [value("y", ["n", 2, "i", "j"])], weights, opset=opset, ir=ir
    )


def gemm_net(
    bias: np.ndarray[Any, Any], *, opset: int = 17, **attributes: Any
) -> onnx.ModelProto:
    """One Gemm [any, 8] → [any, 5]."""
    shape = (5, 8) if attributes.get("transB") else (8, 5)
    node = helper.make_node("Gemm", ["x", "w", "b"], ["y"], "gemm", **attributes)
    weights = {"w": random(*shape), "b": bias}
    return build(
        [node], [value("x", ["n", 8])], [value("y", ["n", 5])], weights, opset=opset
    )


def batch_norm_net(*, opset: int = 17, shared: bool = False) -> onnx.ModelProto:
    """Conv (weights from a Constant node) → BatchNormalization → Relu.

    With ``shared`` a second Conv reads the same weights, without BatchNormalization.
    """
    constant = helper.make_node(
        "Constant",
        [],
        ["w"],
        "weights",
        value=numpy_helper.from_array(random(4, 3, 3, 3)),
    )
    norm = {
        "gain": np.abs(random(4, seed=3)) + 0.5,
        "shift": random(4, seed=4),
        "mean": random(4, seed=5),
        "var": np.abs(random(4, seed=6)) + 0.5,
    }
    nodes = [
        constant,
        helper.make_node("Conv", ["x", "w"], ["c"], "conv"),
        helper.make_node("BatchNormalization", ["c", *norm], ["n"], "norm"),
        helper.make_node("Relu", ["n"], ["y"], "relu"),
    ]
    outputs = [value("y", [1, 4, "i", "j"])]
    if shared:
        nodes.append(helper.make_node("Conv", ["x", "w"], ["z"], "other"))
        outputs.append(value("z", [1, 4, "i", "j"]))
    return build(nodes, [value("x", [1, 3, "h", "w"])], outputs, norm, opset=opset)


def if_net(*, outside: bool = False) -> onnx.ModelProto:
    """Two MatMul in the branches of an If, which capture ``h`` and the weight ``w``.

    With ``outside`` a third one before it, whose output the branches capture.
    """

    def branch(name: str) -> onnx.GraphProto:
        node = helper.make_node("MatMul", ["h", "w"], [name], f"{name}_matmul")
        return helper.make_graph([node], name, [], [value(name, None)])

    first = helper.make_node(
        *(("MatMul", ["x", "w"], ["h"], "first") if outside else ("Relu", ["x"], ["h"]))
    )
    choose = helper.make_node(
        "If", ["c"], ["y"], "if", then_branch=branch("a"), else_branch=branch("b")
    )
    inputs = [value("x", ["n", 6]), value("c", [], TensorProto.BOOL)]
    return build([first, choose], inputs, [value("y", ["n", 6])], {"w": random(6, 6)})


def residual(*, gated: bool = False) -> onnx.ModelProto:
    """Conv → ReLU, then Conv → Conv beside a shortcut, their sum, ReLU.

    ``gated`` puts a Sigmoid into the shortcut, which no Conv reads.
    """
    data = {f"w{k}": random(4, 4, 1, 1, seed=k) for k in range(3)}
    nodes = [
        helper.make_node("Conv", ["x", "w0"], ["a"], "conv0"),
        helper.make_node("Relu", ["a"], ["r"], "relu0"),
        helper.make_node("Conv", ["r", "w1"], ["b"], "conv1"),
        helper.make_node("Relu", ["b"], ["s"], "relu1"),
        helper.make_node("Conv", ["s", "w2"], ["c"], "conv2"),
        helper.make_node("Add", ["c", "g" if gated else "r"], ["t"], "sum"),
        helper.make_node("Relu", ["t"], ["y"], "relu2"),
    ]
    if gated:
        nodes.insert(2, helper.make_node("Sigmoid", ["r"], ["g"], "gate"))
    shape = ["n", 4, "h", "w"]
    return build(nodes, [value("x", shape)], [value("y", shape)], data)


HOLDERS = ("Constant", "numbers", "Identity", "Identity of Constant")
"""What may hold a weight instead of an initializer."""


def hold(model: onnx.ModelProto, how: str) -> onnx.ModelProto:
    """Return a copy in which nodes hold what initializers held, in subgraphs too.

    "numbers" are plain numbers as attributes where the shape allows it.
    """
    made = onnx.ModelProto()
    made.CopyFrom(model)
    for scope in scopes(made.graph):
        tensors = list(scope.initializer)
        del scope.initializer[:]
        for tensor in reversed(tensors):
            name, source = tensor.name, f"{tensor.name}_held"
            values = numpy_helper.to_array(tensor)
            plain = how == "numbers" and values.dtype == np.float32 and values.ndim < 2
            if plain:
                key = "value_floats" if values.ndim else "value_float"
                options = {key: values.tolist()}
            else:
                options = {"value": tensor}
            if how.startswith("Identity"):
                scope.node.insert(0, helper.make_node("Identity", [source], [name]))
                name = source
            if how == "Identity":
                kept = numpy_helper.from_array(values, source)
                scope.initializer.append(kept)
            else:
                node = helper.make_node("Constant", [], [name], **options)
                scope.node.insert(0, node)
    onnx.checker.check_model(made)
    return made


def session(
    model: onnx.ModelProto | str, *, exact: bool = False
) -> ort.InferenceSession:
    """A plain session; ``exact`` computes Q/DQ in float, not with integer kernels."""
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    if not exact:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    source = model if isinstance(model, str) else model.SerializeToString()
    return ort.InferenceSession(source, options, providers=["CPUExecutionProvider"])


def save_optimized(source: Path, target: Path) -> None:
    """Write the graph that onnxruntime runs for a model."""
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.optimized_model_filepath = str(target)
    ort.InferenceSession(str(source), options, providers=["CPUExecutionProvider"])


def outputs(model: onnx.ModelProto, feed: Arrays, names: Sequence[str]) -> list[Any]:
    """The oracle: what a plain session returns for these tensors."""
    wide = onnx.ModelProto()
    wide.CopyFrom(model)
    del wide.graph.output[:]
    wide.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    return list(session(wide, exact=True).run(list(names), feed))


def signal_to_noise(want: np.ndarray[Any, Any], got: np.ndarray[Any, Any]) -> float:
    """Signal to noise in decibels."""
    noise = np.mean((want - got).astype(np.float64) ** 2)
    return float(10 * np.log10(np.mean(want.astype(np.float64) ** 2) / noise))
