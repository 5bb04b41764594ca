"""A Relu or Clip behind a MatMul, Gemm or Conv takes no integer kernel away.

Neither does another activation function, whatever reads it, and whatever else reads the
product.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import onnx_models as models
import quantcal as qc
from fused_kernels import Net, Shape, branch, check, kernels

Unary = Callable[[Net, str], str]


def scalar(net: Net, number: float) -> str:
    name = f"s{len(net.weights)}"
    net.weights[name] = np.float32(number)
    return name


def clip(low: float | None, high: float | None) -> Unary:
    def add(net: Net, x: str) -> str:
        bounds = ["" if b is None else scalar(net, b) for b in (low, high)]
        while bounds and not bounds[-1]:
            bounds.pop()
        return net.add("Clip", x, *bounds)

    return add


def computed_bound(net: Net, x: str) -> str:
    """Return a Clip whose lower bound is the smallest value that it gets."""
    return net.add("Clip", x, net.add("ReduceMin", x, keepdims=0))


def transposed(net: Net, x: str) -> str:
    """Return a Relu between two Transposes, which onnxruntime cancels."""
    order = [*range(len(net.shape) - 2), len(net.shape) - 1, len(net.shape) - 2]
    y = net.add("Relu", net.add("Transpose", x, perm=order))
    return net.add("Transpose", y, perm=order)


def unary(op_type: str) -> Unary:
    return lambda net, x: net.add(op_type, x)


def gelu(net: Net, x: str) -> str:
    part = net.add("Add", net.add("Erf", x), scalar(net, 1))
    return net.add("Mul", x, part)


def dropped_relu(net: Net, x: str) -> str:
    return net.add("Dropout", net.add("Relu", net.add("Identity", x)))


CLIPS: dict[str, Unary] = {
    "Relu": unary("Relu"),
    "Clip from 0": clip(0, None),
    "Clip from 0 to 3": clip(0, 3),
    "Clip from -3 to 3": clip(-3, 3),
    "Clip to 3": clip(None, 3),
    "Clip without bounds": clip(None, None),
    "Clip with a computed bound": computed_bound,
    "Relu before a Dropout": dropped_relu,
    "Relu between Transposes": transposed,
}
OTHERS: dict[str, Unary] = {
    **{name: unary(name) for name in ("LeakyRelu", "Sigmoid", "HardSigmoid", "Tanh")},
    "Gelu": gelu,
}


def added(net: Net, y: str) -> list[str]:
    return [net.add("Softmax", net.add("Add", y, net.weight(16)))]


def scaled(net: Net, y: str) -> list[str]:
    return [net.add("Mul", y, net.weight(16))]


def squared(net: Net, y: str) -> list[str]:
    return [net.matmul(net.add("Pow", y, scalar(net, 2)))]


def multiplied(net: Net, y: str) -> list[str]:
    return [net.matmul(y)]


def multiplied_and_read(net: Net, y: str) -> list[str]:
    return [net.matmul(y), net.add("Tanh", y)]


def output(net: Net, y: str) -> list[str]:
    return [y]


def output_and_multiplied(net: Net, y: str) -> list[str]:
    return [y, net.matmul(y)]


READERS = [
    *(added, scaled, squared, multiplied, multiplied_and_read, output),
    output_and_multiplied,
]


def biased(net: Net) -> str:
    return net.add("Add", net.matmul("x"), net.weight(16))


def gemm(net: Net) -> str:
    return net.add("Gemm", "x", net.weight(16, 16), net.weight(16))


PRODUCTS: dict[str, tuple[Shape, Callable[[Net], str]]] = {
    "matrix": ((8, 16), lambda net: net.matmul("x")),
    "open stack": (("b", "s", 16), lambda net: net.matmul("x")),
    "matrix and bias": (("n", 16), biased),
    "stack and bias": ((2, 4, 16), biased),
    "Gemm": (("n", 16), gemm),
}

each_clip = pytest.mark.parametrize("clipped", CLIPS.values(), ids=CLIPS)
each_reader = pytest.mark.parametrize(
    "readers", READERS, ids=lambda readers: readers.__name__
)
each_product = pytest.mark.parametrize("product", PRODUCTS.values(), ids=PRODUCTS)


@each_clip
@each_reader
@each_product
def test_what_clips_a_product_takes_no_kernel_away(
    tmp_path: Path, product: Any, readers: Any, clipped: Unary
) -> None:
    shape, make = product
    net = Net(shape)
    model = net.model(*readers(net, clipped(net, make(net))))
    check(net, model, tmp_path / "q.onnx")


@each_clip
@each_reader
@pytest.mark.parametrize("beside", ["Softmax", "output", "Relu"])
def test_what_clips_a_product_with_other_readers_takes_no_kernel_away(
    tmp_path: Path, beside: str, readers: Any, clipped: Unary
) -> None:
    net = Net((8, 16))
    h = net.matmul("x")
    outputs = readers(net, clipped(net, h))
    outputs.append(h if beside == "output" else net.add(beside, h))
    result = check(net, net.model(*outputs), tmp_path / "q.onnx")
    assert h not in result.table  # nothing is rounded for it


@pytest.mark.parametrize("other", OTHERS.values(), ids=OTHERS)
@each_reader
def test_no_other_activation_function_takes_a_kernel_away(
    tmp_path: Path, readers: Any, other: Unary
) -> None:
    net = Net((8, 16))
    h = net.matmul("x")
    model = net.model(*readers(net, other(net, h)), net.add("Softmax", h))
    check(net, model, tmp_path / "q.onnx")


@each_clip
@pytest.mark.parametrize("readers", [added, multiplied, multiplied_and_read])
@pytest.mark.parametrize("opset", [17, 21])
def test_signed_codes_keep_their_kernels_too(
    tmp_path: Path, opset: int, readers: Any, clipped: Unary
) -> None:
    net = Net((8, 16))
    model = net.model(*readers(net, clipped(net, net.matmul("x"))))
    model.opset_import[0].version = opset
    check(net, model, tmp_path / "q.onnx", activation_type="int8")


@pytest.mark.parametrize("name", [*CLIPS, *OTHERS])
@pytest.mark.parametrize("behind", ["Add", "Mul", "Conv", "Softmax", "Pow"])
def test_a_conv_keeps_its_kernel_whatever_stands_behind_it(
    tmp_path: Path, behind: str, name: str
) -> None:
    net = Net((1, 4, 8, 8))

    def conv(x: str) -> str:
        return net.add("Conv", x, net.weight(4, 4, 3, 3), net.weight(4), pads=[1] * 4)

    h = conv("x")
    y = {**CLIPS, **OTHERS}[name](net, h)
    if behind == "Conv":
        y = conv(y)
    elif behind == "Softmax":
        y = net.add("Softmax", y)
    else:
        y = net.add(behind, y, scalar(net, 2))
    model = net.model(y, net.add("Sigmoid", h))
    check(net, model, tmp_path / "q.onnx")


def written(path: Path) -> list[str]:
    rounding = {"QuantizeLinear", "DequantizeLinear"}
    nodes = onnx.load(path).graph.node
    return [node.op_type for node in nodes if node.op_type not in rounding]


@pytest.mark.parametrize("name", ["Relu", "Clip from 0", "Clip from 0 to 3"])
def test_one_that_the_rounding_replaces_stays_and_is_computed_by_the_kernel(
    tmp_path: Path, name: str
) -> None:
    net = Net(("b", "s", 16))
    model = net.model(net.matmul(CLIPS[name](net, net.matmul("x"))))
    check(net, model, tmp_path / "q.onnx")
    assert written(tmp_path / "q.onnx") == [
        "MatMul",
        name.split(maxsplit=1)[0],
        "MatMul",
    ]
    found = kernels(tmp_path / "q.onnx")
    assert found["QLinearMatMul"] == 1
    assert not found["Relu"] + found["Clip"]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("Relu", ["ThresholdedRelu"]),
        ("Clip from 0", ["Max"]),
        ("Clip to 3", ["Min"]),
        ("Clip from -3 to 3", ["Max", "Min"]),
    ],
)
def test_others_are_written_in_a_form_with_the_same_values(
    tmp_path: Path, name: str, expected: list[str]
) -> None:
    net = Net((8, 16))
    h = CLIPS[name](net, net.matmul("x"))
    check(net, net.model(h), tmp_path / "q.onnx")
    assert written(tmp_path / "q.onnx") == ["MatMul", *expected]
    changed = onnx.load(tmp_path / "q.onnx")
    session = models.session(changed, exact=True)
    (first,) = session.run(None, net.feeds()[0])
    # The same graph, with the node as it was.
    kept = [node for node in changed.graph.node if node.op_type not in expected]
    source = next(n.output[0] for n in kept if n.op_type == "MatMul")
    (own,) = (n for n in net.nodes if n.output[0] == h)
    own.input[0] = source
    del changed.graph.node[:]
    changed.graph.node.extend([*kept, own])
    (second,) = models.session(changed, exact=True).run(None, net.feeds()[0])
    np.testing.assert_array_equal(first, second)
    assert (first < 3).any()


@pytest.mark.parametrize("low", [None, 0, -0.5, -0.78, -1e30])
@pytest.mark.parametrize("high", [0.4, 0.93, 1e9, 1e30])
@pytest.mark.parametrize("strategy", ["minmax", "percentile_99"])
@pytest.mark.parametrize("opset", [13, 21])
def test_bounds_near_the_range_and_far_from_it_take_no_kernel_away(
    tmp_path: Path, opset: int, strategy: str, low: float | None, high: float
) -> None:
    net = Net((8, 16))
    model = net.model(net.matmul(clip(low, high)(net, net.matmul("x"))))
    model.opset_import[0].version = opset
    path = tmp_path / "q.onnx"
    qc.onnx.quantize(model, path, net.feeds(), strategy=strategy, progress=False)
    found = kernels(path)
    assert found["QLinearMatMul"] + found["MatMulIntegerToFloat"] == 2


def test_a_relu_that_only_a_branch_reads_takes_no_kernel_away(tmp_path: Path) -> None:
    net = Net((8, 16))
    y = net.add("Relu", net.matmul("x"))
    inner = branch(net, len(net.nodes), net.matmul(y))
    check(net, net.model(*inner), tmp_path / "q.onnx")


def test_a_relu_behind_a_computed_sum_stays(tmp_path: Path) -> None:
    net = Net((8, 16))
    h = net.add("Add", net.matmul("x"), "x")
    check(net, net.model(net.add("Relu", h)), tmp_path / "q.onnx")
    assert written(tmp_path / "q.onnx")[-1] == "Relu"


@pytest.mark.parametrize(
    "options",
    [{"activation_type": "uint16"}, {"placement": "stock"}, {"target": "tensorrt"}],
    ids=["16 bits", "stock", "tensorrt"],
)
def test_without_integer_kernels_in_question_a_relu_stays(
    tmp_path: Path, options: dict[str, Any]
) -> None:
    net = Net((8, 16))
    h = net.matmul("x")
    model = net.model(net.matmul(net.add("Relu", h)), net.add("Softmax", h))
    path = tmp_path / "q.onnx"
    qc.onnx.quantize(model, path, net.feeds(), progress=False, **options)
    assert "Relu" in written(path)
