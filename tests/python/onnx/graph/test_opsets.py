"""A newer opset does not change what a model computes, operator by operator."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import onnx_models as models
import quantcal as qc
from opset_cases import CASES, Case, plain_session
from quantcal.onnx._model.model import LoadedModel, opset_of
from quantcal.onnx._model.opset import convert_opset

# onnx cannot convert these, and onnxruntime does not define their outputs.
REFUSED = ("BatchNormalization-9 5 ",)


def converted(model: onnx.ModelProto, opset: int) -> onnx.ModelProto:
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    return convert_opset(LoadedModel(copy, "the model"), opset).proto


def assert_same(model: onnx.ModelProto, feed: dict[str, Any], opset: int) -> None:
    names = [value.name for value in model.graph.output]
    wanted = plain_session(model).run(names, feed)
    changed = converted(model, opset)
    assert opset_of(changed) == opset
    assert {entry.domain for entry in changed.opset_import} <= {""}
    for want, got in zip(wanted, plain_session(changed).run(names, feed), strict=True):
        assert want.dtype == got.dtype
        # Kernels may sum in another order, so results differ by rounding.
        near = 2e-3 if want.dtype == np.float16 else 1e-5
        np.testing.assert_allclose(got, want, rtol=near, atol=near / 10)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_an_operator_computes_the_same_in_a_newer_opset(case: Case) -> None:
    for open_shapes in (False, True):
        model = case.model(open_shapes=open_shapes)
        for opset in (13, 21):
            if case.opset >= opset:
                continue
            if str(case).startswith(REFUSED) and opset == 21:
                with pytest.raises(qc.CalibrationError, match=r"cannot.*\(node 'n'\)"):
                    converted(model, opset)
            else:
                assert_same(model, case.feed, opset)


def branch(name: str, scales: list[float]) -> onnx.GraphProto:
    """Resize ``x`` by scales that both branches call ``s``."""
    scale = onnx.numpy_helper.from_array(np.array(scales, np.float32), "s")
    node = helper.make_node("Resize", ["x", "s"], [name], mode="linear")
    return helper.make_graph([node], name, [], [models.value(name, None)], [scale])


@pytest.mark.parametrize("chosen", [True, False])
def test_old_operators_inside_subgraphs_are_rewritten(chosen: bool) -> None:
    branches = {
        "then_branch": branch("a", [1, 1, 2, 2]),
        "else_branch": branch("b", [1, 1, 0.7, 3]),
    }
    choose = helper.make_node("If", ["c"], ["y"], **branches)
    inputs = [models.value("x", list("nchw")), models.value("c", [], TensorProto.BOOL)]
    model = models.build(
        [choose], inputs, [models.value("y", list("abcd"))], {}, opset=10, ir=5
    )
    feed = {"x": models.random(1, 2, 5, 6), "c": np.array(chosen)}
    assert_same(model, feed, 13)


def body(*nodes: onnx.NodeProto, shape: list[int]) -> onnx.GraphProto:
    """Return the body of a loop: ``s`` becomes ``t``, and ``k`` is collected."""
    state = [models.value(name, shape) for name in ("s", "t")]
    return helper.make_graph(
        list(nodes), "body", state[:1], [state[1], models.value("k", None)]
    )


@pytest.mark.parametrize("opset", [7, 8, 9, 11, 12])
def test_old_operators_inside_a_loop_keep_their_meaning(opset: int) -> None:
    clip = {"min": -0.5, "max": 0.5} if opset < 11 else {}
    how = {} if opset == 9 else {"scales": [1.0, 1.0, 2.0, 1.0]}
    grow = helper.make_node("Upsample", ["b", "z"][: 1 + (opset == 9)], ["u"], **how)
    if opset > 9:
        grow = helper.make_node("Hardmax", ["b"], ["u"], axis=2)
    nodes = [
        helper.make_node("Dropout", ["s"], ["a", "mask"]),
        helper.make_node("Clip", ["a"], ["b"], **clip),
        grow,
        helper.make_node("ReduceSum", ["u"], ["r"], axes=[2], keepdims=1),
        helper.make_node("Softmax", ["r"], ["k"], axis=1),
        helper.make_node("Add", ["s", "r"], ["t"]),
        helper.make_node("Identity", ["on"], ["go"]),
    ]
    turn = body(*nodes, shape=[1, 1, 2, 2])
    flags = [models.value(n, [], TensorProto.BOOL) for n in ("on", "go")]
    turn.input.insert(0, models.value("n", [], TensorProto.INT64))
    turn.input.insert(1, flags[0])
    turn.output.insert(0, flags[1])
    loop = helper.make_node("Loop", ["count", "", "x"], ["last", "y"], body=turn)
    scales = np.array([1, 1, 2, 1], np.float32)
    model = models.build(
        [loop],
        [models.value("x", [1, 1, 2, 2])],
        [models.value("last", list("abcd")), models.value("y", list("efghi"))],
        {"count": np.array(3), "z": scales},
        opset=opset,
        ir=4,
    )
    for target in (13, 21):
        assert_same(model, {"x": models.random(1, 1, 2, 2)}, target)


def scanning(opset: int) -> onnx.ModelProto:
    """Sum rows, and collect the Softmax of each sum."""
    nodes = [
        helper.make_node("Hardmax", ["e"], ["h"], axis=0),
        helper.make_node("Add", ["s", "h"], ["t"]),
        helper.make_node("Softmax", ["t"], ["k"], axis=0),
    ]
    turn = body(*nodes, shape=[3, 4])
    turn.input.append(models.value("e", [3, 4]))
    names = ["i", "x"] if opset > 8 else ["", "i", "x"]
    more = {"body": turn, "num_scan_inputs": 1}
    scan = helper.make_node("Scan", names, ["last", "y"], "rows", **more)
    batch = [2] if opset == 8 else []
    inputs = [models.value("i", [*batch, 3, 4]), models.value("x", [*batch, 5, 3, 4])]
    outputs = [
        models.value("last", [*batch, 3, 4]),
        models.value("y", [*batch, 5, 3, 4]),
    ]
    return models.build([scan], inputs, outputs, {}, opset=opset, ir=4)


@pytest.mark.parametrize("opset", [9, 11, 12])
def test_old_operators_inside_a_scan_keep_their_meaning(opset: int) -> None:
    feed = {"i": models.random(3, 4), "x": models.random(5, 3, 4)}
    for target in (13, 21):
        assert_same(scanning(opset), feed, target)


@pytest.mark.parametrize("opset", [7, 9, 12])
@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("operator", ["Softmax", "LogSoftmax", "Hardmax"])
def test_tensors_that_a_branch_captures_keep_their_meaning(
    operator: str, axis: int, opset: int
) -> None:
    """onnx's converter fails where it would insert a Reshape before a branch."""
    branches = [
        helper.make_graph(
            [helper.make_node(op_type, ["s"], [name])],
            name,
            [],
            [models.value(name, [2, 3, 4])],
        )
        for op_type, name in (("Neg", "no"), ("Exp", "yes"))
    ]
    nodes = [
        helper.make_node(operator, ["x"], ["s"], "soft", axis=axis),
        helper.make_node(
            "If", ["c"], ["y"], then_branch=branches[1], else_branch=branches[0]
        ),
    ]
    model = models.build(
        nodes,
        [models.value("x", [2, 3, 4]), models.value("c", [], TensorProto.BOOL)],
        [models.value("y", [2, 3, 4])],
        {},
        opset=opset,
        ir=4,
    )
    for target in (13, 21):
        for taken in (True, False):
            feed = {"x": models.random(2, 3, 4), "c": np.array(taken)}
            assert_same(model, feed, target)


def test_a_scan_over_a_batch_is_refused_by_name() -> None:
    with pytest.raises(
        qc.CalibrationError, match="The Scan node 'rows' of opset 8 takes"
    ):
        converted(scanning(8), 13)


def test_names_that_are_numbers_do_not_clash_with_those_of_the_converter() -> None:
    """Old PyTorch exports number their tensors, and so does the converter."""
    nodes = [
        helper.make_node("Dropout", ["0"], ["1"]),
        helper.make_node("Clip", ["1"], ["2"], min=-0.5, max=0.5),
        helper.make_node("Upsample", ["2", "9"], ["3"], mode="linear"),
        helper.make_node("Pad", ["3"], ["4"], pads=[0, 0, 1, 1, 0, 0, 1, 1]),
        helper.make_node("Softmax", ["4"], ["5"], axis=1),
        helper.make_node("ReduceSum", ["5"], ["6"], axes=[2]),
        helper.make_node("Squeeze", ["6"], ["7"], axes=[2]),
        *(helper.make_node("Neg", [str(k)], [str(k + 1)]) for k in range(10, 40)),
    ]
    nodes[7].input[0] = "7"
    outputs = [models.value("40", list("abc"))]
    scales = {"9": np.array([1, 1, 2, 3], np.float32)}
    inputs = [models.value("0", [1, 2, 4, 4])]
    model = models.build(nodes, inputs, outputs, scales, opset=9, ir=4)
    assert_same(model, {"0": models.random(1, 2, 4, 4)}, 21)


def test_special_nodes_and_types_survive_conversion() -> None:
    """Operators of other domains, types that numpy lacks, and unused outputs."""
    nodes = [
        helper.make_node("Dropout", ["x"], ["d", ""]),
        helper.make_node("Gelu", ["d"], ["g"], domain="com.microsoft"),
        helper.make_node("Cast", ["k"], ["f"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["g", "f"], ["y"]),
    ]
    half = helper.make_tensor("k", TensorProto.BFLOAT16, [3], [1.0, 2.0, -3.0])
    graph = helper.make_graph(
        nodes, "g", [models.value("x", [2, 3])], [models.value("y", [2, 3])], [half]
    )
    opsets = [helper.make_opsetid("", 13), helper.make_opsetid("com.microsoft", 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    changed = converted(model, 21)
    feed = {"x": models.random(2, 3)}
    wanted, got = (plain_session(m).run(["y"], feed)[0] for m in (model, changed))
    np.testing.assert_array_equal(got, wanted)


@pytest.mark.parametrize("opset", [18, 20])
@pytest.mark.parametrize("sizes", [[1, 6, 4, 4], ["n", "c", "h", "w"]], ids=str)
@pytest.mark.parametrize(
    "options",
    [
        {"activation_type": "none", "weight_type": "int4"},
        {"activation_type": "uint16"},
        {"activation_type": "float8_e4m3fn"},
        {},
    ],
    ids=["int4", "uint16", "float8", "uint8"],
)
def test_models_with_group_normalization_are_quantized_in_every_format(
    options: dict[str, Any], sizes: list[Any], opset: int, tmp_path: Path
) -> None:
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["h"]),
        helper.make_node("GroupNormalization", ["h", "s", "b"], ["n"], num_groups=3),
        helper.make_node("Conv", ["n", "v"], ["y"]),
    ]
    weights = {
        "w": models.random(6, 6, 1, 1),
        "v": models.random(2, 6, 1, 1, seed=1),
        "s": models.random(3, seed=2),
        "b": models.random(3, seed=3),
    }
    graph = helper.make_graph(
        nodes,
        "groups",
        [models.value("x", sizes)],
        [models.value("y", list("abcd"))],
        [onnx.numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8
    )
    feeds = [{"x": models.random(1, 6, 4, 4, seed=k)} for k in range(4)]
    path = tmp_path / "q.onnx"
    done = qc.onnx.quantize(model, path, feeds, progress=False, **options)
    assert done.quantized_nodes == {"Conv": 2}
    wanted = plain_session(model).run(["y"], feeds[0])[0]
    got = plain_session(onnx.load(path)).run(["y"], feeds[0])[0]
    # int4 rounds weights to a sixteenth of their range.
    assert np.linalg.norm(got - wanted) < 0.2 * np.linalg.norm(wanted)


@pytest.mark.parametrize("op_type", ["Upsample", "Resize"])
@pytest.mark.parametrize("rank", [1, 2, 3, 4, 5])
def test_nearest_picks_the_same_elements_for_any_sizes_and_scales(
    op_type: str, rank: int
) -> None:
    rng = np.random.default_rng(rank)
    known = np.array([0.3, 0.5, 0.7, 1, 1.1, 1.5, 2, 3], np.float32)
    for computed in (False, True) * 3:
        x = rng.standard_normal(rng.integers(1, 9, rank)).astype(np.float32)
        scales = rng.choice(known, rank)
        scales = np.maximum(scales, 1 / np.array(x.shape, np.float32))  # none vanishes
        if op_type == "Upsample":
            scales = np.maximum(scales, 1)
        version = 9 if op_type == "Upsample" else 10
        weights = {} if computed else {"s": scales}
        feed = {"x": x, "s": scales} if computed else {"x": x}
        case = Case(op_type, version, feed, weights, attributes={"mode": "nearest"})
        assert_same(case.model(open_shapes=computed), feed, 13)
