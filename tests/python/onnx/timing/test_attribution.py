"""Attribution of kernels' times, on profiles that were made up: no time is lost or doubled."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import helper

import onnx_models as models
import quantcal as qc
from quantcal.onnx._timing.attribution import share_kernels
from quantcal.onnx._timing.groups import FloatGraph, claim_products, group_nodes
from quantcal.onnx._timing.profile import Kernel, read_runs, times_of
from quantcal.onnx._timing.rounds import ModelRounds, compare_rounds


def graph() -> Any:
    """conv → relu → mul → matmul → softmax."""
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], "conv"),
        helper.make_node("Relu", ["c"], ["r"], "relu"),
        helper.make_node("Mul", ["r", "s"], ["m"], "mul"),
        helper.make_node("MatMul", ["m", "v"], ["p"], "matmul"),
        helper.make_node("Softmax", ["p"], ["y"], "softmax"),
    ]
    value = models.value
    return helper.make_graph(nodes, "g", [value("x", None)], [value("y", None)])


COUNTS = {"conv": 300, "matmul": 100}


def rounds(kernels: list[Kernel], claims: Any, *times: dict[str, float]) -> ModelRounds:
    held = {name: frozenset(nodes) for name, nodes in claims.items()}
    named = {kernel.name: kernel for kernel in kernels}
    return ModelRounds(
        named, {name: held.get(name, frozenset()) for name in named}, list(times)
    )


# As onnxruntime runs it in float: a Conv named after the Relu, in its own layout.
FLOAT = [
    Kernel("in", "com.microsoft.nchwc.ReorderInput", ("x",), ("x1",)),
    Kernel("relu_nchwc", "com.microsoft.nchwc.Conv", ("x1",), ("r1",)),
    Kernel("out", "com.microsoft.nchwc.ReorderOutput", ("r1",), ("r",)),
    Kernel("mul", "Mul", ("r",), ("m",)),
    Kernel("matmul", "MatMul", ("m",), ("p",)),
    Kernel("softmax", "Softmax", ("p",), ("y",)),
]
FLOAT_CLAIMS = {
    "relu_nchwc": ["relu"],
    "mul": ["mul"],
    "matmul": ["matmul"],
    "softmax": ["softmax"],
}
INTEGER = [
    Kernel("q", "QuantizeLinear", ("x",), ("xq",)),
    Kernel("t", "Transpose", ("xq",), ("xt",)),
    Kernel("conv", "com.microsoft.QLinearConv", ("xt",), ("cq",)),
    Kernel("dq", "DequantizeLinear", ("cq",), ("r",)),
    Kernel("mul", "Mul", ("r",), ("m",)),
    Kernel("mq", "QuantizeLinear", ("m",), ("mq",)),
    Kernel("matmul", "com.microsoft.MatMulIntegerToFloat", ("mq",), ("p",)),
    Kernel("softmax", "Softmax", ("p",), ("y",)),
]
INTEGER_CLAIMS = {
    "conv": ["conv"],
    "mul": ["mul"],
    "matmul": ["matmul"],
    "softmax": ["softmax"],
}
QUANTIZED = {"conv": "", "matmul": ""}


def compare(first: ModelRounds, second: ModelRounds) -> Any:
    return compare_rounds(graph(), COUNTS, QUANTIZED, first, second)


def test_each_kernel_counts_where_it_belongs() -> None:
    one = {"in": 1, "relu_nchwc": 10, "out": 2, "mul": 3, "matmul": 20, "softmax": 4}
    other = {"q": 1, "t": 2, "conv": 5, "dq": 3, "mul": 3, "mq": 4, "matmul": 10}
    first = rounds(FLOAT, FLOAT_CLAIMS, *[{k: float(v) for k, v in one.items()}] * 4)
    times = {k: float(v) for k, v in other.items()} | {"softmax": 4.0}
    second = rounds(INTEGER, INTEGER_CLAIMS, *[times] * 4)
    nodes, others = compare(first, second)
    assert others == (0.0, 0.0)
    found = {
        name: (n.float_ms, n.integer_ms, n.conversion_ms, n.fused)
        for name, n in nodes.items()
    }
    assert found == {
        "conv": (1 + 10 + 2, 1 + 2 + 5 + 3, 1 + 2 + 3, ("relu",)),
        "mul": (3, 3, 0, ()),
        "matmul": (20, 10 + 4, 4, ()),
        "softmax": (4, 4, 0, ()),
    }
    assert [n.kernel for n in nodes.values()] == [
        *("QLinearConv", "Mul", "MatMulIntegerToFloat", "Softmax")
    ]
    assert nodes["conv"].float_kernel == "Conv"
    assert [n.reason for n in nodes.values()] == [
        "",
        "left in float",
        "",
        "left in float",
    ]
    assert nodes["matmul"].multiply_adds == 100


TIMES = st.integers(0, 1000).map(float)


@given(st.data())
def test_the_parts_of_a_round_add_up_to_its_kernels(data: st.DataObject) -> None:
    nodes = FloatGraph(graph(), COUNTS)
    names = sorted(nodes.order)
    kernels = {k.name: k for k in INTEGER}
    drawn = st.frozensets(st.sampled_from(names), max_size=3)
    claims = {
        name: frozenset() if kernel.is_conversion else data.draw(drawn)
        for name, kernel in kernels.items()
    }
    claims = claim_products(kernels, claims, nodes)
    groups = group_nodes(nodes, claims, {"other": data.draw(drawn)})
    preferred = data.draw(drawn)
    shares = share_kernels(kernels, claims, groups, nodes, preferred)
    times = {name: data.draw(TIMES) for name in kernels}
    whole, converting, other = shares.divide(times)
    assert sum(whole.values()) + other == pytest.approx(sum(times.values()))
    assert all(converting[name] <= whole[name] + 1e-9 for name in converting)
    assert all(nodes.order[groups[name]] <= nodes.order[name] for name in names)


def test_medians_and_wins_are_taken_over_rounds() -> None:
    first = rounds(FLOAT, FLOAT_CLAIMS, *[{"matmul": t} for t in (5.0, 6.0, 7.0, 90.0)])
    second = rounds(
        INTEGER, INTEGER_CLAIMS, *[{"matmul": t} for t in (4.0, 7.0, 5.0, 80.0)]
    )
    node = compare(first, second)[0]["matmul"]
    assert (node.float_ms, node.integer_ms) == (6.5, 6.0)
    assert node.rounds_won == 0.75  # 1, -1, 2 and 10 milliseconds
    assert node.spread_ms == pytest.approx((4.0 - 0.5) / 2)


def test_a_kernel_of_two_products_is_shared_by_their_multiply_adds() -> None:
    both = [Kernel("both", "Fused", ("x",), ("y",))]
    first = rounds(both, {"both": ["conv", "relu", "matmul"]}, {"both": 8.0})
    second = rounds(INTEGER, INTEGER_CLAIMS, {"conv": 1.0, "mul": 2.0, "matmul": 3.0})
    nodes, _ = compare(first, second)
    assert (nodes["conv"].float_ms, nodes["matmul"].float_ms) == (6.0, 2.0)
    # The Mul between them is inside the float kernel, so it is shared alike.
    assert (nodes["conv"].integer_ms, nodes["matmul"].integer_ms) == (2.5, 3.5)
    assert nodes["conv"].fused == ("relu", "mul")


def test_what_two_products_need_is_shared_in_equal_parts() -> None:
    kernels = [
        Kernel("q", "QuantizeLinear", ("x",), ("xq",)),
        Kernel("move", "Transpose", ("xq",), ("xt",), on_codes=True),
        Kernel("a", "com.microsoft.QLinearConv", ("xt",), ("y",)),
        Kernel("b", "com.microsoft.MatMulIntegerToFloat", ("xq",), ("z",)),
    ]
    claims = {"a": ["conv"], "b": ["matmul"], "move": ["mul"]}
    times = {"q": 4.0, "move": 1.0, "a": 1.0, "b": 1.0}
    first = rounds(FLOAT, FLOAT_CLAIMS, {})
    nodes, _ = compare(first, rounds(kernels, claims, times))
    found = {name: n.integer_ms for name, n in nodes.items()}
    assert found == {"conv": 3.0, "matmul": 3.0, "mul": 1.0}


def test_a_bound_that_only_float_computes_belongs_to_the_product_before_it() -> None:
    """Without this, a Relu that a rounding replaces would count for the node behind it."""
    kernels = [
        Kernel("conv", "Conv", ("x",), ("c",)),
        Kernel("relu", "Relu", ("c",), ("r",)),
    ]
    first = rounds(
        kernels, {"conv": ["conv"], "relu": ["relu"]}, {"conv": 5.0, "relu": 2.0}
    )
    nodes, _ = compare(first, rounds(INTEGER, INTEGER_CLAIMS, {"conv": 1.0}))
    assert nodes["conv"].float_ms == 7.0
    assert nodes["conv"].fused == ("relu",)


def groups(edges: dict[str, tuple[str, list[str]]], *models: Any) -> dict[str, str]:
    """Groups of a graph that is given as node → (operator, inputs)."""
    nodes = [
        helper.make_node(kind, inputs, [name], name)
        for name, (kind, inputs) in edges.items()
    ]
    counts = {name: 1 for name, (kind, _) in edges.items() if kind == "Conv"}
    float_graph = FloatGraph(helper.make_graph(nodes, "g", [], []), counts)
    claims = [{n: frozenset(held) for n, held in model.items()} for model in models]
    return group_nodes(float_graph, *claims)


BLOCK = {
    "one": ("Conv", ["x"]),
    "two": ("Conv", ["one"]),
    "sum": ("Add", ["two", "one"]),
    "relu": ("Relu", ["sum"]),
    "next": ("Conv", ["relu"]),
}


def test_a_sum_without_its_mark_belongs_to_the_conv_that_only_it_reads() -> None:
    """The kernel of conv, sum and Relu is named after the conv alone."""
    found = groups(
        BLOCK,
        {"a": ["one"], "b": ["two"], "c": ["next"]},
        {"a": ["one"], "b": ["two"], "s": ["sum"], "r": ["relu"], "c": ["next"]},
    )
    assert found == {
        "one": "one",
        "two": "two",
        "sum": "two",
        "relu": "two",
        "next": "next",
    }


def test_a_relu_that_a_rounding_replaces_belongs_to_the_sum_before_it() -> None:
    found = groups(
        BLOCK,
        {"a": ["one"], "b": ["two"], "s": ["sum"], "r": ["relu"], "c": ["next"]},
        {"a": ["one"], "b": ["two"], "s": ["sum"], "c": ["next"]},
    )
    assert (found["relu"], found["sum"], found["next"]) == ("sum", "sum", "next")


def test_parts_of_an_operator_belong_to_the_kernel_that_has_its_result() -> None:
    """A Gelu is named after its last node; the nodes inside have no mark."""
    edges = {
        "conv": ("Conv", ["x"]),
        "erf": ("Erf", ["conv"]),
        "half": ("Mul", ["conv", "erf"]),
        "next": ("Conv", ["half"]),
    }
    found = groups(
        edges,
        {"a": ["conv"], "gelu": ["half"], "c": ["next"]},
        {"a": ["conv"], "e": ["erf"], "m": ["half"], "c": ["next"]},
    )
    assert found == {"conv": "conv", "erf": "erf", "half": "erf", "next": "next"}


TWO = {
    "one": ("Conv", ["x"]),
    "mul": ("Mul", ["one"]),
    "two": ("Conv", ["mul"]),
}


def test_two_products_are_joined_by_no_guess() -> None:
    """The Mul is in the first kernel; the other model does not say where it has gone."""
    found = groups(
        TWO, {"a": ["one", "mul"], "b": ["two"]}, {"a": ["one"], "b": ["two"]}
    )
    assert found == {"one": "one", "mul": "one", "two": "two"}


def test_a_sum_of_two_products_belongs_to_the_later_one() -> None:
    edges = {
        "one": ("Conv", ["x"]),
        "two": ("Conv", ["x"]),
        "sum": ("Add", ["one", "two"]),
    }
    found = groups(
        edges, {"a": ["one"], "b": ["two"]}, {"a": ["one"], "b": ["two"], "c": ["sum"]}
    )
    assert found == {"one": "one", "two": "two", "sum": "two"}


def test_the_conv_is_found_from_a_kernel_that_is_named_after_its_relu() -> None:
    """Both models have a kernel of the Relu's name, only one of the Conv's."""
    kernels = [*INTEGER, Kernel("relu", "Relu", ("r",), ("r2",))]
    claims = {**INTEGER_CLAIMS, "relu": ["relu"]}
    first = rounds(FLOAT, FLOAT_CLAIMS, {"relu_nchwc": 9.0})
    nodes, _ = compare(first, rounds(kernels, claims, {"conv": 2.0, "relu": 1.0}))
    assert (nodes["conv"].float_ms, nodes["conv"].integer_ms) == (9.0, 3.0)
    assert nodes["conv"].kernel == "QLinearConv + Relu"


def test_a_change_of_layout_is_for_the_kernel_with_that_layout() -> None:
    """Not for a node beside it that is quantized in the other model."""
    first = rounds(FLOAT, FLOAT_CLAIMS, {"out": 2.0, "mul": 1.0})
    second = rounds(INTEGER, INTEGER_CLAIMS, {"conv": 1.0})
    nodes, _ = compare_rounds(graph(), COUNTS, {"mul": ""}, first, second)
    assert (nodes["conv"].float_ms, nodes["mul"].float_ms) == (2.0, 1.0)


def test_kernels_without_a_node_beside_them_are_other_time() -> None:
    first = rounds(FLOAT, FLOAT_CLAIMS, {})
    lone = [Kernel("alone", "QuantizeLinear", ("a",), ("b",))]
    _, others = compare(first, rounds(lone, {}, {"alone": 3.0}))
    assert others == (0.0, 3.0)


def event(name: str, start: int, length: int, kind: str = "Node") -> dict[str, Any]:
    label = name if kind == "Session" else f"{name}_kernel_time"
    return {"cat": kind, "name": label, "ts": start, "dur": length, "args": {}}


def test_a_subgraph_is_not_counted_twice() -> None:
    kernels = {
        "if": Kernel("if", "If", ("c",), ("y",), inside=("inner", "loop")),
        "loop": Kernel("loop", "Loop", (), (), inside=("step",)),
        "inner": Kernel("inner", "MatMul", (), ()),
        "step": Kernel("step", "MatMul", (), ()),
    }
    events = [
        event("if", 0, 1000),
        event("inner", 10, 300),
        event("loop", 400, 500),
        event("step", 410, 200),
        event("step", 650, 200),
    ]
    assert times_of(events, kernels) == pytest.approx(
        {"if": 0.2, "loop": 0.1, "inner": 0.3, "step": 0.4}
    )


def test_events_belong_to_the_run_around_them(tmp_path: Path) -> None:
    path = tmp_path / "profile.json"
    content = [
        event("early", 1, 2),
        event("a", 11, 2),
        event("model_run", 10, 20, "Session"),
        event("b", 41, 2),
        event("a", 45, 2),
        event("model_run", 40, 20, "Session"),
    ]
    path.write_text(json.dumps(content), "utf-8")
    runs = read_runs(path, "m", 2)
    assert [[e["name"][0] for e in run] for run in runs] == [["a"], ["b", "a"]]
    with pytest.raises(
        qc.CalibrationError, match=r"kept 2 of 3 runs of m\. It keeps a"
    ):
        read_runs(path, "m", 3)
