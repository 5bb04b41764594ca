"""Biases keep their precision, whatever the weights are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper

import onnx_models as models
import quantcal as qc

FORMATS = [
    ("onnxruntime", "uint8"),
    ("onnxruntime", "int8"),
    ("onnxruntime", "uint16"),
    ("onnxruntime", "float8_e4m3fn"),
    ("tensorrt", "int8"),
]


def product(operator: str, weight: float, bias: float) -> onnx.ModelProto:
    """A product whose second channel has weights that are 0 or tiny."""
    shape: list[int | str] = ["n", 6]
    w = models.random(6, 4)
    w[:, 1] = weight
    b = np.full(4, bias, np.float32)
    if operator == "Conv":
        w, shape = np.ascontiguousarray(w.T)[:, :, None], ["n", 6, 5]
    if operator == "MatMul":
        nodes = [
            helper.make_node("MatMul", ["x", "w"], ["h"], "product"),
            helper.make_node("Add", ["h", "b"], ["y"], "sum"),
        ]
    else:
        nodes = [helper.make_node(operator, ["x", "w", "b"], ["y"], "product")]
    y = models.value("y", ["n", 4, *shape[2:]])
    return models.build(nodes, [models.value("x", shape)], [y], {"w": w, "b": b})


@pytest.mark.parametrize("weight", [0, 1e-40, 1e-30])
@pytest.mark.parametrize(("target", "activation"), FORMATS)
@pytest.mark.parametrize("operator", ["Gemm", "MatMul", "Conv"])
def test_a_bias_with_tiny_weights_keeps_its_precision(
    tmp_path: Path, operator: str, target: str, activation: str, weight: float
) -> None:
    """The scale of such weights is arbitrary, and the scale of the bias is a multiple."""
    for size, bias in ((1e5, 1e-2), (1e-3, 1e3), (1.0, 0.25)):
        model = product(operator, weight, bias)
        shape = (8, 6, 5) if operator == "Conv" else (8, 6)
        draws = [models.random(*shape, seed=n) * np.float32(size) for n in range(4)]
        path = tmp_path / "q.onnx"
        qc.onnx.quantize(
            model,
            path,
            [{"x": draw} for draw in draws],
            target=target,
            activation_type=activation,
            strategy="minmax",
            placement="minimal",
            progress=False,
        )
        for exact in (True, False):
            (y,) = models.session(str(path), exact=exact).run(None, {"x": draws[0]})
            if operator == "Conv" and target == "onnxruntime" and "int" in activation:
                continue  # its result is rounded, with one scale for all channels
            np.testing.assert_allclose(y[:, 1], bias, rtol=1e-3)


@pytest.mark.parametrize("activation", ["uint8", "float8_e4m3fn"])
def test_biases_with_weights_in_blocks_stay_in_float(
    tmp_path: Path, activation: str
) -> None:
    model, path = product("Gemm", 0, 0.25), tmp_path / "q.onnx"
    feeds = [{"x": models.random(8, 6, seed=seed)} for seed in range(4)]
    qc.onnx.quantize(
        model,
        path,
        feeds,
        activation_type=activation,
        weight_type="int4",
        progress=False,
        strategy="mse",
    )
    (y,) = models.session(str(path)).run(None, feeds[0])
    np.testing.assert_allclose(y[:, 1], 0.25, rtol=1e-6)


@pytest.mark.parametrize("size", [(5,), (1,), (3, 5)])
@pytest.mark.parametrize("weight", [1, 0])
def test_many_values_can_be_added_to_one_product(
    tmp_path: Path, weight: float, size: tuple[int, ...]
) -> None:
    """A matrix of one column has one scale, whatever its product is added to."""
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["h"], "product"),
        helper.make_node("Add", ["h", "b"], ["y"], "sum"),
    ]
    weights = {"w": weight * models.random(8, 1), "b": models.random(*size, seed=3)}
    x, y = models.value("x", [3, 8]), models.value("y", [3, size[-1]])
    model, path = models.build(nodes, [x], [y], weights), tmp_path / "q.onnx"
    feeds = [{"x": models.random(3, 8, seed=n)} for n in range(3)]
    qc.onnx.quantize(model, path, feeds, progress=False, strategy="mse")
    want, got = (models.session(m).run(None, feeds[0])[0] for m in (model, str(path)))
    np.testing.assert_allclose(got, want, atol=0.1)
