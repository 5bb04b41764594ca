"""Unusual forms of ONNX are read, and have the meaning that onnxruntime gives them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import onnx_models as models
import quantcal as qc
from quantcal.onnx._model.model import load_model, model_inputs

WIDTH = 16
ENDS = ([models.value("x", ["n", WIDTH])], [models.value("y", ["n", WIDTH])])
PRODUCT = helper.make_node("MatMul", ["x", "w"], ["y"], "product")
FEEDS = [{"x": models.random(4, WIDTH, seed=seed)} for seed in range(3)]


def weight(seed: int = 5, name: str = "w") -> TensorProto:
    return numpy_helper.from_array(models.random(WIDTH, WIDTH, seed=seed), name)


def net(
    *nodes: onnx.NodeProto, initializer: Any = (), opset: int = 17, **more: Any
) -> onnx.ModelProto:
    """A model whose last node is the product."""
    graph = helper.make_graph([*nodes, PRODUCT], "g", *ENDS, list(initializer), **more)
    opsets = [helper.make_opsetid("", opset)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)


def check(model: onnx.ModelProto, tmp_path: Path, floor: float = 30.0) -> None:
    """Observe and quantize in all ways, and compare the output with the float model."""
    before = model.SerializeToString()
    want = [models.session(model).run(["y"], feed)[0] for feed in FEEDS]
    for method in ("in_graph", "outputs"):
        seen = qc.onnx.observe(model, FEEDS, tensors=["y"], observer=method)
        assert seen["y"].max == pytest.approx(np.max(want), rel=1e-5)
    out = tmp_path / "q.onnx"
    for options in (
        {"samples": FEEDS},
        {"activation_type": "none", "weight_type": "int8"},
    ):
        result = qc.onnx.quantize(model, out, progress=False, **options)
        assert sum(result.quantized_nodes.values()) == 1
        assert not result.left_in_float
        session = models.session(str(out), exact=True)
        got = [session.run(["y"], feed)[0] for feed in FEEDS]
        assert models.signal_to_noise(np.array(want), np.array(got)) > floor
    found = qc.onnx.evaluate(model, out, FEEDS, arithmetics=["exact"]).outputs["y"]
    assert found["exact"].sqnr_db is not None
    assert found["exact"].sqnr_db > floor
    assert model.SerializeToString() == before


@pytest.mark.parametrize("listed", [False, True])
@pytest.mark.parametrize("opset", [7, 11, 13])
@pytest.mark.parametrize("ir", [1, 2, 3, 4])
def test_weights_need_not_be_inputs_in_any_format_version(
    ir: int, opset: int, listed: bool, tmp_path: Path
) -> None:
    model = net(initializer=[weight()], opset=opset)
    model.ir_version = ir
    if listed:
        model.graph.input.append(models.value("w", [WIDTH, WIDTH]))
    check(model, tmp_path)


def test_below_ir_version_4_weights_are_no_inputs() -> None:
    """onnxruntime does not let them be overridden, so the model has one input."""
    model = net(initializer=[weight()], opset=9)
    model.graph.input.append(models.value("w", [WIDTH, WIDTH]))
    for ir, inputs in ((3, ["x"]), (4, ["x", "w"])):
        model.ir_version = ir
        loaded = load_model(model)
        assert [spec.name for spec in model_inputs(loaded.proto)] == inputs
        assert loaded.proto.ir_version == 4


@pytest.mark.parametrize("opset", [7, 9])
def test_old_operators_with_weights_as_inputs_are_converted(
    opset: int, tmp_path: Path
) -> None:
    """BatchNormalization and Reshape, whose second input is a constant shape."""
    norms = {
        name: np.abs(models.random(WIDTH, seed=3)) for name in ("s", "b", "m", "v")
    }
    data = norms | {"shape": np.array([-1, WIDTH])}
    nodes = [
        helper.make_node("BatchNormalization", ["x0", *norms], ["n"]),
        helper.make_node("Reshape", ["n", "shape"], ["x"]),
        PRODUCT,
    ]
    arrays = [numpy_helper.from_array(array, name) for name, array in data.items()]
    graph = helper.make_graph(nodes, "g", [models.value("x0", ["n", WIDTH])], ENDS[1])
    graph.initializer.extend([*arrays, weight()])
    graph.input.extend(
        models.value(tensor.name, tensor.dims, tensor.data_type)
        for tensor in graph.initializer
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])
    model.ir_version = 3
    feeds = [{"x0": feed["x"]} for feed in FEEDS]
    qc.onnx.quantize(model, tmp_path / "q.onnx", feeds, progress=False, strategy="mse")
    found = qc.onnx.evaluate(model, tmp_path / "q.onnx", feeds, arithmetics=["exact"])
    assert found.outputs["y"]["exact"].sqnr_db is not None
    assert found.outputs["y"]["exact"].sqnr_db > 30


def sparse(*, rank: int = 1, name: str = "w") -> onnx.SparseTensorProto:
    """40 of 256 values, with flat indices or with rows and columns."""
    places = np.arange(0, 240, 6)
    if rank == 2:
        places = np.stack(np.unravel_index(places, (WIDTH, WIDTH)), axis=1)
    return helper.make_sparse_tensor(
        numpy_helper.from_array(models.random(40, seed=4), name),
        numpy_helper.from_array(places, "places"),
        [WIDTH, WIDTH],
    )


@pytest.mark.parametrize("rank", [1, 2])
@pytest.mark.parametrize("form", ["Constant", "initializer"])
def test_sparse_weights_are_quantized_as_dense_ones(
    form: str, rank: int, tmp_path: Path
) -> None:
    tensor = sparse(rank=rank)
    node = helper.make_node("Constant", [], ["w"], sparse_value=tensor)
    model = net(sparse_initializer=[tensor]) if form == "initializer" else net(node)
    check(model, tmp_path)
    dense = np.zeros(WIDTH * WIDTH, np.float32)
    dense[np.arange(0, 240, 6)] = models.random(40, seed=4)
    loaded = load_model(model).proto.graph
    [found] = [*loaded.initializer, *(a.t for n in loaded.node for a in n.attribute)]
    np.testing.assert_array_equal(numpy_helper.to_array(found).ravel(), dense)


def test_sparse_weights_inside_subgraphs_and_files_are_found(tmp_path: Path) -> None:
    tensor = sparse(name="inner")
    tensor.values.data_location = TensorProto.EXTERNAL
    tensor.values.external_data.add(key="location", value="values")
    (tmp_path / "values").write_bytes(tensor.values.raw_data)
    tensor.values.ClearField("raw_data")
    branches = {
        f"{name}_branch": helper.make_graph(
            [helper.make_node("MatMul", ["x", given], [name], f"{name}_product")],
            name,
            [],
            [models.value(name, None)],
            sparse_initializer=[tensor] if given == "inner" else [],
        )
        for name, given in (("then", "inner"), ("else", "w"))
    }
    graph = helper.make_graph(
        [helper.make_node("If", ["c"], ["y"], "choice", **branches)],
        "g",
        [models.value("c", [], TensorProto.BOOL), *ENDS[0]],
        ENDS[1],
        [weight()],
    )
    opsets = [helper.make_opsetid("", 17)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
    feeds = [{**feed, "c": np.array(yes)} for feed in FEEDS for yes in (True, False)]
    out = tmp_path / "q.onnx"
    done = qc.onnx.quantize(
        tmp_path / "m.onnx", out, feeds, progress=False, strategy="mse"
    )
    assert done.quantized_nodes == {"MatMul": 2}


def test_sparse_weights_that_are_huge_or_damaged_are_refused_by_name(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refused(tensor: onnx.SparseTensorProto, message: str) -> None:
        with pytest.raises(
            qc.CalibrationError, match=f"sparse weight 'w' of the model.*{message}"
        ):
            qc.onnx.observe(net(sparse_initializer=[tensor]), FEEDS)

    huge = sparse()
    del huge.dims[:]
    huge.dims.extend([2**40, 2**40])
    refused(huge, "bytes when it is dense, more than 1,073,741,824")
    outside = sparse()
    outside.indices.CopyFrom(numpy_helper.from_array(np.arange(40) - 1, "i"))
    refused(outside, "do not match or are out of range")
    rows = sparse(rank=2)
    rows.indices.CopyFrom(numpy_helper.from_array(np.full((40, 2), WIDTH), "i"))
    refused(rows, "do not match or are out of range")
    fewer = sparse()
    fewer.indices.CopyFrom(numpy_helper.from_array(np.arange(39), "i"))
    refused(fewer, r"40 values and indices of shape \[39\]")
    unknown = sparse()
    unknown.dims[0] = -1
    refused(unknown, "a known shape")
    damaged = sparse()
    damaged.values.raw_data = b"123"
    refused(damaged, "cannot be read")
    monkeypatch.setattr(
        "quantcal.onnx._model.normalize._MAX_DENSE", 4 * WIDTH * WIDTH - 1
    )
    refused(sparse(), "takes 1,024 bytes when it is dense, more than 1,023")


SOFTMAX = helper.make_node("Softmax", ["a"], ["x"])


@pytest.mark.parametrize("spelling", ["", "ai.onnx"])
@pytest.mark.parametrize("versions", [(11, 17), (17, 11), (13, 13)])
def test_of_several_versions_of_a_domain_the_last_counts(
    versions: tuple[int, int], spelling: str, tmp_path: Path
) -> None:
    """Softmax has another default axis from 13 on, so results show the version."""
    nodes = [SOFTMAX, PRODUCT]
    for node in nodes:
        node.domain = spelling
    data = models.random(2, 3, WIDTH)
    graph = helper.make_graph(
        nodes,
        "g",
        [models.value("a", [2, 3, WIDTH])],
        [models.value("y", [2, 3, WIDTH])],
        [weight()],
    )
    first, second = versions
    model = helper.make_model(
        graph,
        opset_imports=[
            helper.make_opsetid("ai.onnx", first),
            helper.make_opsetid("", second),
        ],
        ir_version=8,
    )
    [want] = models.session(model).run(["y"], {"a": data})
    cal = qc.onnx.observe(model, [{"a": data}], tensors=["y"])
    assert cal["y"].max == pytest.approx(want.max(), rel=1e-5)
    out = tmp_path / "q.onnx"
    qc.onnx.quantize(model, out, [{"a": data}], progress=False, strategy="mse")
    [got] = models.session(str(out), exact=True).run(["y"], {"a": data})
    assert models.signal_to_noise(want, got) > 30


def test_the_standard_domain_may_be_spelled_out(tmp_path: Path) -> None:
    model = net(initializer=[weight()])
    model.graph.node[0].domain = model.opset_import[0].domain = "ai.onnx"
    check(model, tmp_path)


def constant(seed: int) -> onnx.NodeProto:
    return helper.make_node("Constant", [], ["w"], value=weight(seed))


@pytest.mark.parametrize(
    "model",
    [
        net(initializer=[weight(1), weight(2)]),
        net(initializer=[weight(1)], sparse_initializer=[sparse()]),
        net(constant(1), initializer=[weight(2)]),
        net(constant(1), constant(2)),
    ],
    ids=["initializers", "a sparse one", "node and initializer", "nodes"],
)
def test_different_constants_of_one_name_are_refused(model: onnx.ModelProto) -> None:
    """Which of them onnxruntime uses depends on their size."""
    with pytest.raises(qc.CalibrationError, match="two constants of the name 'w'"):
        qc.onnx.observe(model, FEEDS)


def test_equal_constants_of_one_name_count_as_one(tmp_path: Path) -> None:
    check(net(initializer=[weight(1), weight(1)]), tmp_path)


def test_unknown_sizes_may_be_stored_as_minus_one(tmp_path: Path) -> None:
    model = net(initializer=[weight()])
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = -1
    check(model, tmp_path)


def test_a_graph_needs_no_name(tmp_path: Path) -> None:
    model = net(initializer=[weight()])
    model.graph.name = ""
    check(model, tmp_path)


def test_training_information_is_removed(tmp_path: Path) -> None:
    model = net(initializer=[weight()])
    training = model.training_info.add()
    training.algorithm.node.append(helper.make_node("Relu", ["w"], ["new"]))
    check(model, tmp_path)
    assert not onnx.load(tmp_path / "q.onnx").training_info


def test_an_input_of_a_type_from_the_future_is_named() -> None:
    model = net(initializer=[weight()])
    model.graph.input[0].type.tensor_type.elem_type = 99
    with pytest.raises(
        qc.CalibrationError,
        match=r"Input 'x': onnx .* does not know the element type 99",
    ):
        qc.onnx.load_samples("python:a:b", model)


INPUTS: list[tuple[int, Any]] = [
    (TensorProto.INT8, np.int8),
    (TensorProto.UINT8, np.uint8),
    (TensorProto.BOOL, np.bool_),
    (TensorProto.UINT64, np.uint64),
    (TensorProto.DOUBLE, np.float64),
    (TensorProto.FLOAT16, np.float16),
]


@pytest.mark.parametrize(("kind", "dtype"), INPUTS)
def test_inputs_of_every_type_are_run(kind: int, dtype: Any, tmp_path: Path) -> None:
    model = net(
        helper.make_node("Cast", ["given"], ["x"], to=TensorProto.FLOAT),
        initializer=[weight()],
    )
    model.graph.input[0].CopyFrom(models.value("given", ["n", WIDTH], kind))
    feeds = [{"given": (feed["x"] > 0).astype(dtype)} for feed in FEEDS]
    out = tmp_path / "q.onnx"
    qc.onnx.quantize(model, out, feeds, progress=False, strategy="mse")
    found = qc.onnx.evaluate(model, out, feeds, arithmetics=["exact"])
    assert found.outputs["y"]["exact"].sqnr_db is not None
    assert found.outputs["y"]["exact"].sqnr_db > 30


def test_inputs_and_outputs_other_than_plain_tensors_are_run(tmp_path: Path) -> None:
    """A sequence, an optional tensor and strings, with a weight and an input as outputs."""
    graph = helper.make_graph(
        [
            helper.make_node("SequenceAt", ["many", "zero"], ["x"]),
            PRODUCT,
            helper.make_node("OptionalGetElement", ["maybe"], ["there"]),
            helper.make_node("SequenceConstruct", ["y", "there"], ["all"]),
            helper.make_node("Cast", ["text"], ["number"], to=TensorProto.FLOAT),
        ],
        "g",
        [
            helper.make_tensor_sequence_value_info("many", TensorProto.FLOAT, None),
            helper.make_value_info(
                "maybe",
                helper.make_optional_type_proto(
                    helper.make_tensor_type_proto(TensorProto.FLOAT, ["k"])
                ),
            ),
            models.value("text", ["t"], TensorProto.STRING),
            models.value("unused", []),
        ],
        [
            *ENDS[1],
            helper.make_tensor_sequence_value_info("all", TensorProto.FLOAT, None),
            models.value("number", ["t"]),
            models.value("w", [WIDTH, WIDTH]),
            models.value("unused", []),
        ],
        [weight(), numpy_helper.from_array(np.array(0), "zero")],
    )
    opsets = [helper.make_opsetid("", 18)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    feeds = [
        {
            "many": [feed["x"]],
            "maybe": models.random(3),
            "text": np.array(["1.5", "2"]),
            "unused": np.array(1, np.float32),
        }
        for feed in FEEDS
    ]
    out = tmp_path / "q.onnx"
    qc.onnx.quantize(model, out, feeds, progress=False, strategy="mse")
    found = qc.onnx.evaluate(model, out, feeds, arithmetics=["exact"])
    assert found.outputs["y"]["exact"].sqnr_db is not None
    assert found.outputs["y"]["exact"].sqnr_db > 30
