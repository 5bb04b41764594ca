"""Preparing a model does not change what it computes."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

import onnx_models as models
import quantcal as qc
from quantcal.onnx._graph.graph import constants_of, inputs_of, sort_nodes, tensors_of
from quantcal.onnx._model.model import LoadedModel, opset_of
from quantcal.onnx._options.resolved import Options
from quantcal.onnx._options.values import OP_TYPES
from quantcal.onnx._plan.preparation import Prepared, prepare


def prepared(
    model: onnx.ModelProto, op_types: Any = OP_TYPES, exclude: Any = ()
) -> Prepared:
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    options = Options.of(qc.onnx.QuantizeOptions(op_types=op_types, exclude=exclude))
    return prepare(LoadedModel(copy, "the model"), options)


def weights(model: onnx.ModelProto) -> dict[str, np.ndarray[Any, Any]]:
    return {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}


def assert_same_results(
    model: onnx.ModelProto, changed: onnx.ModelProto, feed: dict[str, Any]
) -> None:
    names = [value.name for value in model.graph.output]
    assert names == [value.name for value in changed.graph.output]
    onnx.checker.check_model(changed)
    for want, got in zip(
        models.outputs(model, feed, names),
        models.outputs(changed, feed, names),
        strict=True,
    ):
        # Folding in double precision moves results by float32 rounding only.
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("opset", [9, 11, 12, 13, 17])
def test_old_opsets_become_13_and_newer_ones_stay(opset: int) -> None:
    model = models.conv_net(opset=opset)
    done = prepared(model)
    assert opset_of(done.proto) == max(opset, 13)
    assert set(tensors_of(model.graph)) <= set(tensors_of(done.proto.graph))
    assert_same_results(model, done.proto, {"x": models.random(1, 3, 6, 7)})


def test_metadata_survives_conversion() -> None:
    model = models.conv_net(opset=11)
    model.metadata_props.add(key="character", value="abc")
    done = prepared(model).proto
    assert [(p.key, p.value) for p in done.metadata_props] == [("character", "abc")]


def test_weights_that_were_inputs_become_constants() -> None:
    model = models.conv_net(opset=9, ir=3)
    done = prepared(model).proto
    assert [value.name for value in done.graph.input] == ["x"]
    assert done.ir_version >= 4
    assert_same_results(model, done, {"x": models.random(1, 3, 6, 7)})


def test_a_default_value_other_than_a_weight_stays_an_input() -> None:
    model = models.conv_net()
    model.graph.node.append(helper.make_node("Add", ["y", "k"], ["z"]))
    model.graph.input.append(models.value("k", [1]))
    model.graph.initializer.append(numpy_helper.from_array(np.ones(1, np.float32), "k"))
    model.graph.output.append(models.value("z", ["n", 2, "i", "j"]))
    done = prepared(model).proto
    assert [value.name for value in done.graph.input] == ["x", "k"]


def test_batch_norm_is_folded_and_the_conv_takes_its_output() -> None:
    model = models.batch_norm_net()
    done = prepared(model)
    assert [node.op_type for node in done.proto.graph.node] == ["Conv", "Relu"]
    assert done.proto.graph.node[0].name == "conv"
    assert done.plan.tensors == ("x", "y")  # rounding replaces the ReLU
    assert_same_results(model, done.proto, {"x": models.random(1, 3, 6, 7)})


def test_batch_norm_with_a_bias_and_shared_weights() -> None:
    model = models.batch_norm_net(shared=True)
    model.graph.node[1].input.append("shift")
    done = prepared(model)
    kinds = [node.op_type for node in done.proto.graph.node]
    assert sorted(kinds) == ["Conv", "Conv", "Relu"]
    assert_same_results(model, done.proto, {"x": models.random(1, 3, 6, 7)})


def test_batch_norm_stays_when_its_input_is_read_elsewhere() -> None:
    model = models.batch_norm_net()
    model.graph.output.append(models.value("c", [1, 4, "i", "j"]))
    done = prepared(model)
    assert "BatchNormalization" in {node.op_type for node in done.proto.graph.node}
    assert done.plan.tensors == ("x", "c")


def test_computed_weights_become_initializers() -> None:
    nodes = [
        helper.make_node("Transpose", ["w"], ["t"]),
        helper.make_node("Identity", ["t"], ["i"]),
        helper.make_node("MatMul", ["x", "i"], ["y"], "matmul"),
    ]
    model = models.build(
        nodes,
        [models.value("x", ["n", 8])],
        [models.value("y", ["n", 5])],
        {"w": models.random(5, 8)},
    )
    done = prepared(model)
    assert [node.op_type for node in done.proto.graph.node] == ["MatMul"]
    np.testing.assert_array_equal(weights(done.proto)["i"], models.random(5, 8).T)
    assert set(weights(done.proto)) == {"i"}  # the original weight is no longer read
    assert done.plan.tensors == ("x",)


def test_constants_that_become_unread_are_removed_and_others_stay() -> None:
    """Those of a folded BatchNormalization, but not one that was unread before."""
    model = models.batch_norm_net()
    idle = onnx.numpy_helper.from_array(models.random(3), "idle")
    model.graph.initializer.append(idle)
    done = prepared(model)
    read = {name for node in done.proto.graph.node for name in node.input}
    assert set(weights(done.proto)) - read == {"idle"}
    assert len(weights(done.proto)) == 3  # kernel and bias of the Conv


@pytest.mark.parametrize("shape", [(5,), (1, 5), (1,), (1, 1), ()])
@pytest.mark.parametrize("factors", [(1.0, 1.0), (1.0, 0.5), (-2.0, 3.0)])
def test_gemm_biases_become_vectors_with_the_factors_inside(
    shape: tuple[int, ...], factors: tuple[float, float]
) -> None:
    bias = np.asarray(models.random(*shape), dtype=np.float32)
    alpha, beta = factors
    model = models.gemm_net(bias, alpha=alpha, beta=beta, transB=1)
    done = prepared(model).proto
    assert weights(done)["b"].shape == (5,)
    assert {a.f for a in done.graph.node[0].attribute if a.name != "transB"} == {1.0}
    assert_same_results(model, done, {"x": models.random(3, 8)})


def test_a_bias_with_rows_keeps_its_node_in_float() -> None:
    model = models.gemm_net(models.random(3, 5))
    with pytest.raises(qc.CalibrationError, match="differs from row to row"):
        prepared(model)


def test_a_shared_bias_is_copied_under_a_free_name() -> None:
    nodes = [
        helper.make_node("Gemm", ["x", "w", "b"], ["h"], "one"),
        helper.make_node("Gemm", ["h", "w", "b"], ["g"], "two", transB=1),
        helper.make_node("Add", ["g", "b_copy"], ["y"], "add"),
    ]
    data = {"w": models.random(5, 5), "b": models.random(5), "b_copy": models.random(5)}
    model = models.build(
        nodes, [models.value("x", ["n", 5])], [models.value("y", ["n", 5])], data
    )
    done = prepared(model).proto
    biases = [node.input[2] for node in done.graph.node if node.op_type == "Gemm"]
    kernels = [node.input[1] for node in done.graph.node if node.op_type == "Gemm"]
    assert len({*biases, "b_copy"}) == 3
    assert set(kernels) == {"w"}  # one copy, though read along different axes
    assert_same_results(model, done, {"x": models.random(3, 5)})


def test_nodes_get_unique_names() -> None:
    model = models.conv_net()
    model.graph.node[0].name = model.graph.node[2].name = "same"
    names = [node.name for node in prepared(model).proto.graph.node]
    assert names[0] == "same"
    assert all(names)
    assert len(set(names)) == 3


def test_constants_do_not_depend_on_inputs() -> None:
    nodes = [
        helper.make_node("Constant", [], ["k"], value_float=1.0),
        helper.make_node("RandomNormal", [], ["r"], shape=[2]),
        helper.make_node("Add", ["k", "w"], ["s"]),
        helper.make_node("Add", ["s", "x"], ["t"]),
        helper.make_node("Add", ["t", "r"], ["y"]),
    ]
    x, y = models.value("x", [2]), models.value("y", [2])
    model = models.build(nodes, [x], [y], {"w": models.random(2)})
    assert constants_of(model.graph) == {"w", "k", "s"}


def test_sorting_respects_what_subgraphs_capture() -> None:
    graph = models.if_net(outside=True).graph
    first, choose = graph.node
    assert "h" in inputs_of(choose)
    backwards = [helper.make_node("Relu", ["y"], ["z"]), choose, first]
    del graph.node[:]
    graph.node.extend(backwards)
    sort_nodes(graph)
    assert [node.op_type for node in graph.node] == ["MatMul", "If", "Relu"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"op_types": ["Convv"]}, "no 'Convv' node. Near names: Conv"),
        ({"op_types": ["Gemm"]}, "no 'Gemm' node. It has: BatchNorm|no 'Gemm' node"),
        ({"op_types": "Conv"}, "op_types is the string 'Conv'. Give a list"),
        ({"exclude": ["cnv"]}, "exclude='cnv' matches no node.*Near names: conv"),
        ({"exclude": ["*"]}, "all 1 Conv nodes are excluded"),
    ],
)
def test_names_that_match_nothing_are_refused(
    options: dict[str, Any], message: str
) -> None:
    with pytest.raises(qc.CalibrationError, match=message):
        prepared(models.batch_norm_net(), **options)


def test_an_error_says_why_no_node_can_be_quantized() -> None:
    node = helper.make_node("MatMul", ["x", "x"], ["y"])
    value = [models.value(name, [2, 2], onnx.TensorProto.INT32) for name in "xy"]
    with pytest.raises(qc.CalibrationError, match="on int32 tensors, not float32"):
        prepared(models.build([node], value[:1], value[1:], {}))
    half = [models.value(name, [2, 2], onnx.TensorProto.FLOAT16) for name in "xy"]
    with pytest.raises(
        qc.CalibrationError, match=r"on float16 tensors, not float32\. Give.*float32"
    ):
        prepared(models.build([node], half[:1], half[1:], {}))
    relu = helper.make_node("Relu", ["x"], ["y"])
    float_ = [models.value(name, [2]) for name in "xy"]
    with pytest.raises(
        qc.CalibrationError, match=r"no Conv/MatMul/Gemm node\. It has: Relu ×1"
    ):
        prepared(models.build([relu], float_[:1], float_[1:], {}))


def test_nodes_that_stay_in_float_are_counted() -> None:
    plan = prepared(models.if_net(outside=True), exclude=["b_*"]).plan
    assert plan.nodes == {"first": "MatMul", "a_matmul": "MatMul"}
    assert plan.left_in_float == {"excluded (inside If)": 1}
    model = models.batch_norm_net(shared=True)
    assert prepared(model, exclude=["oth*"]).plan.left_in_float == {"excluded": 1}
