"""A node counts as quantized only if something that it reads or writes has codes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper

import onnx_models as models
import quantcal as qc
from fused_kernels import Net

REASON = "without a tensor to round or a weight to code"


@pytest.mark.parametrize("operator", ["Clip", "Reshape", "Squeeze", "Split"])
def test_limits_and_shapes_are_not_weights(tmp_path: Path, operator: str) -> None:
    net = Net((4, 1, 16))
    h = net.matmul("x")
    if operator == "Clip":
        y = net.add("Clip", h, net.weight(), net.weight())
    else:
        sizes = {"Reshape": [4, 16], "Squeeze": [1], "Split": [16]}
        net.weights["sizes"] = np.array(sizes[operator])
        y = net.add(
            operator, h, "sizes", **({"axis": 2} if operator == "Split" else {})
        )
    result = qc.onnx.quantize(
        net.model(y),
        tmp_path / "q.onnx",
        activation_type="none",
        op_types=["MatMul", operator],
        progress=False,
    )
    assert result.quantized_nodes == {"MatMul": 1}
    assert sum(result.left_in_float.values()) == 1


def test_a_node_without_float_inputs_and_rounded_outputs_stays_in_float(
    tmp_path: Path,
) -> None:
    net = Net((4, 16))
    h = net.add("Cast", net.matmul("x"), to=TensorProto.DOUBLE)
    y = net.add("Cast", h, to=TensorProto.FLOAT)
    result = qc.onnx.quantize(
        net.model(y),
        tmp_path / "q.onnx",
        net.feeds(),
        activation_type="float8_e4m3fn",
        placement="stock",
        op_types=["MatMul", "Cast"],
        progress=False,
        strategy="mse",
    )
    assert result.left_in_float[REASON] == 1


def test_an_upsample_that_becomes_a_resize_is_still_chosen(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], "conv"),
        helper.make_node("Upsample", ["c", "s"], ["y"], "up", mode="nearest"),
    ]
    weights = {
        "w": models.random(4, 4, 1, 1),
        "s": np.array([1, 1, 2, 2], np.float32),
    }
    x, y = models.value("x", [1, 4, 5, 5]), models.value("y", [1, 4, 10, 10])
    result = qc.onnx.quantize(
        models.build(nodes, [x], [y], weights, opset=9),
        tmp_path / "q.onnx",
        [{"x": models.random(1, 4, 5, 5, seed=n)} for n in range(4)],
        op_types=["Conv", "Upsample"],
        progress=False,
        strategy="mse",
    )
    assert result.quantized_nodes == {"Conv": 1, "Resize": 1}
