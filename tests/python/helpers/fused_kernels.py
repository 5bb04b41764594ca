"""Small graphs, and the kernels that onnxruntime runs for their quantized forms."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from onnx import helper, numpy_helper

import onnx_models as models
import quantcal as qc
from quantcal.onnx._graph.graph import all_nodes

INTEGER = ("QLinearMatMul", "MatMulIntegerToFloat", "QGemm", "QLinearConv")
FLOAT = ("MatMul", "Gemm", "FusedMatMul", "FusedGemm", "Conv", "FusedConv")

Shape = tuple[Any, ...]


class Net:
    """A graph that grows node by node; each method returns the name of what it adds."""

    def __init__(self, shape: Shape) -> None:
        self.shape = shape
        self.nodes: list[onnx.NodeProto] = []
        self.weights: dict[str, np.ndarray[Any, Any]] = {}

    def weight(self, *shape: int) -> str:
        name = f"w{len(self.weights)}"
        self.weights[name] = models.random(*shape, seed=len(self.weights))
        return name

    def add(self, op_type: str, *inputs: str, **attributes: Any) -> str:
        name = f"t{len(self.nodes)}"
        self.nodes.append(
            helper.make_node(op_type, inputs, [name], f"{name}_", **attributes)
        )
        return name

    def matmul(self, x: str, rows: int = 16, columns: int = 16) -> str:
        return self.add("MatMul", x, self.weight(rows, columns))

    def model(self, *outputs: str) -> onnx.ModelProto:
        graph = helper.make_graph(
            self.nodes,
            "net",
            [models.value("x", self.shape)],
            [models.value(name, None) for name in outputs],
            [numpy_helper.from_array(a, n) for n, a in self.weights.items()],
        )
        opset = [helper.make_opsetid("", 17)]
        model = helper.make_model(graph, opset_imports=opset, ir_version=8)
        return onnx.shape_inference.infer_shapes(model)

    def feeds(self) -> list[dict[str, Any]]:
        sizes = [d if isinstance(d, int) else 3 for d in self.shape]
        return [{"x": models.random(*sizes, seed=n)} for n in range(4)]


def branch(net: Net, first: int, *outputs: str) -> list[str]:
    """Put the nodes from one on into the branch of an If that is always taken."""
    inside = helper.make_graph(
        net.nodes[first:], "then", [], [models.value(name, None) for name in outputs]
    )
    del net.nodes[first:]
    made = [f"else_{name}" for name in outputs]
    other = helper.make_graph(
        [helper.make_node("Relu", ["x"], [name]) for name in made],
        "else",
        [],
        [models.value(name, None) for name in made],
    )
    net.weights["least"] = np.float32(-1e9)
    results = [f"if_{name}" for name in outputs]
    net.nodes += [
        helper.make_node("ReduceMax", ["x"], ["highest"], keepdims=0),
        helper.make_node("Greater", ["highest", "least"], ["on"]),
        helper.make_node("If", ["on"], results, then_branch=inside, else_branch=other),
    ]
    return results


def kernels(path: Path) -> Counter[str]:
    """The operators that onnxruntime runs, in subgraphs too, by its default optimizations."""
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.optimized_model_filepath = str(path.with_suffix(".optimized"))
    ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    saved = onnx.load(options.optimized_model_filepath)
    return Counter(node.op_type for node in all_nodes(saved.graph))


def decibels(model: onnx.ModelProto, path: Path, feeds: list[dict[str, Any]]) -> float:
    first, second = (
        models.session(source).run(None, feeds[0]) for source in (model, str(path))
    )
    noise = sum(float(((a - b) ** 2).sum()) for a, b in zip(first, second, strict=True))
    return 10 * float(np.log10(sum(float((a**2).sum()) for a in first) / noise))


def check(net: Net, model: onnx.ModelProto, path: Path, **options: Any) -> Any:
    """Quantize; every quantized node has its integer kernel, none a float one."""
    result = qc.onnx.quantize(
        model, path, net.feeds(), progress=False, strategy="minmax", **options
    )
    found = kernels(path)
    count = sum(n.op_type in ("MatMul", "Gemm", "Conv") for n in all_nodes(model.graph))
    assert result.left_in_float == {}
    assert sum(result.quantized_nodes.values()) == count
    assert not any(found[kind] for kind in FLOAT), found
    assert sum(found[kind] for kind in INTEGER) == count, found
    assert decibels(model, path, net.feeds()) > 30
    return result
