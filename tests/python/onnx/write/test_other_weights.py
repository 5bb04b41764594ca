"""Weights of other operators: quantized nodes have codes, and float weights are reported."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import cli_runs
import onnx_models as models
import quantcal as qc

node = helper.make_node
IDS = TensorProto.INT64


def recurrent(kind: str, gates: int, directions: int = 1) -> onnx.ModelProto:
    size, width = 24, 16
    weights = {
        "w": models.random(directions, gates * size, width) / 4,
        "r": models.random(directions, gates * size, size, seed=2) / 8,
        "b": models.random(directions, 2 * gates * size, seed=3),
    }
    options = {"direction": "bidirectional"} if directions == 2 else {}
    made = node(kind, ["x", "w", "r", "b"], ["y"], "rec", hidden_size=size, **options)
    x, y = (
        models.value("x", ["t", 3, width]),
        models.value("y", ["t", directions, 3, size]),
    )
    return models.build([made], [x], [y], weights)


def gather(axis: int = 0, shape: tuple[int, ...] = (50, 32)) -> onnx.ModelProto:
    ids, y = models.value("x", ["b", "s"], IDS), models.value("y", None)
    out = [*shape[:axis], "b", "s", *shape[axis + 1 :]]
    y = models.value("y", out)
    made = node("Gather", ["w", "x"], ["y"], "gather", axis=axis)
    return models.build([made], [ids], [y], {"w": models.random(*shape)})


def einsum() -> onnx.ModelProto:
    made = node("Einsum", ["x", "w"], ["y"], "einsum", equation="bi,ij->bj")
    x, y = models.value("x", ["n", 16]), models.value("y", ["n", 40])
    return models.build([made], [x], [y], {"w": models.random(16, 40)})


def attention() -> onnx.ModelProto:
    made = node(
        "Attention", ["x", "w", "c"], ["y"], "att", domain="com.microsoft", num_heads=2
    )
    x, y = models.value("x", ["b", "s", 16]), models.value("y", ["b", "s", 16])
    weights = {"w": models.random(16, 48), "c": models.random(48)}
    inits = [numpy_helper.from_array(a, n) for n, a in weights.items()]
    graph = helper.make_graph([made], "small", [x], [y], inits)
    domains = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=domains, ir_version=8)


CODED = {
    "Gather": (gather(), "Gather"),
    "Gather, last axis": (gather(1), "Gather"),
    "Gather, middle axis": (gather(1, (6, 20, 8)), "Gather"),
    "Gather, negative axis": (gather(0, (20, 4, 8)), "Gather"),
    "Gather of narrow rows": (gather(0, (40, 3)), "Gather"),
    "LSTM": (recurrent("LSTM", 4), "LSTM"),
    "LSTM both ways": (recurrent("LSTM", 4, 2), "LSTM"),
    "GRU": (recurrent("GRU", 3), "GRU"),
    "RNN": (recurrent("RNN", 1), "RNN"),
    "Einsum": (einsum(), "Einsum"),
    "Attention": (attention(), "com.microsoft.Attention"),
}


def samples(model: onnx.ModelProto) -> list[dict[str, Any]]:
    (value,) = model.graph.input
    dims = [d.dim_value or 5 for d in value.type.tensor_type.shape.dim]
    if value.type.tensor_type.elem_type == IDS:
        rng = np.random.default_rng(3)
        return [{"x": rng.integers(0, 6, dims)} for _ in range(3)]
    return [{"x": models.random(*dims, seed=k)} for k in range(3)]


def float_matrices(path: Path) -> list[str]:
    return [
        t.name
        for t in onnx.load(path).graph.initializer
        if t.data_type == TensorProto.FLOAT
        and len(t.dims) > 1
        and not t.name.endswith("_scale")
        and "quantized" not in t.name
    ]


@pytest.mark.parametrize("weight", ["int8", "uint8", "int16"])
@pytest.mark.parametrize("per_channel", [True, False])
@pytest.mark.parametrize("activation", ["none", "uint8"])
@pytest.mark.parametrize("name", CODED)
def test_other_operators_have_quantized_weights_and_float_inputs(
    name: str, activation: str, per_channel: bool, weight: str, tmp_path: Path
) -> None:
    model, operator = CODED[name]
    path = tmp_path / "q.onnx"
    result = qc.onnx.quantize(
        model,
        path,
        samples(model),
        op_types=[operator],
        activation_type=activation,
        weight_type=weight,
        per_channel=per_channel,
        progress=False,
        strategy="mse",
    )
    assert result.quantized_nodes == {operator: 1}
    assert result.left_in_float == {}
    assert result.quantize_nodes == 0
    biases = [n for n in float_matrices(path) if n not in ("b", "c")]
    assert biases == []
    bound = {"int8": 28, "uint8": 28, "int16": 70}[weight]
    for exact in (True, False):
        got = models.session(str(path), exact=exact)
        for feed in samples(model):
            (want,) = models.session(model, exact=True).run(None, feed)
            assert models.signal_to_noise(want, got.run(None, feed)[0]) > bound


@pytest.mark.parametrize("name", [name for name in CODED if name.startswith("Gather")])
def test_a_gather_reads_codes_and_dequantizes_only_its_rows(
    name: str, tmp_path: Path
) -> None:
    """Otherwise onnxruntime would dequantize the whole table in each inference."""
    model, operator = CODED[name]
    path = tmp_path / "q.onnx"
    for weight in ("int8", "uint8"):
        qc.onnx.quantize(
            model,
            path,
            activation_type="none",
            op_types=[operator],
            weight_type=weight,
            progress=False,
        )
        graph = onnx.load(path).graph
        kinds = {t.name: t.data_type for t in graph.initializer}
        (first, *_) = [n for n in graph.node if n.op_type == "Gather"]
        assert kinds[first.input[0]] in (TensorProto.INT8, TensorProto.UINT8)
        decoded = {n.op_type: n for n in graph.node}
        assert "DequantizeLinear" in decoded or "Cast" in decoded
        assert all(n.input[0] not in kinds for n in graph.node if n.op_type == "Cast")


def test_rows_of_a_table_take_8_bits_where_weights_take_4(tmp_path: Path) -> None:
    """No Gather reads 4-bit codes, and dequantizing a table each time is slow."""
    path = tmp_path / "q.onnx"
    result = qc.onnx.quantize(
        gather(),
        path,
        activation_type="none",
        op_types=["Gather"],
        weight_type="int4",
        progress=False,
    )
    assert result.weight_formats == {"int8": 1}


def test_a_gather_of_activations_is_rounded_as_before(tmp_path: Path) -> None:
    nodes = [
        node("MatMul", ["x", "w"], ["h"], "first"),
        node("Gather", ["h", "k"], ["g"], "pick", axis=1),
        node("MatMul", ["g", "v"], ["y"], "last"),
    ]
    weights = {
        "w": models.random(8, 8),
        "k": np.arange(4),
        "v": models.random(4, 8, seed=2),
    }
    x, y = models.value("x", ["n", 8]), models.value("y", ["n", 8])
    model, path = models.build(nodes, [x], [y], weights), tmp_path / "q.onnx"
    feeds = [{"x": models.random(6, 8, seed=k)} for k in range(3)]
    result = qc.onnx.quantize(
        model,
        path,
        feeds,
        op_types=["MatMul", "Gather"],
        progress=False,
        strategy="mse",
    )
    assert result.quantized_nodes == {"MatMul": 2, "Gather": 1}
    assert "g" in result.table


def vectors(kind: str) -> onnx.ModelProto:
    made = {
        "PRelu": node("PRelu", ["h", "s"], ["y"], "odd"),
        "LayerNormalization": node("LayerNormalization", ["h", "s"], ["y"], "odd"),
        "Pow": node("Pow", ["h", "s"], ["y"], "odd"),
    }[kind]
    nodes = [node("MatMul", ["x", "w"], ["h"], "first"), made]
    weights = {"w": models.random(16, 16), "s": np.full(16, 2, np.float32)}
    x, y = models.value("x", ["n", 16]), models.value("y", ["n", 16])
    return models.build(nodes, [x], [y], weights)


@pytest.mark.parametrize("options", [{}, {"activation_type": "none"}])
@pytest.mark.parametrize("kind", ["PRelu", "LayerNormalization", "Pow"])
def test_nodes_with_unsupported_weights_stay_in_float(
    kind: str, options: dict[str, Any], tmp_path: Path
) -> None:
    model = vectors(kind)
    feeds = [{"x": models.random(4, 16, seed=k)} for k in range(3)]
    result = qc.onnx.quantize(
        model,
        tmp_path / "q.onnx",
        feeds,
        op_types=["MatMul", kind],
        progress=False,
        **options,
    )
    assert result.quantized_nodes == {"MatMul": 1}
    assert result.left_in_float == {"with weights that cannot be coded ('s')": 1}


def mixed() -> onnx.ModelProto:
    """A MatMul, and an LSTM that has most of the file, with transposed weights."""
    size, width = 48, 16
    weights = {
        "m": models.random(width, width),
        "w0": models.random(4 * size, width) / 4,
        "one": np.array([0]),
        "r": models.random(1, 4 * size, size, seed=2) / 8,
    }
    nodes = [
        node("MatMul", ["x", "m"], ["h"], "first"),
        node("Unsqueeze", ["w0", "one"], ["w"], "move"),
        node("LSTM", ["h", "w", "r"], ["y"], "lstm", hidden_size=size),
    ]
    x, y = models.value("x", ["t", 2, width]), models.value("y", ["t", 1, 2, size])
    return models.build(nodes, [x], [y], weights)


def test_nodes_that_were_not_chosen_are_named_with_their_share(tmp_path: Path) -> None:
    model, path = mixed(), tmp_path / "q.onnx"
    feeds = [{"x": models.random(5, 2, 16, seed=k)} for k in range(3)]
    result = qc.onnx.quantize(model, path, feeds, progress=False, strategy="mse")
    held = 4 * 4 * 48 * (16 + 48)
    assert result.float_weights == {"LSTM": held}
    assert result.model_bytes == path.stat().st_size
    share = held / path.stat().st_size
    assert share > 0.9
    text = result.summary()
    assert "left in float     none of the chosen types" in text
    assert f"float weights     LSTM {100 * share:.1f} % of the file" in text
    written = qc.onnx.write(model, path, result.table)
    assert written.float_weights == result.float_weights
    all_of_it = qc.onnx.quantize(
        model,
        path,
        feeds,
        op_types=["MatMul", "LSTM"],
        progress=False,
        strategy="mse",
    )
    assert all_of_it.float_weights == {}
    assert "left in float     none\n" in all_of_it.summary()


def test_weights_outside_the_file_are_counted_but_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from quantcal.onnx._write.float_weights import count_float_weights

    path = tmp_path / "m.onnx"
    onnx.save_model(
        mixed(), str(path), save_as_external_data=True, location="d", size_threshold=64
    )
    (tmp_path / "d").unlink()
    graph = onnx.load(str(path), load_external_data=False).graph
    held = 4 * 4 * 48 * (16 + 48)
    assert count_float_weights(graph) == {"LSTM": held, "MatMul": 4 * 16 * 16}


def test_the_command_line_names_what_stays_in_float(tmp_path: Path) -> None:
    model = tmp_path / "m.onnx"
    onnx.save(mixed(), str(model))
    done = cli_runs.call(
        *("quantize", model, "-o", tmp_path / "q.onnx", "--activation-type", "none")
    )
    assert done.facts["left in float"] == "none of the chosen types"
    assert re.fullmatch(r"LSTM 9\d\.\d % of the file", done.facts["float weights"])


def test_a_table_that_the_model_dequantizes_is_not_changed(tmp_path: Path) -> None:
    """It has no zero point, unlike the tables that quantcal writes."""
    nodes = [
        helper.make_node("DequantizeLinear", ["codes", "scale"], ["table"], "decode"),
        helper.make_node("Gather", ["table", "i"], ["g"], "gather"),
        helper.make_node("MatMul", ["g", "w"], ["y"], "matmul"),
    ]
    weights = {
        "codes": np.arange(-80, 80, dtype=np.int8).reshape(10, 16),
        "scale": np.float32(0.1),
        "w": models.random(16, 8),
    }
    ids = models.value("i", [4], TensorProto.INT64)
    model = models.build(nodes, [ids], [models.value("y", [4, 8])], weights)
    path = tmp_path / "q.onnx"
    feeds = [{"i": np.arange(k, k + 4)} for k in range(6)]
    qc.onnx.quantize(model, path, feeds, progress=False, strategy="mse")
    written = {node.name: list(node.input) for node in onnx.load(path).graph.node}
    assert written["decode"] == ["codes", "scale"]
    assert written["gather"] == ["table", "i"]
