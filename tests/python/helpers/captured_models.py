"""Models in which a body of control flow reads a rounded tensor that was moved.

As a program: quantizes one for each mover, runs it beside the float model, and prints the
mover and the decibels. A crash of onnxruntime ends it, and not the tests.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

import onnx_models as models
import quantcal as qc

MOVES: dict[str, tuple[list[str], dict[str, Any]]] = {
    "Transpose": (["r"], {"perm": [0, 2, 1, 3]}),
    "Reshape": (["r", "shape"], {}),
    "MaxPool": (["r"], {"kernel_shape": [2, 2]}),
    "Squeeze": (["r", "axis"], {}),
    "Unsqueeze": (["r", "axis"], {}),
    "Slice": (["r", "axis", "two", "axis"], {}),
    "Identity": (["r"], {}),
    "Flatten": (["r"], {}),
    "Gather": (["r", "two"], {"axis": 1}),
    "Expand": (["r", "size"], {}),
    "Split": (["r"], {"axis": 1}),
    "DepthToSpace": (["r"], {"blocksize": 2}),
    "SpaceToDepth": (["r"], {"blocksize": 2}),
    "Relu": (["r"], {}),
}
BODIES = ("If", "Loop", "Scan", "nested If", "twice", "MatMul inside")
_INTEGERS = {"shape": [1, 4, -1, 8], "axis": [0], "two": [2], "size": [1, 4, 8, 8]}


def model(move: str, body: str) -> onnx.ModelProto:
    """Conv, then what moves its result, then a body that reads that."""
    inputs, options = MOVES[move]
    outputs = ["m", "other"] if move == "Split" else ["m"]
    nodes = [
        # Computed: onnxruntime takes a branch of a constant condition out of its If.
        helper.make_node("ReduceMax", ["x"], ["largest"], "max", keepdims=0),
        helper.make_node("Less", ["floor", "largest"], ["go"], "less"),
        helper.make_node("Conv", ["x", "w"], ["r"], "conv", pads=[1, 1, 1, 1]),
        helper.make_node(move, inputs, outputs, "move", **options),
    ]
    data = {"w": models.random(4, 4, 3, 3), "v": models.random(8, 8)}
    data |= {name: np.array(value) for name, value in _INTEGERS.items()}
    data |= {"turns": np.array(2), "seed": np.ones(1, np.float32)}
    data["floor"] = np.float32(-1e9)
    data["steps"] = np.ones((3, 1), np.float32)
    if body == "MatMul inside" and move in ("MaxPool", "DepthToSpace", "SpaceToDepth"):
        data["v"] = models.random({"MaxPool": 7, "DepthToSpace": 16}.get(move, 4), 8)
    if body == "MatMul inside" and move == "Flatten":
        data["v"] = models.random(256, 8)
    nodes += _BUILD[body]()
    graph = helper.make_graph(
        nodes,
        "captured",
        [models.value("x", [1, 4, 8, 8])],
        [models.value("y", None)],
        [numpy_helper.from_array(array, name) for name, array in data.items()],
    )
    made = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8
    )
    return onnx.shape_inference.infer_shapes(made)


def _read(output: str, op_type: str = "Sigmoid") -> onnx.NodeProto:
    inputs = ["m", "v"] if op_type == "MatMul" else ["m"]
    return helper.make_node(op_type, inputs, [output], f"{output}_read")


def _branches(*, nested: bool = False, op_type: str = "Sigmoid") -> onnx.NodeProto:
    def branch(name: str) -> onnx.GraphProto:
        node = _read(name, op_type)
        if nested:
            inner = [
                helper.make_graph([_read(n)], n, [], [models.value(n, None)])
                for n in (f"{name}_a", f"{name}_b")
            ]
            node = helper.make_node(
                "If", ["go"], [name], then_branch=inner[0], else_branch=inner[1]
            )
        return helper.make_graph([node], name, [], [models.value(name, None)])

    return helper.make_node(
        "If", ["go"], ["y"], "if", then_branch=branch("yes"), else_branch=branch("no")
    )


def _loop() -> onnx.NodeProto:
    flag = helper.make_tensor_value_info
    body = helper.make_graph(
        [
            _read("inner"),
            helper.make_node("Identity", ["on"], ["still"]),
            helper.make_node("Add", ["state", "state"], ["next"]),
        ],
        "body",
        [
            flag("i", TensorProto.INT64, []),
            flag("on", TensorProto.BOOL, []),
            models.value("state", [1]),
        ],
        [
            flag("still", TensorProto.BOOL, []),
            models.value("next", [1]),
            models.value("inner", None),
        ],
    )
    return helper.make_node(
        "Loop", ["turns", "go", "seed"], ["last", "y"], "loop", body=body
    )


def _scan() -> onnx.NodeProto:
    body = helper.make_graph(
        [_read("inner"), helper.make_node("Add", ["state", "step"], ["next"])],
        "body",
        [models.value("state", [1]), models.value("step", [1])],
        [models.value("next", [1]), models.value("inner", None)],
    )
    return helper.make_node(
        "Scan", ["seed", "steps"], ["last", "y"], "scan", body=body, num_scan_inputs=1
    )


_BUILD: dict[str, Any] = {
    "If": lambda: [_branches()],
    "Loop": lambda: [_loop()],
    "Scan": lambda: [_scan()],
    "nested If": lambda: [_branches(nested=True)],
    # The moved tensor is read in the main graph, too.
    "twice": lambda: [_branches(), helper.make_node("Tanh", ["m"], ["t"])],
    "MatMul inside": lambda: [_branches(op_type="MatMul")],
}


def main(body: str) -> None:
    feeds = [{"x": models.random(1, 4, 8, 8, seed=n)} for n in range(3)]
    for move in MOVES:
        made = model(move, body)
        path = Path(tempfile.mkdtemp()) / "q.onnx"
        qc.onnx.quantize(made, path, feeds, strategy="mse", progress=False)
        float_, codes = (
            models.session(source).run(None, feeds[0])[0]
            for source in (made, str(path))
        )
        noise = float(((float_ - codes) ** 2).sum()) or 1e-30
        print(move, 10 * np.log10(float((float_**2).sum()) / noise), flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
