"""Every quantized node keeps an integer kernel of onnxruntime.

Each form of the graph around a MatMul, Gemm or Conv is quantized. The graph that
onnxruntime saves after optimization must hold as many integer kernels as quantized nodes
and no float one. The outputs must agree with the float model.

The tests of Gemm and Conv compare ``result.table`` as well, which names the rounded tensors:
there no rounding is superfluous. Most forms of a MatMul are checked for kernels only.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest

import onnx_models as models
import quantcal as qc
from fused_kernels import Net, Shape, branch, check, kernels
from matmul_forms import FORMS, SHAPES, SIGNED, bias


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.__name__)
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_a_matmul_keeps_its_integer_kernel_whatever_stands_behind_it(
    tmp_path: Path, form: Callable[[Net], list[str]], shape: Shape
) -> None:
    net = Net(shape)
    check(net, net.model(*form(net)), tmp_path / "q.onnx")


# Where several nodes read one signed tensor onnxruntime has no integer kernel on x86,
# however the model is written.


@pytest.mark.parametrize("form", SIGNED, ids=lambda form: form.__name__)
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_signed_codes_are_multiplied_in_integers_where_one_node_reads_them(
    tmp_path: Path, form: Callable[[Net], list[str]], shape: Shape
) -> None:
    net = Net(shape)
    check(net, net.model(*form(net)), tmp_path / "q.onnx", activation_type="int8")


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


Unchanging = Callable[["Net", str], str]


def neutral(op_type: str, number: float, *, first: bool = False) -> Unchanging:
    def add(net: Net, x: str) -> str:
        name = f"n{len(net.weights)}"
        net.weights[name] = np.array([number], np.float32)
        return net.add(op_type, *((name, x) if first else (x, name)))

    return add


def dropout(net: Net, x: str) -> str:
    net.weights |= {"ratio": np.float32(0.3), "training": np.array(False)}
    return net.add("Dropout", x, "ratio", "training")


def expand(net: Net, x: str) -> str:
    net.weights["ones"] = np.array([1, 1])
    return net.add("Expand", x, "ones")


def chain_of_two(net: Net, x: str) -> str:
    return net.add("Identity", net.add("Dropout", x))


UNCHANGING: dict[str, Unchanging] = {
    "Identity": lambda net, x: net.add("Identity", x),
    "Dropout": lambda net, x: net.add("Dropout", x),
    "Dropout, training off": dropout,
    "Cast to float": lambda net, x: net.add("Cast", x, to=onnx.TensorProto.FLOAT),
    "Expand by ones": expand,
    "x+0": neutral("Add", 0),
    "0+x": neutral("Add", 0, first=True),
    "x-0": neutral("Sub", 0),
    "x*1": neutral("Mul", 1),
    "1*x": neutral("Mul", 1, first=True),
    "x/1": neutral("Div", 1),
    "two": chain_of_two,
}


def read_behind(net: Net, h: str, same: Unchanging) -> list[str]:
    h = same(net, h)
    return [net.matmul(h), net.add("Softmax", h)]


def read_rounded_behind(net: Net, h: str, same: Unchanging) -> list[str]:
    return [net.matmul(same(net, h)), net.add("Softmax", h)]


def read_in_float_behind(net: Net, h: str, same: Unchanging) -> list[str]:
    return [net.matmul(h), net.add("Softmax", same(net, h))]


def read_behind_and_output(net: Net, h: str, same: Unchanging) -> list[str]:
    return [h, net.matmul(same(net, h))]


def bias_behind(net: Net, h: str, same: Unchanging) -> list[str]:
    h = net.add("Add", same(net, h), net.weight(16))
    return [net.matmul(h), net.add("Softmax", h)]


def output_behind(net: Net, h: str, same: Unchanging) -> list[str]:
    h = same(net, h)
    return [h, net.matmul(h)]


def output_behind_and_read(net: Net, h: str, same: Unchanging) -> list[str]:
    return [same(net, h), net.matmul(h)]


READERS = [
    *(read_behind, read_rounded_behind, read_in_float_behind, read_behind_and_output),
    *(bias_behind, output_behind, output_behind_and_read),
]


@pytest.mark.parametrize("readers", READERS, ids=lambda readers: readers.__name__)
@pytest.mark.parametrize("same", UNCHANGING.values(), ids=UNCHANGING)
@pytest.mark.parametrize("shape", [("n", 16), (2, 4, 16)], ids=["matrix", "stack"])
def test_what_onnxruntime_removes_behind_a_matmul_takes_no_kernel_away(
    tmp_path: Path,
    shape: Shape,
    same: Unchanging,
    readers: Callable[[Net, str, Unchanging], list[str]],
) -> None:
    net = Net(shape)
    check(net, net.model(*readers(net, net.matmul("x"), same)), tmp_path / "q.onnx")


@pytest.mark.parametrize("same", UNCHANGING.values(), ids=UNCHANGING)
def test_what_onnxruntime_removes_behind_a_gemm_takes_no_kernel_away(
    tmp_path: Path, same: Unchanging
) -> None:
    net = Net((4, 16))
    model = net.model(*read_behind(net, gemm(net), same))
    check(net, model, tmp_path / "q.onnx")


def test_both_sides_of_what_onnxruntime_removes_are_rounded_alike(
    tmp_path: Path,
) -> None:
    net = Net((4, 16))
    h = net.matmul("x")
    behind = net.add("Dropout", h)
    model = net.model(net.matmul(behind), net.add("Softmax", h))
    result = check(net, model, tmp_path / "q.onnx")
    assert result.table[behind] == result.table[h]
    assert result.tensors_observed == 2  # x and h


def test_a_dropout_whose_mask_is_read_stays_and_needs_no_rounding_before_it(
    tmp_path: Path,
) -> None:
    net = Net((4, 16))
    h = net.matmul("x")
    kept = net.add("Dropout", h)
    net.nodes[-1].output.append("mask")
    net.add("Cast", "mask", to=onnx.TensorProto.FLOAT)
    model = net.model(net.matmul(kept), net.add("Softmax", h), net.nodes[-1].output[0])
    result = check(net, model, tmp_path / "q.onnx")
    assert set(result.table) == {"x", kept}
    assert kernels(tmp_path / "q.onnx")["Dropout"] == 1


def test_a_node_that_changes_values_is_rounded_behind_only(tmp_path: Path) -> None:
    for add in (neutral("Mul", 2), neutral("Sub", 1), neutral("Div", 0.5)):
        net = Net((4, 16))
        h = net.matmul("x")
        scaled = add(net, h)
        model = net.model(net.matmul(scaled), net.add("Softmax", h))
        result = check(net, model, tmp_path / "q.onnx")
        assert set(result.table) == {"x", scaled}


def test_one_with_an_axis_more_than_the_product_stays(tmp_path: Path) -> None:
    net = Net((4, 16))
    net.weights["one"] = np.ones((1, 1, 1), np.float32)
    h = net.matmul("x")
    higher = net.add("Mul", h, "one")
    model = net.model(net.matmul(higher), net.add("Softmax", h))
    result = check(net, model, tmp_path / "q.onnx")
    assert set(result.table) == {"x", higher}


@pytest.mark.parametrize("same", UNCHANGING.values(), ids=UNCHANGING)
@pytest.mark.parametrize("outside", ["nothing", "MatMul", "both"])
def test_what_onnxruntime_removes_in_a_branch_takes_no_kernel_away(
    tmp_path: Path, outside: str, same: Unchanging
) -> None:
    """The MatMul and what changes nothing lie outside the branch, or in it."""
    net = Net((4, 16))
    h = net.matmul("x")
    beside = [net.add("Tanh", h)] if outside == "MatMul" else []
    first = len(net.nodes) if outside == "MatMul" else 0
    h = same(net, h)
    if outside == "both":
        beside = [net.add("Tanh", h)]
        first = len(net.nodes)
    inner = branch(net, first, net.matmul(h), net.add("Softmax", h))
    check(net, net.model(*inner, *beside), tmp_path / "q.onnx")


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
    read = net.add(behind, h) if behind else h
    result = check(net, net.model(gemm(net, read)), tmp_path / "q.onnx")
    assert set(result.table) == {"x", read}
    assert result.quantize_nodes == 2


@pytest.mark.parametrize("biased", [False, True])
def test_a_gemm_of_two_activations_keeps_its_integer_kernel(
    tmp_path: Path, biased: bool
) -> None:
    net = Net((4, 16))
    relu = net.add("Relu", "x")
    inputs = ["x", relu, *([net.weight(4)] if biased else [])]
    model = net.model(net.add("Gemm", *inputs, transB=1))
    result = check(net, model, tmp_path / "q.onnx")
    assert set(result.table) == {"x", relu}


def test_a_gemm_read_rounded_and_in_float_is_rounded_for_both(tmp_path: Path) -> None:
    net = Net((4, 16))
    h = gemm(net)
    model = net.model(gemm(net, h), net.add("Softmax", h))
    result = check(net, model, tmp_path / "q.onnx")
    assert set(result.table) == {"x", h}


def test_a_gemm_with_a_computed_bias_stays_in_float_and_says_so(
    tmp_path: Path,
) -> None:
    net = Net((4, 16))
    h = net.add("Gemm", "x", net.weight(16, 16), net.add("Relu", "x"))
    model = net.model(net.matmul(h))
    result = qc.onnx.quantize(
        model, tmp_path / "q.onnx", net.feeds(), progress=False, strategy="mse"
    )
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
    model = net.model(conv(h))
    result = check(net, model, tmp_path / "q.onnx")
    made = {name for node in net.nodes for name in node.output}
    # Unsigned codes behind a Relu clip as it does, so nothing is rounded before it.
    unrounded = {"t0"} if behind == "Relu" else set()
    assert set(result.table) == {"x", *made} - unrounded
    assert result.quantize_nodes == len(result.table)


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
        strategy="mse",
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
