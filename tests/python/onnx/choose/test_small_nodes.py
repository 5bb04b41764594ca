"""Small nodes that auto leaves in float: confirmed, remembered, and repeated."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import onnx_models as models
import planted_models as planted
import quantcal as qc
from quantcal.onnx._choose.loss_gains import gains
from quantcal.onnx._choose.small_nodes import share_factor

FREE = qc.Auto(float_share=1.0)
WIDE = 64


def repeated(folder: Path, model: onnx.ModelProto, feeds: Any, **options: Any) -> Any:
    """Quantize, repeat the run from its options, and compare the bytes."""
    first, again, config = (folder / name for name in ("a.onnx", "b.onnx", "c.toml"))
    result = qc.onnx.quantize(model, first, feeds, progress=False, **options)
    result.save_config(config)
    chosen = qc.onnx.read_config(config)
    qc.onnx.quantize(model, again, feeds, progress=False, **chosen)
    assert again.read_bytes() == first.read_bytes()
    return result


@pytest.mark.parametrize(
    "options",
    [
        {"strategy": FREE},
        {"strategy": {"h2": "minmax", "*": FREE}},
        {"strategy": {"node:layer3": "minmax", "*": FREE}},
        {"strategy": FREE, "activation_formats": {"h2": "int8"}},
        {"strategy": FREE, "activation_formats": {"node:layer3": "int8"}},
        {"strategy": FREE, "weight_formats": {"w3": "uint8"}},
    ],
    ids=str,
)
def test_rules_for_what_stays_in_float_do_not_hinder_a_repetition(
    options: dict[str, Any], tmp_path: Path
) -> None:
    model = planted.mlp(guilty=2)
    result = repeated(tmp_path, model, planted.feeds(12), **options)
    assert "layer3" in result.choice.exclude
    assert result.choice.loss_excluded < 0.9 * result.choice.loss_before_exclude


def test_a_branch_that_no_sample_takes_stays_in_float_beside_an_excluded_node(
    tmp_path: Path,
) -> None:
    def branch(name: str) -> onnx.GraphProto:
        nodes = [
            helper.make_node("MatMul", ["h", "w1"], [f"{name}1"], f"{name}_first"),
            helper.make_node("Relu", [f"{name}1"], [f"{name}2"], f"{name}_relu"),
            helper.make_node("MatMul", [f"{name}2", "w2"], [name], f"{name}_last"),
        ]
        return helper.make_graph(nodes, name, [], [models.value(name, ["n", WIDE])])

    nodes = [
        helper.make_node("MatMul", ["x", "w0"], ["h0"], "first"),
        helper.make_node("Relu", ["h0"], ["h"], "relu"),
        helper.make_node(
            "If", ["c"], ["y0"], "if", then_branch=branch("a"), else_branch=branch("b")
        ),
        helper.make_node("MatMul", ["y0", "w3"], ["y"], "head"),
    ]
    weights = {f"w{k}": models.random(WIDE, WIDE, seed=k) for k in range(3)}
    weights["w3"] = models.random(WIDE, 2, seed=3)
    inputs = [models.value("x", ["n", WIDE]), models.value("c", [], TensorProto.BOOL)]
    model = models.build(nodes, inputs, [models.value("y", ["n", 2])], weights)
    feeds = [
        {"x": models.random(4, WIDE, seed=k), "c": np.array(True)} for k in range(12)
    ]
    result = repeated(tmp_path, model, feeds)
    assert sum(result.quantized_nodes.values()) == 5 - len(result.choice.exclude)
    assert qc.onnx.advise(model, feeds, progress=False).loss > 0


def test_a_model_that_loses_nothing_keeps_all_its_nodes(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["h"], "layer0"),
        helper.make_node("Relu", ["h"], ["r"], "relu"),
        helper.make_node("MatMul", ["r", "v"], ["s"], "layer1"),
        helper.make_node("ArgMax", ["s"], ["y"], "best", axis=1),
    ]
    weights = {"w": 4 * np.eye(8, dtype=np.float32), "v": np.eye(8, dtype=np.float32)}
    shapes = models.value("x", ["n", 8]), models.value("y", ["n", 1], TensorProto.INT64)
    model = models.build(nodes, shapes[:1], shapes[1:], weights)
    feeds = [
        {"x": np.eye(8, dtype=np.float32)[[k % 8]] + np.float32(0.1)} for k in range(16)
    ]
    result = repeated(tmp_path, model, feeds, strategy=FREE)
    assert result.choice.loss == 0
    assert result.choice.exclude == ()
    assert result.choice.biases is None


def test_tune_reports_the_nodes_that_auto_leaves_in_float(tmp_path: Path) -> None:
    model = planted.mlp(guilty=2)
    result = qc.onnx.tune(
        model,
        tmp_path / "t.onnx",
        planted.feeds(20),
        max_drop="1%",
        strategy=FREE,
        times=planted.times(model),
        progress=False,
    )
    assert "layer3" in result.exclude
    assert sum(result.written.quantized_nodes.values()) == 6 - len(result.exclude)


@pytest.mark.parametrize("seed", [2, 4, 5, 6])
def test_the_ranges_of_all_samples_decide_between_equals(
    seed: int, tmp_path: Path
) -> None:
    """Each wide sample is judged with ranges that lack it, which hides that KL is bad.

    In these orders KL has the smallest loss by folds.
    """
    model = planted.mlp(layers=4, seed=4)
    rng = np.random.default_rng(9)
    feeds = []
    for number in range(16):
        x = rng.standard_normal((4, 8)) * (1 if number % 4 else 5)
        feeds.append({"x": x.astype(np.float32)})
    order = np.random.default_rng(seed).permutation(16)
    mixed = [feeds[number] for number in order]
    path = tmp_path / "q.onnx"
    chosen = qc.Auto(float_share=0)
    result = qc.onnx.quantize(model, path, mixed, strategy=chosen, progress=False)
    assert min(result.choice.losses, key=lambda each: each.loss).strategy == "kl"
    assert result.choice.strategy != "kl"


@pytest.mark.parametrize(
    ("share", "stays"), [(0.05, True), (0.03, False), (0.0, False)]
)
def test_the_share_in_float_grows_with_the_gain_up_to_four_times(
    share: float, stays: bool, tmp_path: Path
) -> None:
    """The guilty layer has more multiply-adds than the share, and fewer than four times."""
    model = planted.mlp(guilty=2)
    counts = qc.onnx.count_multiply_adds(model, planted.feeds(1))
    guilty = counts["layer3"] / sum(counts.values())
    assert 4 * 0.03 < guilty < 4 * 0.05
    chosen = qc.Auto(float_share=share)
    path = tmp_path / "q.onnx"
    result = qc.onnx.quantize(
        model, path, planted.feeds(12), strategy=chosen, progress=False
    )
    assert ("layer3" in result.choice.exclude) == stays


@pytest.mark.parametrize(
    ("before", "after", "factor"),
    [(1.0, 0.8, 1.25), (1.0, 0.01, 4.0), (1.0, 0.0, 4.0), (0.2, -0.1, 4.0), (1, 2, 1)],
)
def test_the_factor_of_a_gain(before: float, after: float, factor: float) -> None:
    assert share_factor(before, after) == pytest.approx(factor)


def test_a_gain_is_a_share_of_the_loss_before() -> None:
    assert gains(1.0, 0.9, 0.1)
    assert not gains(1.0, 0.91, 0.1)
    assert not gains(0.0, 0.0, 0.1)
    assert not gains(-2.0, -2.0, 0.1)
    assert not gains(-2.0, -2.1, 0.1)
    assert gains(-2.0, -2.3, 0.1)
    assert gains(float("inf"), 1.0, 0.1)
    assert not gains(float("inf"), float("inf"), 0.1)
    assert not gains(1.0, float("nan"), 0.1)
