"""Where tensors are rounded, for each target, against fake quantization in numpy."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper

import onnx_models as models
import quantcal as qc

Array = np.ndarray[Any, Any]


def rows(width: int = 16, count: int = 3) -> list[dict[str, Any]]:
    return [{"x": models.random(9, width, seed=n)} for n in range(count)]


def images() -> list[dict[str, Any]]:
    return [{"x": models.random(1, 4, 9, w, seed=w)} for w in (8, 12)]


def chain(*nodes: onnx.NodeProto, outputs: Sequence[str] = ("y",)) -> onnx.ModelProto:
    """A model [n, 16] → any, with square weights w and v."""
    data = {"w": models.random(16, 16), "v": models.random(16, 16, seed=5)}
    data |= {"shape": np.array([-1, 4, 4]), "flat": np.array([-1, 16])}
    found = [models.value(name, ["m", "k"]) for name in outputs]
    graph = helper.make_graph(
        list(nodes),
        "chain",
        [models.value("x", ["n", 16])],
        found,
        [onnx.numpy_helper.from_array(a, n) for n, a in data.items()],
    )
    return helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8
    )


def node(op_type: str, inputs: str, output: str, **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(
        op_type, inputs.split(), [output], f"{output}_", **attributes
    )


def rounded(model: onnx.ModelProto) -> list[str]:
    """The tensors that QuantizeLinear nodes read, by the names of the float model."""
    return [
        n.input[0].removesuffix("_QuantizeLinear_Input")
        for n in model.graph.node
        if n.op_type == "QuantizeLinear"
    ]


def fake_weight(w: Array) -> Array:
    """int8 with a scale for each column, from the extremes."""
    scale = (np.abs(w).max(axis=0).astype(np.float64) / 127).astype(np.float32)
    return np.clip(np.rint(w / scale), -128, 127) * scale


def optimized(path: Path, folder: Path) -> Counter[str]:
    """The operators that onnxruntime runs."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.log_severity_level = 4
    level = ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.graph_optimization_level = level
    options.optimized_model_filepath = str(folder / "optimized.onnx")
    ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    model = onnx.load(folder / "optimized.onnx")
    return Counter(n.op_type for n in model.graph.node)


FORMATS = [
    *(("onnxruntime", f) for f in ("uint8", "int8", "uint16", "int16")),
    *(("onnxruntime", f) for f in ("float8_e4m3fn", "float8_e5m2")),
    ("tensorrt", "int8"),
    ("tensorrt", "float8_e4m3fn"),
]


CHOICES = [
    *((target, activation, "minimal") for target, activation in FORMATS),
    *(("onnxruntime", f, "stock") for f in ("uint8", "int8", "uint16", "int16")),
]


@pytest.mark.parametrize(("target", "activation", "placement"), CHOICES)
def test_written_models_compute_what_fake_quantization_computes(
    tmp_path: Path, target: str, activation: str, placement: str
) -> None:
    """MatMul → ReLU → MatMul; each rounding by QuantParams, the rest by numpy."""
    model = chain(
        node("MatMul", "x w", "h"), node("Relu", "h", "r"), node("MatMul", "r v", "y")
    )
    path = tmp_path / "q.onnx"
    result = qc.onnx.quantize(
        model,
        path,
        rows(),
        target=target,
        activation_type=activation,
        placement=placement,
        weight_type="int8",
        reduce_range=False,
        strategy="minmax",
        progress=False,
    )
    written = onnx.load(path)
    onnx.checker.check_model(written)
    table = result.table
    assert {p.format for p in table.values()} == {activation}
    if placement == "minimal":
        places = ["x", "r"]
    elif activation.startswith("u"):
        places = ["x", "r", "y"]
    else:
        places = ["x", "h", "r", "y"]
    assert rounded(written) == places
    assert set(table) == set(places)

    def fake(name: str, array: Array) -> Array:
        return table[name].fake_quantize(array) if name in table else array

    w, v = (
        fake_weight(models.random(16, 16)),
        fake_weight(models.random(16, 16, seed=5)),
    )
    for feed in rows():
        h = fake("h", fake("x", feed["x"]) @ w)
        y = fake("y", fake("r", np.maximum(h, 0)) @ v)
        (got,) = models.session(str(path), exact=True).run(None, feed)
        # Sums in another order may round to the next code, but this is rare.
        step = max((float(p.scale) for p in table.values()), default=0)
        assert np.mean(np.isclose(got, y, atol=1e-4)) > 0.97
        np.testing.assert_allclose(
            got, y, atol=20 * step if "8" in activation else 1e-2
        )


def test_tensorrt_gets_symmetric_codes_by_channel_and_float_biases(
    tmp_path: Path,
) -> None:
    data = {"w": models.random(4, 4, 3, 3), "b": models.random(4)}
    conv = helper.make_node("Conv", ["x", "w", "b"], ["y"], pads=[1, 1, 1, 1])
    shape = ["n", 4, "h", "w"]
    model = models.build(
        [conv], [models.value("x", shape)], [models.value("y", shape)], data
    )
    path = tmp_path / "q.onnx"
    result = qc.onnx.quantize(
        model, path, images(), target="tensorrt", progress=False, strategy="mse"
    )
    written = onnx.load(path)
    onnx.checker.check_model(written)
    assert {n.op_type for n in written.graph.node} == {
        *("Conv", "QuantizeLinear", "DequantizeLinear")
    }
    constants = {
        t.name: onnx.numpy_helper.to_array(t) for t in written.graph.initializer
    }
    for n in written.graph.node:
        if n.op_type.endswith("Linear"):
            zero = constants[n.input[2]]
            assert zero.dtype == np.int8
            assert not zero.any()
    assert constants["w_scale"].shape == (4,)
    (conv,) = [n for n in written.graph.node if n.op_type == "Conv"]
    assert conv.input[2] == "b"
    assert rounded(written) == ["x"]
    assert result.summary().count("TensorRT adds products in 32 bits") == 1


def test_tensorrt_rounds_the_shortcut_of_a_sum_and_not_the_conv_before_it(
    tmp_path: Path,
) -> None:
    path = tmp_path / "q.onnx"
    qc.onnx.quantize(
        models.residual(),
        path,
        images(),
        target="tensorrt",
        progress=False,
        strategy="mse",
    )
    written = onnx.load(path)
    assert rounded(written) == ["x", "r", "s"]
    (total,) = [n for n in written.graph.node if n.op_type == "Add"]
    # The convolution's output is float; the shortcut is what the first one reads.
    (conv1,) = [n for n in written.graph.node if n.name == "conv1"]
    assert list(total.input) == ["c", conv1.input[0]]


def test_onnxruntime_takes_every_conv_and_its_relu_as_one_integer_kernel(
    tmp_path: Path,
) -> None:
    path = tmp_path / "q.onnx"
    qc.onnx.quantize(models.residual(), path, images(), progress=False, strategy="mse")
    assert rounded(onnx.load(path)) == ["x", "r", "s", "c"]
    kinds = optimized(path, tmp_path)
    assert kinds["QLinearConv"] == 3
    assert kinds["Conv"] == kinds["FusedConv"] == 0
    assert kinds["Relu"] == 1  # after the sum, which is in float


def test_a_float_node_reads_the_unrounded_tensor_beside_a_quantized_node(
    tmp_path: Path,
) -> None:
    model = chain(node("MatMul", "x w", "h"), node("Sub", "x h", "y"))
    path = tmp_path / "q.onnx"
    result = qc.onnx.quantize(model, path, rows(), progress=False, strategy="mse")
    (sub,) = [n for n in onnx.load(path).graph.node if n.op_type == "Sub"]
    assert sub.input[0] == "x"
    assert list(result.table) == ["x"]


MOVES = {
    "Reshape": node("Reshape", "h flat", "m"),
    "Transpose": node("Transpose", "h", "m", perm=[0, 1]),
    "Identity": node("Identity", "h", "m"),
    "Flatten": node("Flatten", "h", "m"),
}


@pytest.mark.parametrize("move", MOVES)
def test_moved_values_have_one_range_and_are_observed_once(
    tmp_path: Path, move: str
) -> None:
    model = chain(node("MatMul", "x w", "h"), MOVES[move], node("MatMul", "m v", "y"))
    result = qc.onnx.quantize(
        model,
        tmp_path / "q.onnx",
        rows(),
        progress=False,
        placement="stock",
        strategy="mse",
    )
    assert sorted(result.table) == ["h", "m", "x", "y"]
    assert result.tensors_observed == 3
    assert result.table["m"] == result.table["h"]
    # Rounding again with the same grid changes nothing.
    once = result.table["h"].fake_quantize(models.random(999))
    np.testing.assert_array_equal(result.table["m"].fake_quantize(once), once)


def test_selected_values_take_the_range_that_they_come_from(tmp_path: Path) -> None:
    split = helper.make_node("Split", ["h"], ["a", "b"], axis=0)
    model = chain(
        node("MatMul", "x w", "h"),
        split,
        node("MatMul", "a v", "y"),
        node("MatMul", "b v", "z"),
        outputs=["y", "z"],
    )
    feeds = [{"x": models.random(8, 16, seed=n)} for n in range(3)]
    result = qc.onnx.quantize(
        model,
        tmp_path / "q.onnx",
        feeds,
        progress=False,
        placement="stock",
        strategy="mse",
    )
    assert result.table["a"] == result.table["b"] == result.table["h"]
    assert result.tensors_observed == 4  # x, h, y, z


def test_a_concat_of_quantized_tensors_has_the_range_of_all(tmp_path: Path) -> None:
    model = chain(
        node("MatMul", "x w", "a"),
        node("MatMul", "x v", "b"),
        node("Concat", "a b", "c", axis=0),
        node("MatMul", "c w", "y"),
    )
    result = qc.onnx.quantize(
        model,
        tmp_path / "q.onnx",
        rows(),
        strategy="minmax",
        placement="stock",
        progress=False,
    )
    table = result.table
    assert table["a"] == table["b"] == table["c"]
    seen = np.concatenate([f["x"] @ models.random(16, 16) for f in rows()])
    more = np.concatenate([f["x"] @ models.random(16, 16, seed=5) for f in rows()])
    report = table.report["a"]
    assert report.count == seen.size + more.size
    both = np.concatenate([seen, more])
    assert report.min == pytest.approx(both.min(), rel=1e-5)
    assert report.max == pytest.approx(both.max(), rel=1e-5)


def test_a_concat_with_a_float_input_shares_no_range(tmp_path: Path) -> None:
    model = chain(
        node("MatMul", "x w", "a"),
        node("Exp", "x", "b"),
        node("Concat", "a b", "c", axis=0),
        node("MatMul", "c w", "y"),
    )
    result = qc.onnx.quantize(
        model,
        tmp_path / "q.onnx",
        rows(),
        progress=False,
        placement="stock",
        strategy="mse",
    )
    assert result.table["a"] != result.table["c"]


def test_before_a_relu_signed_codes_take_the_range_behind_it(tmp_path: Path) -> None:
    model = chain(
        node("MatMul", "x w", "h"), node("Relu", "h", "r"), node("MatMul", "r v", "y")
    )
    path = tmp_path / "q.onnx"
    result = qc.onnx.quantize(
        model,
        path,
        rows(),
        activation_type="int8",
        placement="stock",
        strategy="minmax",
        progress=False,
    )
    assert result.table["h"] == result.table["r"]
    behind = max((f["x"] @ models.random(16, 16)).max() for f in rows())
    assert result.table["h"].high == pytest.approx(behind, rel=1e-5)


def test_formats_and_strategies_by_tensor_and_by_node(tmp_path: Path) -> None:
    model = chain(
        node("MatMul", "x w", "h"), node("Tanh", "h", "t"), node("MatMul", "t v", "y")
    )
    result = qc.onnx.quantize(
        model,
        tmp_path / "q.onnx",
        rows(),
        activation_formats={"x": "int8", "node:y_": "uint16"},
        strategy={"t": "minmax", "node:y_": "percentile_99", "*": "mse"},
        placement="stock",
        progress=False,
    )
    found = {name: (p.format, p.strategy) for name, p in result.table.items()}
    assert found == {
        "x": ("int8", "mse"),
        "h": ("uint8", "mse"),
        "t": ("uint16", "minmax"),
        "y": ("uint16", "percentile_99"),
    }
    for option, rules in (("activation_formats", "int8"), ("strategy", "mse")):
        with pytest.raises(
            qc.CalibrationError, match=r"'node:z_' matches no.*Near names: y_, h_"
        ):
            qc.onnx.quantize(
                model,
                tmp_path / "q.onnx",
                rows(),
                **{option: {"node:z_": rules, "*": rules}},
            )


def test_included_nodes_only(tmp_path: Path) -> None:
    model = models.residual()
    for name in ("conv1", "b", "conv[1]"):  # by its name, its tensor's, a pattern
        result = qc.onnx.quantize(
            model,
            tmp_path / "q.onnx",
            images(),
            include=[name],
            progress=False,
            strategy="mse",
        )
        assert result.quantized_nodes == {"Conv": 1}
        assert result.left_in_float == {"not included": 2}
    with pytest.raises(qc.CalibrationError, match=r"include='cnv1'.*Near names: conv"):
        qc.onnx.quantize(
            model, tmp_path / "q.onnx", images(), include=["cnv1"], strategy="mse"
        )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"target": "tensort"}, "target='tensort' is not known. Did you mean tensorrt"),
        (
            {"target": "tensorrt", "activation_type": "uint8"},
            "for target='tensorrt'.*int8",
        ),
        ({"target": "tensorrt", "weight_type": "int4"}, 'Add activation_type="none"'),
        ({"activation_formats": {"x": "int3"}}, r"formats\['x'\]='int3' is not known"),
        ({"activation_formats": {"q": "int8"}}, "'q' matches no quantized tensor"),
        ({"weight_strategy": "kl"}, "weight_strategy='kl'.*minmax, mse"),
        ({"block_size": 24}, "block_size is 24"),
        ({"include": "conv1"}, "include is the string"),
    ],
)
def test_wrong_options_are_refused_by_name(
    tmp_path: Path, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(qc.CalibrationError, match=message):
        qc.onnx.quantize(models.residual(), tmp_path / "q.onnx", images(), **options)
