"""Multiply-adds of nodes against numbers that were computed by hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import onnx_models as models
import quantcal as qc
from quantcal.onnx._timing.operation_counts import multiply_adds

Shape = tuple[int, ...]


def one(
    op_type: str, x: Shape, *weights: Shape, domain: str = "", **attributes: Any
) -> tuple[onnx.ModelProto, dict[str, Any]]:
    """A model of one node "n", and its sample."""
    names = [f"w{index}" for index in range(len(weights))]
    node = helper.make_node(
        op_type, ["x", *names], ["y"], "n", domain=domain, **attributes
    )
    data = {name: models.random(*s) for name, s in zip(names, weights, strict=True)}
    graph = helper.make_graph(
        [node],
        "one",
        [models.value("x", [f"d{index}" for index in range(len(x))])],
        [models.value("y", None)],
        [onnx.numpy_helper.from_array(array, name) for name, array in data.items()],
    )
    opsets = [helper.make_opsetid("", 17)]
    opsets += [helper.make_opsetid(domain, 1)] if domain else []
    return helper.make_model(graph, opset_imports=opsets, ir_version=8), {
        "x": models.random(*x)
    }


CASES: dict[str, tuple[Callable[[], Any], int]] = {
    # 2 · 6 outputs of 5 × 7 places (padding keeps the size), each 3 · 3 · 3 products
    "Conv": (
        lambda: one("Conv", (2, 3, 5, 7), (6, 3, 3, 3), pads=[1, 1, 1, 1]),
        2 * 6 * 5 * 7 * 27,
    ),
    # stride 2: 2 × 3 places
    "Conv, strides": (
        lambda: one("Conv", (1, 3, 5, 7), (6, 3, 3, 3), strides=[2, 2]),
        6 * 2 * 3 * 27,
    ),
    # each of 8 channels has one filter of 3 × 3
    "depthwise Conv": (
        lambda: one("Conv", (1, 8, 5, 5), (8, 1, 3, 3), group=8),
        8 * 3 * 3 * 9,
    ),
    "Conv of one dimension": (lambda: one("Conv", (1, 4, 10), (2, 4, 3)), 2 * 8 * 12),
    # each of 3 · 4 · 4 inputs meets 5 filters of 2 × 2
    "ConvTranspose": (
        lambda: one("ConvTranspose", (1, 3, 4, 4), (3, 5, 2, 2), strides=[2, 2]),
        3 * 16 * 5 * 4,
    ),
    "MatMul": (lambda: one("MatMul", (2, 7, 6), (6, 5)), 2 * 7 * 6 * 5),
    "MatMul of a vector": (lambda: one("MatMul", (6,), (6, 5)), 6 * 5),
    "MatMul of stacks": (
        lambda: one("MatMul", (3, 1, 4, 6), (2, 6, 5)),
        3 * 2 * 4 * 30,
    ),
    "Gemm": (lambda: one("Gemm", (7, 6), (6, 5), (5,)), 7 * 6 * 5),
    "Gemm, both transposed": (
        lambda: one("Gemm", (6, 7), (5, 6), transA=1, transB=1),
        7 * 6 * 5,
    ),
    # 9 steps of 2 rows, 4 gates of 5 units, each over 3 inputs and 5 states, 2 directions
    "LSTM": (
        lambda: one(
            *("LSTM", (9, 2, 3), (2, 20, 3), (2, 20, 5)),
            hidden_size=5,
            direction="bidirectional",
        ),
        9 * 2 * 2 * 20 * 8,
    ),
    "GRU": (
        lambda: one("GRU", (9, 2, 3), (1, 15, 3), (1, 15, 5), hidden_size=5),
        9 * 2 * 15 * 8,
    ),
    # 4 words of 6 values: 3 projections of 6 · 6, then scores and sums of 4 · 4 · 6 each
    "Attention": (
        lambda: one(
            *("Attention", (1, 4, 6), (6, 18), (18,)),
            domain="com.microsoft",
            num_heads=2,
        ),
        4 * 6 * 18 + 2 * 4 * 4 * 6,
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_a_node_has_the_count_that_was_computed_by_hand(case: str) -> None:
    make, expected = CASES[case]
    model, feed = make()
    assert qc.onnx.count_multiply_adds(model, [feed]) == {"n": expected}


def test_other_operators_and_unknown_shapes_are_missing() -> None:
    model = models.conv_net()
    for number, node in enumerate(model.graph.node):
        node.name = f"n{number}"
    shapes = {"x": (1, 3, 6, 6), "w1": (4, 3, 3, 3), "c1": (1, 4, 4, 4)}
    assert multiply_adds(model, shapes) == {"n0": 64 * 27}


def test_unnamed_nodes_have_the_names_that_quantize_gives_them() -> None:
    found = qc.onnx.count_multiply_adds(
        models.conv_net(), [{"x": models.random(1, 3, 6, 6)}]
    )
    assert found == {"Conv_0": 64 * 27, "Conv_2": 32 * 4}


def test_samples_count_by_their_mean_and_only_the_first_ones() -> None:
    feeds = [{"x": models.random(n, 8)} for n in (2, 4, 100)]
    bias = models.random(5)
    found = qc.onnx.count_multiply_adds(models.gemm_net(bias), feeds, max_samples=2)
    assert found == {"gemm": 3 * 8 * 5}


def test_a_branch_counts_only_where_it_is_taken() -> None:
    feed = {"x": models.random(2, 6), "c": np.array(True)}
    found = qc.onnx.count_multiply_adds(models.if_net(outside=True), [feed])
    assert found == {"first": 72, "a_matmul": 72}


def test_a_loop_counts_each_iteration() -> None:
    body = helper.make_graph(
        [
            helper.make_node("MatMul", ["h", "w"], ["next"], "step"),
            helper.make_node("Identity", ["on"], ["still"], "on"),
        ],
        "body",
        [
            models.value("i", [], TensorProto.INT64),
            models.value("on", [], TensorProto.BOOL),
            models.value("h", ["n", 6]),
        ],
        [models.value("still", [], TensorProto.BOOL), models.value("next", ["n", 6])],
    )
    loop = helper.make_node("Loop", ["count", "", "x"], ["y"], "loop", body=body)
    model = models.build(
        [loop],
        [models.value("x", ["n", 6])],
        [models.value("y", ["n", 6])],
        {"w": models.random(6, 6), "count": np.array(4)},
    )
    found = qc.onnx.count_multiply_adds(model, [{"x": models.random(2, 6)}])
    assert found == {"step": 4 * 72}


@pytest.mark.parametrize(
    ("samples", "changes", "message"),
    [
        ([], {}, "There are no samples to run. Give one or more."),
        ([{"x": models.random(1, 8)}], {"max_samples": 0}, "max_samples is 0. Give a"),
        ([{"z": models.random(1, 8)}], {}, "sample 0 has no input 'x'"),
    ],
)
def test_a_wrong_call_is_refused(samples: Any, changes: Any, message: str) -> None:
    model = models.gemm_net(models.random(5))
    with pytest.raises(qc.CalibrationError, match=message):
        qc.onnx.count_multiply_adds(model, samples, **changes)
