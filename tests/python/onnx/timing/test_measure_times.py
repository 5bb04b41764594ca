"""`measure_times`: which kernel runs which node, on small models; never how long it takes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper

import fused_kernels
import onnx_models as models
import quantcal as qc
from fused_kernels import Net
from quantcal.onnx._graph.graph import all_nodes
from quantcal.onnx._timing.marks import Marks
from tests.models import MODELS

Feeds = list[dict[str, Any]]


def images(channels: int = 3, size: int = 12, **more: Any) -> Feeds:
    return [
        {"x": models.random(1, channels, size, size, seed=seed), **more}
        for seed in range(2)
    ]


def measured(
    model: onnx.ModelProto, feeds: Feeds, path: Path, **options: Any
) -> qc.onnx.NodeTimes:
    """Quantize and measure; what holds for any model is checked here."""
    qc.onnx.quantize(model, path, feeds, progress=False, strategy="minmax", **options)
    found = qc.onnx.measure_times(model, path, feeds, rounds=3)
    assert (found.samples, found.rounds) == (2, 3)
    assert (found.other_float_ms, found.other_integer_ms) == (0, 0)
    # The saved graph is an oracle: as many integer kernels as onnxruntime runs.
    runs = fused_kernels.kernels(path)
    expected = Counter({k: runs[k] for k in fused_kernels.INTEGER if runs[k]})
    kinds = Counter(first_kernel(n) for n in found.nodes.values() if not n.reason)
    assert {k: c for k, c in kinds.items() if k in fused_kernels.INTEGER} == expected
    for node in found.nodes.values():
        assert 0 <= node.conversion_ms <= node.integer_ms + 1e-9
        assert 0 <= node.rounds_won <= 1
        assert node.quantized or node.reason
    return found


def first_kernel(node: qc.onnx.NodeTime) -> str:
    """The kernel of the node itself; others are of nodes that are fused with it in float."""
    return node.kernel.split(" + ")[0]


def kernels_of(found: qc.onnx.NodeTimes) -> dict[str, str]:
    return {name: node.kernel for name, node in found.nodes.items() if node.quantized}


def test_a_conv_and_its_relu_are_one_node(tmp_path: Path) -> None:
    found = measured(models.conv_net(), images(), tmp_path / "q.onnx")
    assert kernels_of(found) == {"Conv_0": "QLinearConv", "Conv_2": "QLinearConv"}
    first, second = found.nodes["Conv_0"], found.nodes["Conv_2"]
    assert (first.fused, second.fused) == (("Relu_1",), ())
    assert first.float_kernel in ("Conv", "FusedConv")  # by this machine's layout
    assert first.reason == second.reason == ""
    assert (first.multiply_adds, second.multiply_adds) == (400 * 27, 200 * 4)
    assert "Relu_1" not in found.nodes


def blocks(*, norm: bool = False) -> onnx.ModelProto:
    """Two Conv of 16 channels, the second depthwise and added to its input."""
    data: models.Arrays = {
        "w0": models.random(16, 3, 3, 3),
        "w1": models.random(16, 1, 3, 3),
        "gain": np.abs(models.random(16)) + 1,
        "zero": np.zeros(16, np.float32),
        "one": np.ones(16, np.float32),
    }
    make = helper.make_node
    nodes = [
        make("Conv", ["x", "w0"], ["a"], "full", pads=[1, 1, 1, 1]),
        make("Relu", ["a"], ["r"], "relu0"),
        make("Conv", ["r", "w1"], ["b"], "deep", group=16, pads=[1, 1, 1, 1]),
        make("Add", ["b", "r"], ["s"], "sum"),
        make("Relu", ["s"], ["y"], "relu1"),
    ]
    if norm:
        nodes[2].output[0] = "b0"
        args = ["b0", "gain", "zero", "zero", "one"]
        nodes.insert(3, make("BatchNormalization", args, ["b"], "norm"))
    shape = [1, 3, 12, 12]
    return models.build(
        nodes,
        [models.value("x", shape)],
        [models.value("y", [1, 16, 12, 12])],
        data if norm else {k: data[k] for k in ("w0", "w1")},
    )


@pytest.mark.parametrize("norm", [False, True])
def test_a_depthwise_conv_and_a_residual_sum(norm: bool, tmp_path: Path) -> None:
    """In float the sum may be part of the Conv's kernel; integers compute it alone."""
    found = measured(blocks(norm=norm), images(), tmp_path / "q.onnx")
    assert set(kernels_of(found)) == {"full", "deep"}
    assert found.nodes["full"].fused == ("relu0",)
    assert found.nodes["deep"].multiply_adds == 16 * 144 * 9
    assert found.nodes["deep"].kernel.startswith("QLinearConv")
    deep = {"deep", *found.nodes["deep"].fused}
    assert ("norm" in deep) == norm
    # The sum is in the Conv's kernel where its layout allows that (AVX and wider).
    if "sum" in deep:
        assert found.nodes["deep"].kernel.startswith("QLinearConv + Add")
        assert deep >= {"sum", "relu1"}
    else:
        assert found.nodes["sum"].reason == "left in float"
        assert found.nodes["sum"].fused in ((), ("relu1",))


def test_a_sum_and_its_relu_in_the_kernel_of_a_conv(tmp_path: Path) -> None:
    """In the layout of blocks, float computes the sum in the Conv: no node gains it all."""
    found = measured(models.residual(), images(4), tmp_path / "q.onnx")
    assert found.nodes["conv0"].fused == ("relu0",)
    assert found.nodes["conv1"].fused == ("relu1",)
    everything = {n for name, t in found.nodes.items() for n in (name, *t.fused)}
    assert {"conv2", "sum", "relu2"} <= everything


def test_a_chosen_sum_has_its_kernel(tmp_path: Path) -> None:
    found = measured(blocks(), images(), tmp_path / "q.onnx", op_types=["Conv", "Add"])
    sums = [n for n in found.nodes.values() if "QLinearAdd" in n.kernel]
    assert len(sums) == 1
    assert sums[0].quantized
    assert sums[0].reason == ""


def test_a_matmul_and_its_bias(tmp_path: Path) -> None:
    net = Net((4, 16))
    h = net.add("Add", net.matmul("x"), net.weight(16))
    model = net.model(net.matmul(net.add("Softmax", h)))
    found = measured(model, net.feeds()[:2], tmp_path / "q.onnx")
    assert set(kernels_of(found)) == {"t0_", "t3_"}
    assert found.nodes["t0_"].fused == ("t1_",)
    assert found.nodes["t0_"].multiply_adds == 4 * 16 * 16
    assert found.nodes["t2_"].kernel == "Softmax"


def test_a_gemm(tmp_path: Path) -> None:
    feeds = [{"x": models.random(3, 8, seed=seed)} for seed in range(2)]
    found = measured(models.gemm_net(models.random(5)), feeds, tmp_path / "q.onnx")
    assert kernels_of(found) == {"gemm": "QGemm"}
    assert found.nodes["gemm"].multiply_adds == 120


def test_nodes_of_a_subgraph(tmp_path: Path) -> None:
    feeds = [
        {"x": models.random(2, 6, seed=seed), "c": np.array(bool(seed))}
        for seed in range(2)
    ]
    found = measured(models.if_net(outside=True), feeds, tmp_path / "q.onnx")
    kinds = kernels_of(found)
    assert set(kinds) == {"first", "a_matmul", "b_matmul"}
    assert set(kinds.values()) <= {"MatMulIntegerToFloat", "QLinearMatMul"}
    assert {n: t.multiply_adds for n, t in found.nodes.items()} == {
        "first": 72,
        "a_matmul": 36,
        "b_matmul": 36,
        "if": 0,
    }


def test_names_that_mean_other_things_confuse_nothing(tmp_path: Path) -> None:
    """A node is named as another one's output, and names hold our marks."""
    model = models.conv_net()
    first, relu, second = model.graph.node
    first.name, relu.name, second.name = "r1", "~0~", "~~2~~"
    first.output[0] = relu.input[0] = "~~2~~"
    found = measured(model, images(), tmp_path / "q.onnx")
    assert {n: t.fused for n, t in found.nodes.items() if t.quantized} == {
        "r1": ("~0~",),
        "~~2~~": (),
    }
    assert kernels_of(found) == {"r1": "QLinearConv", "~~2~~": "QLinearConv"}


def test_marks_are_found_in_any_name() -> None:
    model = models.conv_net()
    model.graph.node[0].name = "a~1~"
    marks = Marks(model.graph)
    marks.rename(model.graph)
    names = [node.name for node in all_nodes(model.graph)]
    assert [marks.numbers(name) for name in names] == [{0}, {1}, {2}]
    assert marks.numbers(
        f"{names[2]}_token_4", f"x{model.graph.node[0].output[0]}"
    ) == {
        0,
        2,
    }
    assert marks.numbers("a~1~", "ReorderInput") == frozenset()
    onnx.checker.check_model(model)


def test_a_node_in_float_has_its_reason(tmp_path: Path) -> None:
    found = measured(
        models.conv_net(), images(), tmp_path / "q.onnx", exclude=["Conv_2"]
    )
    node = found.nodes["Conv_2"]
    assert (node.quantized, node.reason) == (False, "left in float")
    assert kernels_of(found) == {"Conv_0": "QLinearConv"}
    assert "Conv_2" not in found.not_faster()


def pair(name: str, source: str) -> list[onnx.NodeProto]:
    grid = ["scale", "zero"]
    return [
        helper.make_node("QuantizeLinear", [source, *grid], [f"{name}_q"]),
        helper.make_node("DequantizeLinear", [f"{name}_q", *grid], [name]),
    ]


def hand_made(*, rounds_input: bool, op_type: str = "Conv") -> onnx.ModelProto:
    """A Conv of coded weights whose result is not rounded."""
    shape = (4, 3, 1, 1) if op_type == "Conv" else (3, 4, 1, 1)
    data: dict[str, Any] = {
        "codes": (10 * models.random(*shape)).astype(np.int8),
        "scale": np.float32(0.05),
        "zero": np.uint8(128),
        "none": np.int8(0),
    }
    nodes = pair("xr", "x") if rounds_input else []
    nodes += [
        helper.make_node("DequantizeLinear", ["codes", "scale", "none"], ["w"]),
        helper.make_node(op_type, ["xr" if rounds_input else "x", "w"], ["y"], "n"),
    ]
    value = models.value
    return models.build(
        nodes, [value("x", [1, 3, 4, 4])], [value("y", [1, 4, 4, 4])], data
    )


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"rounds_input": True}, "its result is not rounded"),
        ({"rounds_input": False}, "its input is float, only its weights have codes"),
        (
            {"rounds_input": True, "op_type": "ConvTranspose"},
            "onnxruntime has no integer kernel for ConvTranspose",
        ),
    ],
)
def test_a_quantized_node_without_an_integer_kernel_says_why(
    options: dict[str, Any], reason: str
) -> None:
    kind = options.get("op_type", "Conv")
    shape = (4, 3, 1, 1) if kind == "Conv" else (3, 4, 1, 1)
    node = helper.make_node(kind, ["x", "w"], ["y"], "n")
    value = models.value
    model = models.build(
        [node],
        [value("x", [1, 3, 4, 4])],
        [value("y", [1, 4, 4, 4])],
        {"w": models.random(*shape)},
    )
    feeds = images(size=4)
    found = qc.onnx.measure_times(model, hand_made(**options), feeds, rounds=3)
    assert (found.nodes["n"].quantized, found.nodes["n"].reason) == (True, reason)
    assert found.nodes["n"].kernel in ("Conv", "FusedConv", "ConvTranspose")
    assert found.benefits(other_cpu(found)) == {"n": 0.0}


def other_cpu(found: qc.onnx.NodeTimes) -> str:
    return "arm" if found.machine.cpu != "arm" else "vnni"


def test_a_model_of_onnxruntimes_quantizer(tmp_path: Path) -> None:
    from onnxruntime import quantization

    class Reader(quantization.CalibrationDataReader):
        left = iter(images())

        def get_next(self) -> Any:
            return next(self.left, None)

    source, target = tmp_path / "m.onnx", tmp_path / "q.onnx"
    onnx.save(blocks(), source)
    for style in (quantization.QuantFormat.QDQ, quantization.QuantFormat.QOperator):
        Reader.left = iter(images())
        quantization.quantize_static(
            source,
            target,
            Reader(),
            quant_format=style,
            activation_type=quantization.QuantType.QUInt8,
        )
        found = qc.onnx.measure_times(source, target, images(), rounds=3)
        for name in ("full", "deep"):
            assert "QLinearConv" in found.nodes[name].kernel
            assert found.nodes[name].quantized
        assert found.other_integer_ms == 0


def test_external_weights_and_threads(tmp_path: Path) -> None:
    source, target = tmp_path / "m.onnx", tmp_path / "q.onnx"
    onnx.save(blocks(), source, save_as_external_data=True, size_threshold=0)
    qc.onnx.quantize(source, target, images(), progress=False)
    found = qc.onnx.measure_times(source, target, images(), rounds=3, threads=1)
    assert set(kernels_of(found)) == {"full", "deep"}
    assert found.machine.threads == 1
    left = [path.name for path in tmp_path.iterdir()]
    assert len(left) == 3, left


def plain() -> onnx.ModelProto:
    return models.conv_net()


def coded(tmp_path: Path) -> bytes:
    path = tmp_path / "q.onnx"
    qc.onnx.quantize(plain(), path, images(), progress=False)
    return path.read_bytes()


def renamed(content: bytes) -> onnx.ModelProto:
    """The same model with an input of another name."""
    model = onnx.ModelProto.FromString(content)
    model.graph.input[0].name = "z"
    for node in model.graph.node:
        node.input[:] = ["z" if name == "x" else name for name in node.input]
    return model


REFUSALS: dict[str, tuple[Callable[[bytes], dict[str, Any]], str]] = {
    "swapped": (
        lambda q: {"float_model": q, "quantized_model": plain()},
        "The float model has QuantizeLinear nodes. Give the float model first",
    ),
    "not quantized": (
        lambda _: {"quantized_model": plain()},
        "the model has no QuantizeLinear or DequantizeLinear node",
    ),
    "another model": (
        lambda q: {"float_model": models.residual(), "quantized_model": q},
        "the model has no quantized node in common with the float model",
    ),
    "another input": (
        lambda q: {"quantized_model": renamed(q)},
        r"The inputs of the model are \['x'\], those of the model \['z'\]",
    ),
    "no samples": (lambda _: {"samples": []}, "There are no samples to run"),
    "wrong sample": (
        lambda _: {"samples": [{"x": models.random(1, 3, 9)}]},
        "sample 0: input 'x' has 3 dimensions",
    ),
    "damaged": (lambda _: {"quantized_model": b"no model"}, "the model is text"),
    "few rounds": (lambda _: {"rounds": 2}, "rounds is 2. Give a whole number of 3"),
    "no whole rounds": (lambda _: {"rounds": 3.5}, "rounds is 3.5. Give a whole"),
    "threads": (lambda _: {"threads": -1}, "threads is -1. Give a whole number of 0"),
    "few samples": (lambda _: {"max_samples": 0}, "max_samples is 0. Give a whole"),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_what_cannot_be_measured_is_refused(case: str, tmp_path: Path) -> None:
    changes, message = REFUSALS[case]
    content = coded(tmp_path)
    arguments: dict[str, Any] = {
        "float_model": plain(),
        "quantized_model": content,
        "samples": images(),
        "rounds": 3,
        **changes(content),
    }
    with pytest.raises(qc.CalibrationError, match=message):
        qc.onnx.measure_times(**arguments)


@pytest.mark.model
def test_every_kernel_of_the_text_recognizer_has_its_node(tmp_path: Path) -> None:
    path, output = MODELS["pp-ocr-rec"].fetch(), tmp_path / "rec.onnx"
    feeds = [{"x": models.random(1, 3, 48, 96, seed=seed)} for seed in range(2)]
    result = qc.onnx.quantize(path, output, feeds, progress=False)
    found = qc.onnx.measure_times(path, output, feeds[:1], rounds=3)
    assert (found.other_float_ms, found.other_integer_ms) == (0, 0)
    kinds = Counter(n.op_type for n in found.nodes.values() if n.quantized)
    assert kinds == result.quantized_nodes == {"Conv": 38, "MatMul": 13}
    runs = fused_kernels.kernels(output)
    names = Counter(first_kernel(n) for n in found.nodes.values() if n.quantized)
    assert names == {k: runs[k] for k in fused_kernels.INTEGER if runs[k]}
    # Each product of the model is counted, by their known kinds.
    assert sum(n.multiply_adds > 0 for n in found.nodes.values()) == 38 + 13
