"""Quantize a small ONNX network and run both versions in onnxruntime.

Needs `pip install "quantcal[onnx]"`.
"""

import tempfile
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

import quantcal as qc

rng = np.random.default_rng(0)


def network() -> onnx.ModelProto:
    """Return two layers with the weights of a trained network's size."""
    weights = {
        "w1": rng.normal(scale=0.2, size=(32, 64)),
        "w2": rng.normal(scale=0.2, size=(64, 10)),
    }
    nodes = [
        helper.make_node("MatMul", ["x", "w1"], ["h"], name="first"),
        helper.make_node("Relu", ["h"], ["r"], name="relu"),
        helper.make_node("MatMul", ["r", "w2"], ["y"], name="second"),
    ]
    graph = helper.make_graph(
        nodes,
        "network",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 32])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 10])],
        [numpy_helper.from_array(w.astype(np.float32), n) for n, w in weights.items()],
    )
    opset = [helper.make_opsetid("", 17)]
    return helper.make_model(graph, opset_imports=opset, ir_version=8)


def samples(count: int) -> list[dict[str, np.ndarray]]:
    """Return batches of inputs; real ones would be loaded from disk."""
    return [
        {"x": rng.standard_normal((16, 32), dtype=np.float32)} for _ in range(count)
    ]


def run(path: Path, feeds: dict[str, np.ndarray]) -> np.ndarray:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return session.run(None, feeds)[0]


with tempfile.TemporaryDirectory() as name:
    source, target = Path(name) / "network.onnx", Path(name) / "network.int8.onnx"
    onnx.save(network(), source)
    result = qc.onnx.quantize(source, target, samples(50), strategy="mse")
    (unseen,) = samples(1)
    expected, got = run(source, unseen), run(target, unseen)
    operators = [node.op_type for node in onnx.load(target).graph.node]

for tensor, params in result.table.items():
    print(f"{tensor}: scale {params.scale:.4f}, zero point {params.zero_point}")
print(f"QuantizeLinear nodes: {operators.count('QuantizeLinear')}")
noise = np.sqrt(np.mean((got - expected) ** 2) / np.mean(expected**2))
print(f"error of the outputs: {noise:.1%} of their RMS")
agree = np.mean(got.argmax(axis=1) == expected.argmax(axis=1))
print(f"same class: {agree:.0%}")
