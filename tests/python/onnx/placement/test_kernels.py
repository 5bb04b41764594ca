"""Every quantized node keeps an integer kernel of onnxruntime, and no rounding beyond it.

Each form of the graph around a MatMul, Gemm or Conv is quantized; the graph that
onnxruntime saves after optimization must hold as many integer kernels as quantized nodes
and no float one. The outputs must agree with the float model.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import helper, numpy_helper

import onnx_models as models
import quantcal as qc

INTEGER = ("QLinearMatMul", "MatMulIntegerToFloat", "QGemm", "QLinearConv")
FLOAT = ("MatMul", "Gemm", "FusedMatMul", "FusedGemm", "Conv", "FusedConv")

Shape = tuple[Any, ...]


class Net:
    """A graph that grows node by node; each method returns the name of what it adds."""

    def __init__(self, shape: Shape) -> None:
        self.shape = shape
        self.nodes: list[onnx.NodeProto] = []
        self.weights: dict[str, np.ndarray[Any, Any]] = {}

    def weight(self, *shape: int) -> str:
        name = f"w{len(self.weights)}"
        self.weights[name] = models.random(*shape, seed=len(self.weights))
        return name

    def add(self, op_type: str, *inputs: str, **attributes: Any) -> str:
        name = f"t{len(self.nodes)}"
        self.nodes.append(
            helper.make_node(op_type, inputs, [name], f"{name}_", **attributes)
        )
        return name

    def matmul(self, x: str, rows: int = 16, columns: int = 16) -> str:
        return self.add("MatMul", x, self.weight(rows, columns))

    def model(self, *outputs: str) -> onnx.ModelProto:
        graph = helper.make_graph(
            self.nodes,
            "net",
            [models.value("x", self.shape)],
            [models.value(name, None) for name in outputs],
            [numpy_helper.from_array(a, n) for n, a in self.weights.items()],
        )
        opset = [helper.make_opsetid("", 17)]
        model = helper.make_model(graph, opset_imports=opset, ir_version=8)
        return onnx.shape_inference.infer_shapes(model)

    def feeds(self) -> list[dict[str, Any]]:
        sizes = [d if isinstance(d, int) else 3 for d in self.shape]
        return [{"x": models.random(*sizes, seed=n)} for n in range(4)]


def kernels(path: Path) -> Counter[str]:
    """The operators that onnxruntime runs, by its default optimizations."""
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.optimized_model_filepath = str(path.with_suffix(".optimized"))
    ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    saved = onnx.load(options.optimized_model_filepath)
    return Counter(node.op_type for node in saved.graph.node)


def decibels(model: onnx.ModelProto, path: Path, feeds: list[dict[str, Any]]) -> float:
    first, second = (
        models.session(source).run(None, feeds[0]) for source in (model, str(path))
    )
    noise = sum(float(((a - b) ** 2).sum()) for a, b in zip(first, second, strict=True))
    return 10 * float(np.log10(sum(float((a**2).sum()) for a in first) / noise))


def check(net: Net, model: onnx.ModelProto, path: Path, **options: Any) -> Any:
    """Quantize; every quantized node has its integer kernel, none a float one."""
    result = qc.onnx.quantize(
        model, path, net.feeds(), progress=False, strategy="minmax", **options
    )
    found = kernels(path)
    count = sum(node.op_type in ("MatMul", "Gemm", "Conv") for node in model.graph.node)
    assert result.left_in_float == {}
    assert sum(result.quantized_nodes.values()) == count
    assert not any(found[kind] for kind in FLOAT), found
    assert sum(found[kind] for kind in INTEGER) == count, found
    assert decibels(model, path, net.feeds()) > 30
    return result


def alone(net: Net) -> list[str]:
    return [net.matmul("x")]


def bias(net: Net) -> list[str]:
    return [net.add("Add", net.matmul("x"), net.weight(16))]


def bias_first(net: Net) -> list[str]:
    return [net.add("Add", net.weight(16), net.matmul("x"))]


def bias_softmax(net: Net) -> list[str]:
    return [net.add("Softmax", *bias(net))]


def bias_relu_matmul(net: Net) -> list[str]:
    return [net.matmul(net.add("Relu", *bias(net)))]


def bias_tanh_bias(net: Net) -> list[str]:
    h = net.add("Tanh", *bias(net))
    return [net.add("Add", net.matmul(h), net.weight(16))]


def bias_matmul(net: Net) -> list[str]:
    return [net.matmul(*bias(net))]


def bias_read_rounded_and_in_float(net: Net) -> list[str]:
    (h,) = bias(net)
    return [net.matmul(h), net.add("Softmax", h)]


def read_rounded_and_in_float(net: Net) -> list[str]:
    h = net.matmul("x")
    return [net.matmul(h), net.add("Softmax", h)]


def read_by_two_in_float(net: Net) -> list[str]:
    h = net.matmul("x")
    return [net.add("Softmax", h), net.add("Tanh", h)]


def output_and_read(net: Net) -> list[str]:
    h = net.matmul("x")
    return [h, net.matmul(h)]


def residual(net: Net) -> list[str]:
    return [net.add("Add", net.matmul("x"), "x")]


def residual_second(net: Net) -> list[str]:
    return [net.add("Add", "x", net.matmul("x"))]


def bias_residual(net: Net) -> list[str]:
    return [net.add("Add", *bias(net), "x")]


def two_added(net: Net) -> list[str]:
    return [net.add("Add", net.matmul("x"), net.matmul("x"))]


def scalar_added(net: Net) -> list[str]:
    return [net.add("Add", net.matmul("x"), net.weight(1))]


def scaled(net: Net) -> list[str]:
    return [net.add("Softmax", net.add("Mul", net.matmul("x"), net.weight(1)))]


def gelu(net: Net) -> list[str]:
    (h,) = bias(net)
    part = net.add("Add", net.add("Erf", h), net.weight(1))
    return [net.matmul(net.add("Mul", h, part))]


FORMS: list[Callable[[Net], list[str]]] = [
    *(alone, bias, bias_first, bias_softmax, bias_relu_matmul, bias_tanh_bias),
    *(bias_matmul, bias_read_rounded_and_in_float, read_rounded_and_in_float),
    *(read_by_two_in_float, output_and_read, residual, residual_second),
    *(bias_residual, two_added, scalar_added, scaled, gelu),
]
SHAPES: dict[str, Shape] = {
    "matrix": (4, 16),
    "open matrix": ("n", 16),
    "fixed stack": (2, 4, 16),
    "open stack": ("b", "s", 16),
    "half-open stack": ("b", 4, 16),
    "stack of stacks": (1, 2, 3, 16),
}


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.__name__)
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_a_matmul_keeps_its_integer_kernel_whatever_stands_behind_it(
    tmp_path: Path, form: Callable[[Net], list[str]], shape: Shape
) -> None:
    net = Net(shape)
    check(net, net.model(*form(net)), tmp_path / "q.onnx")


# Where several nodes read one signed tensor, or a ReLU stands behind a matrix product,
# onnxruntime has no integer kernel on x86, however the model is written.
SIGNED = (alone, bias, bias_first, bias_softmax, bias_tanh_bias, residual, scaled, gelu)


@pytest.mark.parametrize("form", SIGNED, ids=lambda form: form.__name__)
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_signed_codes_are_multiplied_in_integers_where_one_node_reads_them(
    tmp_path: Path, form: Callable[[Net], list[str]], shape: Shape
) -> None:
    net = Net(shape)
    check(net, net.model(*form(net)), tmp_path / "q.onnx", activation="int8")


def transposed(net: Net) -> str:
    order = [*range(len(net.shape) - 2), len(net.shape) - 1, len(net.shape) - 2]
    return net.add("Transpose", "x", perm=order)


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_products_of_activations_are_multiplied_in_integers(
    tmp_path: Path, shape: Shape
) -> None:
    net = Net(shape)
    h = net.add("MatMul", "x", transposed(net))
    check(net, net.model(net.add("Softmax", h)), tmp_path / "q.onnx")


@pytest.mark.parametrize("size", [4, 1], ids=["a row", "a scalar"])
@pytest.mark.parametrize("shape", [(4, 16), (2, 4, 16)], ids=["matrix", "stack"])
def test_a_constant_added_to_a_product_of_activations_takes_no_kernel_away(
    tmp_path: Path, shape: Shape, size: int
) -> None:
    net = Net(shape)
    h = net.add("Add", net.add("MatMul", "x", transposed(net)), net.weight(size))
    check(net, net.model(net.add("Softmax", h)), tmp_path / "q.onnx")


def test_a_constant_too_large_for_codes_is_added_in_float_to_an_integer_product(
    tmp_path: Path,
) -> None:
    net = Net((4, 16))
    h = net.add("Add", net.matmul("x"), net.weight(16))
    net.weights["w1"][3:] = -3e38  # a mask
    model = net.model(net.add("Softmax", h))
    check(net, model, tmp_path / "q.onnx")
    (y,) = models.session(str(tmp_path / "q.onnx")).run(None, net.feeds()[0])
    assert not y[:, 3:].any()


@pytest.mark.parametrize("size", [(1, 16), (4, 16)], ids=["one row", "by row"])
def test_a_matrix_added_to_a_matmul_is_added_in_its_kernel(
    tmp_path: Path, size: tuple[int, int]
) -> None:
    net = Net((4, 16))
    model = net.model(net.add("Add", net.matmul("x"), net.weight(*size)))
    check(net, model, tmp_path / "q.onnx")


@pytest.mark.parametrize("move", ["Transpose", "Reshape"])
def test_a_product_that_is_moved_and_read_is_rounded_once(
    tmp_path: Path, move: str
) -> None:
    net = Net((4, 4, 16))
    h = net.matmul("x")
    if move == "Transpose":
        m = net.add("Transpose", h, perm=[1, 0, 2])
    else:
        net.weights["shape"] = np.array([4, -1, 16])
        m = net.add("Reshape", h, "shape")
    model = net.model(net.matmul(m), net.add("Softmax", m))
    result = check(net, model, tmp_path / "q.onnx")
    assert result.quantize_nodes == 2


@pytest.mark.parametrize("first", ["MatMul", "Gemm"])
def test_a_constant_first_factor_has_unsigned_codes_as_the_kernel_wants(
    tmp_path: Path, first: str
) -> None:
    net = Net((4, 16))
    h = net.add(first, net.weight(8, 4), "x")
    check(net, net.model(net.add("Softmax", h)), tmp_path / "q.onnx")


def gemm(net: Net, x: str = "x", *, biased: bool = True, transposed: int = 0) -> str:
    inputs = [x, net.weight(16, 16), *([net.weight(16)] if biased else [])]
    return net.add("Gemm", *inputs, transB=transposed)


@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize("transposed", [0, 1])
@pytest.mark.parametrize("behind", ["", "Relu", "Tanh"])
def test_a_gemm_keeps_its_integer_kernel(
    tmp_path: Path, behind: str, transposed: int, biased: bool
) -> None:
    net = Net(("n", 16))
    h = gemm(net, biased=biased, transposed=transposed)
    y = gemm(net, net.add(behind, h) if behind else h)
    check(net, net.model(y), tmp_path / "q.onnx")


@pytest.mark.parametrize("biased", [False, True])
def test_a_gemm_of_two_activations_keeps_its_integer_kernel(
    tmp_path: Path, biased: bool
) -> None:
    net = Net((4, 16))
    inputs = ["x", net.add("Relu", "x"), *([net.weight(4)] if biased else [])]
    check(net, net.model(net.add("Gemm", *inputs, transB=1)), tmp_path / "q.onnx")


def test_a_gemm_read_rounded_and_in_float_is_rounded_for_both(tmp_path: Path) -> None:
    net = Net((4, 16))
    h = gemm(net)
    check(net, net.model(gemm(net, h), net.add("Softmax", h)), tmp_path / "q.onnx")


def test_a_gemm_with_a_computed_bias_stays_in_float_and_says_so(
    tmp_path: Path,
) -> None:
    net = Net((4, 16))
    h = net.add("Gemm", "x", net.weight(16, 16), net.add("Relu", "x"))
    model = net.model(net.matmul(h))
    result = qc.onnx.quantize(model, tmp_path / "q.onnx", net.feeds(), progress=False)
    (reason,) = result.left_in_float
    assert "a computed bias" in reason
    assert result.quantized_nodes == {"MatMul": 1}


@pytest.mark.parametrize("behind", ["", "Relu", "Sigmoid", "MaxPool", "Add"])
def test_a_conv_is_rounded_behind_as_its_kernel_needs(
    tmp_path: Path, behind: str
) -> None:
    net = Net((1, 4, 8, 8))

    def conv(x: str) -> str:
        weights = net.weight(4, 4, 3, 3), net.weight(4)
        return net.add("Conv", x, *weights, pads=[1, 1, 1, 1])

    h = conv("x")
    if behind == "Add":
        h = net.add("Add", h, conv("x"))
    elif behind == "MaxPool":
        h = net.add("MaxPool", h, kernel_shape=[2, 2])
    elif behind:
        h = net.add(behind, h)
    check(net, net.model(conv(h)), tmp_path / "q.onnx")


def test_float_results_are_neither_observed_nor_rounded(tmp_path: Path) -> None:
    net = Net(("b", "s", 16))
    h = net.add("Tanh", *bias(net))
    model = net.model(net.add("Add", net.matmul(h), "x"))
    result = check(net, model, tmp_path / "q.onnx")
    assert set(result.table) == {"x", h}
    assert result.tensors_observed == result.quantize_nodes == 2


def test_the_stock_placement_rounds_what_onnxruntimes_own_quantizer_rounds(
    tmp_path: Path,
) -> None:
    net = Net(("b", "s", 16))
    h = net.add("Tanh", *bias(net))
    model = net.model(net.matmul(h))
    result = check(net, model, tmp_path / "q.onnx", placement="stock")
    assert set(result.table) == {"x", "t0", h, "t3"}
    assert kernels(tmp_path / "q.onnx")["QLinearMatMul"] == 2


@pytest.mark.parametrize("operator", ["Tanh", "Sub", "Exp"])
def test_an_operator_without_an_integer_kernel_stays_in_float(
    tmp_path: Path, operator: str
) -> None:
    net = Net(("b", "s", 16))
    h = net.matmul("x")
    y = net.add(operator, h, "x") if operator == "Sub" else net.add(operator, h)
    result = qc.onnx.quantize(
        net.model(y),
        tmp_path / "q.onnx",
        net.feeds(),
        op_types=["MatMul", operator],
        progress=False,
    )
    reason = f"without an integer kernel in onnxruntime ({operator})"
    assert result.left_in_float == {reason: 1}
    assert result.quantized_nodes == {"MatMul": 1}


def test_placements_are_checked(tmp_path: Path) -> None:
    net = Net((4, 16))
    model = net.model(net.matmul("x"))
    for options, message in (
        ({"placement": "stok"}, "placement='stok' is not known.*Did you mean stock"),
        ({"placement": "stock", "target": "tensorrt"}, "Leave it out"),
    ):
        with pytest.raises(qc.CalibrationError, match=message):
            qc.onnx.quantize(model, tmp_path / "q.onnx", net.feeds(), **options)
