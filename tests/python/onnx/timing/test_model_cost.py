"""The cost of a whole model: bytes, nodes and multiply-adds against numbers by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

import onnx_models as models
import quantcal as qc
from quantcal.onnx.model_cost import ModelCost, model_bytes


def net() -> onnx.ModelProto:
    """A Conv of 4 filters 3 × 3 × 3, a Gather of a table, and a MatMul behind a transpose."""
    node = onnx.helper.make_node
    nodes = [
        node("Conv", ["x", "w"], ["c"], "conv"),
        node("Reshape", ["c", "rows"], ["r"], "reshape"),
        node("Transpose", ["v"], ["vt"], "turn", perm=[1, 0]),
        node("MatMul", ["r", "vt"], ["m"], "product"),
        node("Gather", ["table", "places"], ["g"], "lookup"),
        node("Add", ["m", "g"], ["y"], "sum"),
    ]
    constants = {
        "w": models.random(4, 3, 3, 3),
        "v": models.random(5, 4),
        "table": models.random(10, 5),
        "rows": np.array([-1, 4], np.int64),
    }
    x = models.value("x", [1, 3, 5, 5])
    places = models.value("places", [1], onnx.TensorProto.INT64)
    return models.build(nodes, [x, places], [models.value("y", [9, 5])], constants)


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path, list[dict[str, np.ndarray]]]:
    model, made = tmp_path / "model.onnx", tmp_path / "int8.onnx"
    onnx.save_model(net(), str(model))
    samples = [
        {"x": models.random(1, 3, 5, 5, seed=seed), "places": np.array([seed])}
        for seed in range(3)
    ]
    qc.onnx.quantize(model, made, samples, strategy="mse", exclude=["product"])
    return model, made, samples


def test_bytes_and_products_are_those_by_hand(
    pair: tuple[Path, Path, list[dict[str, np.ndarray]]],
) -> None:
    cost = qc.onnx.measure_cost(*pair, latency=False)
    products = {"Conv": 4 * 3 * 3 * 27, "MatMul": 9 * 5 * 4, "Gather": 0}
    weights = {"Conv": 4 * 27 * 4, "MatMul": 5 * 4 * 4, "Gather": 10 * 5 * 4}
    assert {k: v.multiply_adds for k, v in cost.operators.items()} == products
    assert {k: v.weight_bytes for k, v in cost.operators.items()} == weights
    nodes = {k: (v.nodes, v.quantized_nodes) for k, v in cost.operators.items()}
    assert nodes == {"Conv": (1, 1), "Gather": (1, 0), "MatMul": (1, 0)}
    total = cost.total()
    assert total.quantized_weight_bytes == weights["Conv"]
    assert total.quantized_multiply_adds == products["Conv"]
    assert cost.float_bytes == pair[0].stat().st_size
    assert cost.quantized_bytes == pair[1].stat().st_size
    assert cost.float_latency is cost.speedup is cost.is_faster is None


def test_a_conv_that_took_over_a_normalization_is_quantized(tmp_path: Path) -> None:
    node = onnx.helper.make_node
    constants = {"w": models.random(4, 3, 3, 3)}
    constants |= {name: np.abs(models.random(4)) + 1 for name in ("s", "b", "m", "v")}
    nodes = [
        node("Conv", ["x", "w"], ["c"], "conv"),
        node("BatchNormalization", ["c", "s", "b", "m", "v"], ["y"], "norm"),
    ]
    x, y = models.value("x", [1, 3, 5, 5]), models.value("y", [1, 4, 3, 3])
    model, made = tmp_path / "model.onnx", tmp_path / "int8.onnx"
    onnx.save_model(models.build(nodes, [x], [y], constants), str(model))
    samples = [{"x": models.random(1, 3, 5, 5)}]
    result = qc.onnx.quantize(model, made, samples, strategy="mse")
    assert result.quantized_nodes == {"Conv": 1}
    cost = qc.onnx.measure_cost(model, made, samples, latency=False)
    assert cost.operators["Conv"].quantized_nodes == 1
    assert cost.total().quantized_multiply_adds == 4 * 3 * 3 * 27


def test_the_loss_is_that_of_evaluate(
    pair: tuple[Path, Path, list[dict[str, np.ndarray]]],
) -> None:
    found = qc.onnx.evaluate(*pair, arithmetics="native")
    cost = qc.onnx.measure_cost(*pair, latency=False)
    assert cost.loss == found.outputs["y"]["native"].loss
    assert cost.loss_samples == 3
    assert cost.loss_verdict == "small"


def test_without_samples_only_sizes_are_known(
    pair: tuple[Path, Path, list[dict[str, np.ndarray]]],
) -> None:
    cost = qc.onnx.measure_cost(*pair[:2])
    assert cost.total().weight_bytes == 432 + 80 + 200
    assert cost.total().multiply_adds == 0
    assert (cost.loss, cost.float_latency, cost.loss_verdict) == (None, None, "")


def test_latency_is_a_median_of_runs_in_turns(
    pair: tuple[Path, Path, list[dict[str, np.ndarray]]],
) -> None:
    cost = qc.onnx.measure_cost(*pair)
    assert 3 <= cost.rounds <= 15
    assert cost.float_latency is not None
    assert cost.quantized_latency is not None
    assert cost.speedup == pytest.approx(
        cost.float_latency.median_ms / cost.quantized_latency.median_ms
    )
    assert cost.machine is not None


@pytest.mark.parametrize(
    ("milliseconds", "faster"),
    [((10.0, 5.0), True), ((10.0, 9.8), False), ((5, 9), False)],
)
def test_a_gain_within_noise_is_none(
    milliseconds: tuple[float, float], faster: bool
) -> None:
    before, after = (qc.onnx.Latency(float(each), 0.1) for each in milliseconds)
    cost = ModelCost(1, 1, {}, float_latency=before, quantized_latency=after)
    assert cost.is_faster is faster
    assert not cost.is_uncertain


def test_a_gain_smaller_than_the_variation_is_uncertain() -> None:
    before, after = qc.onnx.Latency(10.0, 6.0), qc.onnx.Latency(5.0, 1.0)
    cost = ModelCost(1, 1, {}, float_latency=before, quantized_latency=after)
    assert cost.is_uncertain
    assert cost.is_faster is False


@pytest.mark.parametrize(
    ("loss", "word"),
    [(0.0, "small"), (0.01, "small"), (0.05, "noticeable"), (0.5, "large")],
)
def test_a_loss_has_a_verdict(loss: float, word: str) -> None:
    assert ModelCost(1, 1, {}, loss=loss).loss_verdict == word


def test_weights_beside_a_model_count_whatever_their_name(tmp_path: Path) -> None:
    model, weights = tmp_path / "model.onnx", tmp_path / "model.onnx_data"
    onnx.save_model(
        net(),
        str(model),
        save_as_external_data=True,
        location=weights.name,
        size_threshold=0,
    )
    whole = model.stat().st_size + weights.stat().st_size
    cost = qc.onnx.measure_cost(model, model)
    assert (cost.float_bytes, cost.quantized_bytes) == (whole, whole)
    link = tmp_path / "elsewhere" / "link.onnx"
    link.parent.mkdir()
    link.symlink_to(model)
    assert model_bytes(link) == whole
