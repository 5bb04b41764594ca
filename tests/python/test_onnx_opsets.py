"""Raising a model's opset changes nothing that it computes, operator by operator."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import onnx_models as models
import quantcal as qc
from opset_cases import CASES, Case, plain_session
from quantcal.onnx.model import Loaded, opset_of
from quantcal.onnx.prepare import convert_opset

# onnx's adapter has no form for these, and onnxruntime gives no meaning to the outputs.
REFUSED = ("BatchNormalization-9 5 ",)


def converted(model: onnx.ModelProto, opset: int) -> onnx.ModelProto:
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    return convert_opset(Loaded(copy, "the model"), opset).proto


def assert_same(model: onnx.ModelProto, feed: dict[str, Any], opset: int) -> None:
    names = [value.name for value in model.graph.output]
    wanted = plain_session(model).run(names, feed)
    changed = converted(model, opset)
    assert opset_of(changed) == opset
    assert {entry.domain for entry in changed.opset_import} <= {""}
    for want, got in zip(wanted, plain_session(changed).run(names, feed), strict=True):
        assert want.dtype == got.dtype
        # The same kernels or sums in another order: float32 rounding, of float16 too.
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
                with pytest.raises(qc.CalibrationError, match="onnx cannot convert it"):
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


def test_names_that_are_numbers_do_not_meet_those_of_the_converter() -> None:
    """Old exports of PyTorch count their tensors; so does the converter."""
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


def test_what_lies_in_the_graph_survives_conversion() -> None:
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
