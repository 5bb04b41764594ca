"""The functions of a model are inlined, and nodes inside them are quantized."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import onnx_models as models
import quantcal as qc
from opset_cases import plain_session
from quantcal.onnx._graph.graph import all_nodes
from quantcal.onnx._model.functions import inline_functions
from quantcal.onnx._model.model import LoadedModel

FEED = {"x": models.random(4, 8), "c": np.array(True)}
opset, node = helper.make_opsetid, helper.make_node


def function(
    name: str,
    inputs: list[str],
    nodes: list[onnx.NodeProto],
    *,
    domain: str = "mine",
    version: int = 17,
    attributes: Any = (),
    defaults: Any = (),
    outputs: tuple[str, ...] = ("o",),
    standard: str = "",
) -> onnx.FunctionProto:
    opsets = [opset(standard, version), opset("mine", 1)]
    return helper.make_function(
        domain, name, inputs, outputs, nodes, opsets, attributes, defaults
    )


def calling(
    nodes: list[onnx.NodeProto],
    functions: list[onnx.FunctionProto],
    *,
    version: int = 17,
    imports: Any = (),
    **weights: np.ndarray[Any, Any],
) -> onnx.ModelProto:
    graph = helper.make_graph(
        nodes,
        "calls",
        [models.value("x", ["n", 8]), models.value("c", [], TensorProto.BOOL)],
        [models.value("y", None)],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    opsets = [opset("", version), opset("mine", 1), *imports]
    return helper.make_model(
        graph, opset_imports=opsets, functions=functions, ir_version=9
    )


def refers(op_type: str, attribute: str) -> onnx.NodeProto:
    """Return a node that takes an attribute from its function."""
    made = node(op_type, ["a"], ["o"])
    kind = onnx.AttributeProto.FLOAT
    made.attribute.add(name=attribute, ref_attr_name=attribute, type=kind)
    return made


def branch(name: str, nodes: list[onnx.NodeProto]) -> onnx.GraphProto:
    return helper.make_graph(nodes, name, [], [models.value(name, None)])


LEAKY = function("Leaky", ["a"], [refers("LeakyRelu", "alpha")], attributes=["alpha"])
DEFAULT = function(
    "Leaky",
    ["a"],
    [refers("LeakyRelu", "alpha")],
    defaults=[helper.make_attribute("alpha", 0.7)],
)
CLIP = function("Between", ["a", "lo", "hi"], [node("Clip", ["a", "lo", "hi"], ["o"])])
INNER = function(
    "Inner",
    ["a", "w"],
    [node("Mul", ["a", "w"], ["t"]), node("Add", ["t", "w"], ["o"])],
)
OUTER = function(
    "Outer",
    ["a"],
    [
        node("Constant", [], ["t"], value_float=3.0),
        node("Inner", ["a", "t"], ["q"], domain="mine"),
        node("Inner", ["q", "t"], ["o"], domain="mine"),
        node("Neg", ["q"], ["p"]),
    ],
    outputs=("o", "p"),
)
CHOICE = function(
    "Choice",
    ["a", "c"],
    [
        node(
            "If",
            ["c"],
            ["o"],
            then_branch=branch("z", [node("Inner", ["a", "a"], ["z"], domain="mine")]),
            else_branch=branch("z", [node("Neg", ["a"], ["z"])]),
        )
    ],
)
HALF = np.array(0.5, np.float32)

MODELS = {
    "attribute": calling(
        [node("Leaky", ["x"], ["y"], domain="mine", alpha=0.3)], [LEAKY]
    ),
    "default": calling([node("Leaky", ["x"], ["y"], domain="mine")], [DEFAULT]),
    "not the default": calling(
        [node("Leaky", ["x"], ["y"], domain="mine", alpha=-0.5)], [DEFAULT]
    ),
    "an input left out": calling(
        [node("Between", ["x", "", "k"], ["y"], domain="mine")], [CLIP], k=HALF
    ),
    "the last input left out": calling(
        [node("Between", ["x", "k"], ["y"], domain="mine")], [CLIP], k=HALF
    ),
    "nested, called twice": calling(
        [
            node("Outer", ["x"], ["t", "q"], domain="mine"),
            node("Outer", ["t"], ["o", "y"], domain="mine"),
        ],
        [INNER, OUTER],
    ),
    "called in a subgraph": calling(
        [
            node(
                "If",
                ["c"],
                ["y"],
                then_branch=branch(
                    "a", [node("Inner", ["x", "k"], ["a"], domain="mine")]
                ),
                else_branch=branch("b", [node("Neg", ["x"], ["b"])]),
            )
        ],
        [INNER],
        k=HALF,
    ),
    "a subgraph inside": calling(
        [node("Choice", ["x", "c"], ["y"], domain="mine")], [INNER, CHOICE]
    ),
    "an operator of onnxruntime": calling(
        [node("Smooth", ["x"], ["y"], domain="mine")],
        [
            helper.make_function(
                "mine",
                "Smooth",
                ["a"],
                ["o"],
                [node("Gelu", ["a"], ["o"], domain="com.microsoft")],
                [opset("", 17), opset("com.microsoft", 1)],
            )
        ],
    ),
    "named like an operator of ONNX": calling(
        [node("Relu", ["x"], ["y"], domain="mine")],
        [function("Relu", ["a"], [node("Neg", ["a"], ["o"])])],
    ),
    # onnxruntime prefers its own operator to the function.
    "a name that onnxruntime has": calling(
        [node("Gelu", ["x"], ["y"], domain="com.microsoft")],
        [function("Gelu", ["a"], [node("Neg", ["a"], ["o"])], domain="com.microsoft")],
        imports=[opset("com.microsoft", 1)],
    ),
    "a name that ONNX has": calling(
        [node("Relu", ["x"], ["y"])],
        [function("Relu", ["a"], [node("Neg", ["a"], ["o"])], domain="")],
    ),
    # onnxruntime reads the body in the opset of the model.
    "of a newer opset than the model": calling(
        [
            node("Unsqueeze", ["x"], ["u"], axes=[0]),
            node("H", ["u"], ["y"], domain="mine"),
        ],
        [function("H", ["a"], [node("Hardmax", ["a"], ["o"], axis=1)])],
        version=11,
    ),
    "of an older opset than the model": calling(
        [node("H", ["x"], ["y"], domain="mine")],
        [function("H", ["a"], [node("Hardmax", ["a"], ["o"])], version=11)],
    ),
}


def flat(model: onnx.ModelProto) -> onnx.ModelProto:
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    return inline_functions(LoadedModel(copy, "the model")).proto


@pytest.mark.parametrize("name", MODELS)
def test_an_inlined_model_computes_what_onnxruntime_computed(name: str) -> None:
    model = MODELS[name]
    changed = flat(model)
    assert not changed.functions
    assert all(n.domain != "mine" for n in all_nodes(changed.graph))
    wanted, got = (plain_session(m).run(["y"], FEED)[0] for m in (model, changed))
    np.testing.assert_array_equal(got, wanted)


LINEAR = function("Linear", ["a", "w"], [node("MatMul", ["a", "w"], ["o"], "product")])
TWICE = function(
    "Twice",
    ["a", "w"],
    [
        node("Linear", ["a", "w"], ["h"], domain="mine"),
        node("Linear", ["h", "w"], ["o"], domain="mine"),
    ],
)


def linear(version: int) -> onnx.ModelProto:
    """Three MatMul, all inside functions, of which one calls another."""
    nodes = [
        node("Twice", ["x", "w"], ["h"], domain="mine"),
        node("Relu", ["h"], ["r"]),
        node("Linear", ["r", "v"], ["y"], domain="mine"),
    ]
    weights = {"w": models.random(8, 8), "v": models.random(8, 5, seed=1)}
    return calling(nodes, [LINEAR, TWICE], version=version, **weights)


@pytest.mark.parametrize("version", [11, 17])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"activation_type": "uint16"},
        {"activation_type": "none", "weight_type": "int4"},
    ],
    ids=["int8", "uint16", "int4"],
)
def test_nodes_inside_functions_are_quantized(
    version: int, options: dict[str, Any], tmp_path: Path
) -> None:
    model = linear(version)
    feeds = [{"x": models.random(4, 8, seed=k), "c": np.array(True)} for k in range(4)]
    path = tmp_path / "q.onnx"
    done = qc.onnx.quantize(model, path, feeds, progress=False, **options)
    assert done.quantized_nodes == {"MatMul": 3}
    assert not done.left_in_float
    wanted = plain_session(model).run(["y"], feeds[0])[0]
    got = plain_session(onnx.load(path)).run(["y"], feeds[0])[0]
    noise = np.linalg.norm(got - wanted) / np.linalg.norm(wanted)
    assert noise < 0.3  # int4; with 8 bits 0.03


def test_nodes_inside_functions_have_names_to_choose_by(tmp_path: Path) -> None:
    feeds = [{"x": models.random(4, 8), "c": np.array(True)}]
    path = tmp_path / "q.onnx"
    chosen = {"exclude": ["product__*"], "progress": False}
    with pytest.raises(qc.CalibrationError, match="all 3 MatMul nodes are excluded"):
        qc.onnx.quantize(linear(17), path, feeds, **chosen)


def test_tensors_inside_functions_are_observed() -> None:
    feeds = [{"x": models.random(4, 8), "c": np.array(True)}]
    found = qc.onnx.observe(linear(17), feeds, tensors="all")
    assert {"x", "h", "r", "y"} < set(found)
    assert len(found) == 5  # and the output of the first product


def test_functions_that_call_each_other_are_refused(tmp_path: Path) -> None:
    again = function("Again", ["a"], [node("Again", ["a"], ["o"], domain="mine")])
    model = calling([node("Again", ["x"], ["y"], domain="mine")], [again])
    message = (
        r"The functions of the model \(mine\.Again\) cannot be inlined: .*[Cc]ycle"
    )
    with pytest.raises(qc.CalibrationError, match=message):
        qc.onnx.quantize(
            model, tmp_path / "q.onnx", [FEED], progress=False, strategy="mse"
        )


def test_the_standard_domain_may_be_spelled_out(tmp_path: Path) -> None:
    model = models.conv_net()
    for each in model.graph.node:
        each.domain = "ai.onnx"
    model.opset_import[0].domain = "ai.onnx"
    images = [{"x": models.random(1, 3, 6, 7)}]
    done = qc.onnx.quantize(
        model, tmp_path / "q.onnx", images, progress=False, strategy="mse"
    )
    assert done.quantized_nodes == {"Conv": 2}
    written = onnx.load(tmp_path / "q.onnx")
    assert {entry.domain for entry in written.opset_import} == {""}
    assert {each.domain for each in written.graph.node} == {""}
