"""The error at every layer: its figures against plain ones, and the layer that is named."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import helper, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static

import fused_kernels
import onnx_models as models
import quantcal as qc
from cli_runs import call, run_in_terminal, save_model, save_samples
from quantcal.onnx._runtime.session import Workspace

IMAGES = [{"x": models.random(1, 3, 9, 12, seed=seed)} for seed in range(4)]
Array = np.ndarray[Any, Any]


def chain(layers: int = 4) -> onnx.ModelProto:
    """Conv → Relu → Conv → … on [n, 4, h, w], with as many Conv."""
    weights = {f"w{k}": models.random(4, 4, 1, 1, seed=k) / 2 for k in range(layers)}
    nodes, name = [], "x"
    for k in range(layers):
        made = "y" if k == layers - 1 else f"c{k}"
        nodes.append(helper.make_node("Conv", [name, f"w{k}"], [made], f"conv{k}"))
        name = made
        if k < layers - 1:
            name = f"r{k}"
            nodes.append(helper.make_node("Relu", [made], [name], f"relu{k}"))
    shape = ["n", 4, "h", "w"]
    return models.build(
        nodes, [models.value("x", shape)], [models.value("y", shape)], weights
    )


CHAIN_FEEDS = [{"x": models.random(2, 4, 5, 6, seed=seed)} for seed in range(3)]


def tensors(model: onnx.ModelProto, names: list[str], feed: Any) -> list[Array]:
    """Return tensors of a model that is computed as written."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    del copy.graph.output[:]
    copy.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(
        copy.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    made: list[Array] = session.run(names, feed)
    return made


def loss(want: list[Array], got: list[Array]) -> float:
    x, y = (
        np.concatenate([a.reshape(-1) for a in arrays]).astype(np.float64)
        for arrays in (want, got)
    )
    return float(((x - y) ** 2).sum() / ((x - x.mean()) ** 2).sum())


def assert_all_compared(found: qc.onnx.Evaluation) -> None:
    """No warning is about layers; that kernels lose accuracy may be right."""
    words = ("counterpart", "doubtful", "no layer", "inside If")
    assert not any(word in text for text in found.warnings for word in words)


def test_the_accumulated_error_is_that_of_the_tensor_that_is_read(
    tmp_path: Path,
) -> None:
    path = tmp_path / "q.onnx"
    qc.onnx.quantize(chain(), path, CHAIN_FEEDS, progress=False, strategy="mse")
    found = qc.onnx.evaluate(chain(), path, CHAIN_FEEDS, layers=True)
    assert [layer.node for layer in found.layers] == [f"conv{k}" for k in range(4)]
    assert [layer.operator for layer in found.layers] == ["Conv"] * 4
    assert [layer.tensor for layer in found.layers] == ["r0", "r1", "r2", "y"]
    assert [layer.inputs for layer in found.layers] == [
        (),
        ("conv0",),
        ("conv1",),
        ("conv2",),
    ]
    written = onnx.load(str(path))
    read = [f"r{k}_DequantizeLinear_Output" for k in range(3)] + ["y"]
    runs = [
        (
            tensors(chain(), [n.tensor for n in found.layers], f),
            tensors(written, read, f),
        )
        for f in CHAIN_FEEDS
    ]
    for index, layer in enumerate(found.layers):
        want = loss([a[index] for a, _ in runs], [b[index] for _, b in runs])
        assert layer.errors["exact"].loss == pytest.approx(want, rel=1e-4)
        assert layer.errors["exact"].top1 is None
        assert want > 1e-6
    last = found.layers[-1].errors
    for arithmetic in ("exact", "native"):
        whole = found.outputs["y"][arithmetic]
        assert last[arithmetic].loss == pytest.approx(whole.loss, rel=1e-6)
    assert found.warnings == ()


def rounded(model: onnx.ModelProto, name: str, x: Array) -> Array:
    """Quantize and decode by the grid of a QuantizeLinear of a model, in numpy."""
    (node,) = [
        n
        for n in model.graph.node
        if n.op_type == "QuantizeLinear" and n.name.startswith(f"{name}_Quantize")
    ]
    stored = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    scale, zero = (stored[n] for n in node.input[1:3])
    ends = np.iinfo(zero.dtype)
    codes = np.clip(np.rint(x / scale) + zero.astype(np.int32), ends.min, ends.max)
    made: Array = ((codes - zero) * scale).astype(np.float32)
    return made


def test_the_error_of_a_layer_alone_is_that_on_the_float_tensors(
    tmp_path: Path,
) -> None:
    path = tmp_path / "q.onnx"
    qc.onnx.quantize(chain(), path, CHAIN_FEEDS, progress=False, strategy="mse")
    found = qc.onnx.evaluate(chain(), path, CHAIN_FEEDS, layers=True)
    written = onnx.load(str(path))
    decoded = {
        n.input[1]: n.input[1] for n in written.graph.node if n.op_type == "Conv"
    }
    for k, layer in enumerate(found.layers):
        given, made = "x" if k == 0 else f"r{k - 1}", layer.tensor
        want, got = [], []
        for feed in CHAIN_FEEDS:
            x = feed["x"] if k == 0 else tensors(chain(), [given], feed)[0]
            (weight,) = [w for w in decoded if w.startswith(f"w{k}_")]
            (w,) = tensors(written, [weight], feed)
            y = np.einsum("nchw,oc->nohw", rounded(written, given, x), w[:, :, 0, 0])
            got.append(rounded(written, made, y))
            want.append(tensors(chain(), [made], feed)[0])
        assert layer.own is not None
        # A product near the middle of two codes may be rounded to the other one.
        assert layer.own.loss == pytest.approx(loss(want, got), rel=0.02)
    first = found.layers[0]
    assert first.own is not None
    assert first.own.loss == pytest.approx(first.errors["exact"].loss, rel=1e-6)
    last = found.layers[-1]
    assert last.own is not None
    assert last.own.loss < last.errors["exact"].loss  # type: ignore[operator]


FORMS = {
    "uint8": {},
    "int8": {"activation_type": "int8"},
    "tensorrt": {"target": "tensorrt"},
    "uint16": {"activation_type": "uint16"},
    "stock": {"placement": "stock", "op_types": ["Conv", "Relu"]},
    "stock int8": {"placement": "stock", "activation_type": "int8"},
    "weights only": {"activation_type": "none", "op_types": ["Conv"]},
}


@pytest.mark.parametrize("form", FORMS)
def test_native_figures_are_those_of_the_kernels_of_the_plain_session(
    form: str, tmp_path: Path
) -> None:
    """The last layer makes the output, whose bits the plain session has too.

    With int8, outputs added to the model itself take its integer kernels away.
    """
    path = tmp_path / "q.onnx"
    qc.onnx.quantize(chain(), path, CHAIN_FEEDS, progress=False, **FORMS[form])
    found = qc.onnx.evaluate(chain(), path, CHAIN_FEEDS, layers=True)
    assert found.warnings == ()
    assert len(found.layers) >= 4
    for layer in found.layers:
        if "native" not in layer.errors:  # onnxruntime removes a Relu before codes
            assert (form, layer.operator) == ("stock", "Relu")
            continue
        exact, native = layer.errors["exact"].loss, layer.errors["native"].loss
        assert native == pytest.approx(exact, rel=0.5, abs=1e-6)
    (last,) = [layer for layer in found.layers if layer.tensor in found.outputs]
    whole = found.outputs[last.tensor]["native"]
    # Sums of floats behind the kernels may have another order.
    assert last.errors["native"].loss == pytest.approx(whole.loss, rel=1e-5)


@pytest.mark.parametrize("kind", ["uint8", "int8"])
def test_native_tensors_are_from_a_graph_with_the_plain_sessions_kernels(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[onnx.ModelProto] = []
    open_changed = Workspace.open_changed

    def noting(self: Any, change: Any, **options: Any) -> Any:
        def change_and_note(proto: onnx.ModelProto) -> None:
            change(proto)
            opened.append(proto)

        return open_changed(self, change_and_note, **options)

    monkeypatch.setattr(Workspace, "open_changed", noting)
    path = tmp_path / "q.onnx"
    qc.onnx.quantize(
        chain(), path, CHAIN_FEEDS, activation_type=kind, progress=False, strategy="mse"
    )
    opened.clear()
    qc.onnx.evaluate(chain(), path, CHAIN_FEEDS, layers=True, arithmetics=["native"])
    plain = fused_kernels.kernels(path)
    assert plain["QLinearConv"] == 4
    (fused,) = [
        proto
        for proto in opened
        if any(node.op_type == "QLinearConv" for node in proto.graph.node)
    ]
    found = [node.op_type for node in fused.graph.node]
    assert found.count("QLinearConv") == 4
    assert "Conv" not in found
    assert len(fused.graph.output) > 4


def test_kernels_lose_their_place_if_signed_codes_become_outputs(
    tmp_path: Path,
) -> None:
    """The reason to tap the fused graph. If it fails, onnxruntime has become simpler."""
    path = tmp_path / "q.onnx"
    qc.onnx.quantize(
        chain(),
        path,
        CHAIN_FEEDS,
        activation_type="int8",
        progress=False,
        strategy="mse",
    )
    plain = fused_kernels.kernels(path)
    model = onnx.load(str(path))
    codes = [n.output[0] for n in model.graph.node if n.op_type == "QuantizeLinear"]
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in codes)
    onnx.save_model(model, str(tmp_path / "tapped.onnx"))
    assert plain["QLinearConv"] == 4
    assert fused_kernels.kernels(tmp_path / "tapped.onnx")["QLinearConv"] < 4


def test_the_figures_do_not_depend_on_the_memory(tmp_path: Path) -> None:
    path = tmp_path / "q.onnx"
    qc.onnx.quantize(chain(), path, CHAIN_FEEDS, progress=False, strategy="mse")
    feeds = [*CHAIN_FEEDS, {"x": models.random(3, 4, 20, 20, seed=8)}]
    whole = qc.onnx.evaluate(chain(), path, feeds, layers=True)
    for memory in (1, 4000, 20_000):
        parts = qc.onnx.evaluate(chain(), path, feeds, layers=True, max_memory=memory)
        assert parts == whole


def spoil(path: Path, weight: str, factor: float) -> None:
    """Multiply the scale of a weight."""
    model = onnx.load(str(path))
    (tensor,) = [t for t in model.graph.initializer if t.name == f"{weight}_scale"]
    scaled = numpy_helper.to_array(tensor) * np.float32(factor)
    tensor.CopyFrom(numpy_helper.from_array(scaled, tensor.name))
    onnx.save_model(model, str(path))


def test_the_first_guilty_layer_is_named(tmp_path: Path) -> None:
    path = tmp_path / "q.onnx"
    qc.onnx.quantize(chain(), path, CHAIN_FEEDS, progress=False, strategy="mse")
    before = qc.onnx.evaluate(chain(), path, CHAIN_FEEDS, layers=True)
    assert not any("guilty" in text for text in before.verdicts)
    assert before.verdicts[0].startswith("good: 'y', ")
    spoil(path, "w2", 0.5)
    found = qc.onnx.evaluate(chain(), path, CHAIN_FEEDS, layers=True)
    (text,) = [text for text in found.verdicts if "guilty" in text]
    assert "first guilty layer: Conv 'conv2'" in text
    assert "its own rounding" in text
    assert found.verdicts[0].startswith("wrong: 'y', ")
    worst = found.ranked_layers()
    assert {worst[0].node, worst[1].node} == {"conv2", "conv3"}
    (own,) = [text for text in found.verdicts if "alone:" in text]
    assert "'conv2'" in own
    # Without layers the sentence says how to find it.
    (text,) = qc.onnx.evaluate(chain(), path, CHAIN_FEEDS).verdicts
    assert text.endswith("(--layers).")


def test_a_layer_that_amplifies_is_told_from_one_that_rounds(tmp_path: Path) -> None:
    """A difference of two nearly equal channels keeps little but the error before it."""
    weights = {
        "w0": models.random(4, 4, 1, 1),
        "w1": np.zeros((4, 4, 1, 1), np.float32),
    }
    weights["w0"][1] = weights["w0"][0] + 0.004 * models.random(4, 1, 1, seed=9)
    weights["w1"][:, 0], weights["w1"][:, 1] = 127, -127  # exact in 8 bits
    nodes = [
        helper.make_node("Conv", ["x", "w0"], ["c"], "first"),
        helper.make_node("Conv", ["c", "w1"], ["y"], "second"),
    ]
    shape = ["n", 4, "h", "w"]
    model = models.build(
        nodes, [models.value("x", shape)], [models.value("y", shape)], weights
    )
    path = tmp_path / "q.onnx"
    qc.onnx.quantize(model, path, CHAIN_FEEDS, progress=False, strategy="mse")
    found = qc.onnx.evaluate(model, path, CHAIN_FEEDS, layers=True)
    (text,) = [text for text in found.verdicts if "guilty" in text]
    assert "Conv 'second'" in text


def sequence() -> fused_kernels.Net:
    """MatMul and Add of a constant, Softmax, a product of two activations, Gather."""
    net = fused_kernels.Net((2, 6, 16))
    first = net.matmul("x")
    net.weights["bias"] = models.random(16, seed=3)
    biased = net.add("Add", first, "bias")
    second = net.matmul(biased)
    turned = net.add("Transpose", second, perm=[0, 2, 1])
    scores = net.add("MatMul", biased, turned)
    net.add("Softmax", scores, axis=-1)
    return net


def test_a_matmul_and_the_add_of_a_constant_are_one_layer(tmp_path: Path) -> None:
    net = sequence()
    model = net.model("t5")
    path = tmp_path / "q.onnx"
    qc.onnx.quantize(model, path, net.feeds(), progress=False, strategy="minmax")
    found = qc.onnx.evaluate(model, path, net.feeds(), layers=True)
    assert found.warnings == ()
    layers = {layer.node: layer for layer in found.layers}
    assert list(layers) == ["t0_", "t2_", "t4_"]
    assert [layer.tensor for layer in found.layers] == ["t1", "t2", "t4"]
    assert layers["t4_"].inputs == ("t0_", "t2_")
    for layer in found.layers:
        assert set(layer.errors) == {"exact", "native"}, layer
        assert layer.own is not None
        assert layer.own.sqnr_db > 25


WEIGHTS = {
    "int4": {"activation_type": "none", "weight_type": "int4"},
    "int8": {"activation_type": "none"},
    "float8": {"activation_type": "float8_e4m3fn", "weight_type": "float8_e4m3fn"},
    "int16": {"activation_type": "int16"},
}


@pytest.mark.parametrize("form", WEIGHTS)
def test_other_formats_have_layers_too(form: str, tmp_path: Path) -> None:
    net = fused_kernels.Net((2, 6, 64))
    first = net.matmul("x", 64, 64)
    made = net.matmul(net.add("Tanh", first), 64, 32)
    model, path = net.model(made), tmp_path / "q.onnx"
    options = WEIGHTS[form]
    samples = None if options["activation_type"] == "none" else net.feeds()
    qc.onnx.quantize(model, path, samples, progress=False, **options)
    found = qc.onnx.evaluate(model, path, net.feeds(), layers=True)
    assert_all_compared(found)
    assert [layer.tensor for layer in found.layers] == ["t0", "t2"]
    last = found.layers[-1]
    for arithmetic, error in last.errors.items():
        whole = found.outputs[made][arithmetic]
        assert error.loss == pytest.approx(whole.loss, rel=1e-4)
    assert set(last.errors) == {"exact", "native"}
    assert all(layer.own is not None for layer in found.layers)


def test_a_gemm_has_native_figures_with_and_without_codes(tmp_path: Path) -> None:
    weights = {
        "w0": models.random(8, 8),
        "b0": models.random(8, seed=1),
        "w1": models.random(8, 5, seed=2),
        "b1": models.random(5, seed=3),
    }
    nodes = [
        helper.make_node("Gemm", ["x", "w0", "b0"], ["h"], "g0"),
        helper.make_node("Relu", ["h"], ["r"], "relu"),
        helper.make_node("Gemm", ["r", "w1", "b1"], ["y"], "g1"),
    ]
    model = models.build(
        nodes, [models.value("x", ["n", 8])], [models.value("y", ["n", 5])], weights
    )
    feeds = [{"x": models.random(4, 8, seed=seed)} for seed in range(3)]
    path = tmp_path / "q.onnx"
    qc.onnx.quantize(model, path, feeds, progress=False, strategy="mse")
    assert fused_kernels.kernels(path)["QGemm"] == 2
    found = qc.onnx.evaluate(model, path, feeds, layers=True)
    assert [layer.tensor for layer in found.layers] == ["r", "y"]
    for layer in found.layers:
        assert set(layer.errors) == {"exact", "native"}
    whole = found.outputs["y"]["native"]
    assert found.layers[1].errors["native"].loss == pytest.approx(whole.loss, rel=1e-5)
    assert whole.top1 is not None  # a matrix [N, C]


def test_picked_codes_of_a_table_are_a_layer(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Gather", ["table", "x"], ["e"], "embed"),
        helper.make_node("MatMul", ["e", "w"], ["y"], "product"),
    ]
    weights = {"table": models.random(50, 16), "w": models.random(16, 8, seed=1)}
    kind = onnx.TensorProto.INT64
    model = models.build(
        nodes,
        [models.value("x", ["n"], kind)],
        [models.value("y", ["n", 8])],
        weights,
    )
    feeds = [{"x": np.arange(k, k + 9)} for k in (0, 20, 41)]
    path = tmp_path / "q.onnx"
    qc.onnx.quantize(
        model,
        path,
        feeds,
        progress=False,
        op_types=["Gather", "MatMul"],
        strategy="mse",
    )
    found = qc.onnx.evaluate(model, path, feeds, layers=True)
    assert [(a.node, a.operator) for a in found.layers] == [
        ("embed", "Gather"),
        ("product", "MatMul"),
    ]
    assert found.layers[1].inputs == ("embed",)
    embed = found.layers[0]
    assert embed.own == embed.errors["exact"]


class Reader(CalibrationDataReader):  # type: ignore[misc]
    def __init__(self) -> None:
        self.left = iter(CHAIN_FEEDS)

    def get_next(self) -> Any:
        return next(self.left, None)


# Below opset 21, codes of 16 bits are in onnxruntime's own domain.
@pytest.mark.parametrize("kind", [QuantType.QUInt8, QuantType.QInt8, QuantType.QUInt16])
def test_models_of_onnxruntimes_quantizer_have_layers(
    kind: Any, tmp_path: Path
) -> None:
    onnx.save_model(chain(), str(tmp_path / "m.onnx"))
    path = tmp_path / "q.onnx"
    quantize_static(str(tmp_path / "m.onnx"), str(path), Reader(), activation_type=kind)
    found = qc.onnx.evaluate(tmp_path / "m.onnx", path, CHAIN_FEEDS, layers=True)
    assert [layer.node for layer in found.layers][-1] == "conv3"
    assert {f"conv{k}" for k in range(4)} <= {layer.node for layer in found.layers}
    for layer in found.layers:
        assert {"exact", "native"} == set(layer.errors)
        assert layer.own is not None
    last = found.layers[-1].errors["native"].loss
    assert last == pytest.approx(found.outputs["y"]["native"].loss, rel=1e-6)


def test_layers_inside_subgraphs_are_not_compared(tmp_path: Path) -> None:
    model = models.if_net(outside=True)
    feeds = [
        {"x": models.random(3, 6, seed=k), "c": np.array(k % 2 == 0)} for k in range(4)
    ]
    path = tmp_path / "q.onnx"
    qc.onnx.quantize(model, path, feeds, progress=False, strategy="mse")
    found = qc.onnx.evaluate(model, path, feeds, layers=True)
    assert [layer.node for layer in found.layers] == ["first"]
    (warning,) = found.warnings
    assert warning.startswith("2 nodes inside If, Loop or Scan read codes")
    none = qc.onnx.evaluate(models.if_net(), models.if_net(), feeds, layers=True)
    assert none.layers == ()
    (warning,) = none.warnings
    assert "no layer to compare" in warning


def test_nodes_without_a_counterpart_are_reported(tmp_path: Path) -> None:
    path = tmp_path / "q.onnx"
    qc.onnx.quantize(chain(), path, CHAIN_FEEDS, progress=False, strategy="mse")
    renamed = chain()
    for node in renamed.graph.node:
        for values in (node.input, node.output):
            for place, name in enumerate(values):
                if name in ("c1", "r1"):
                    values[place] = f"other_{name}"
    found = qc.onnx.evaluate(renamed, path, CHAIN_FEEDS, layers=True)
    assert [layer.node for layer in found.layers] == ["conv0", "conv2", "conv3"]
    (warning,) = found.warnings
    assert "1 quantized node" in warning
    assert "'conv1'" in warning
    # Its successor is run with it, from the tensor before.
    own = found.layers[1].own
    assert own is not None


def test_swapped_models_are_reported(tmp_path: Path) -> None:
    path = tmp_path / "q.onnx"
    qc.onnx.quantize(chain(), path, CHAIN_FEEDS, progress=False, strategy="mse")
    (warning,) = qc.onnx.evaluate(path, chain(), CHAIN_FEEDS).warnings
    assert "look swapped" in warning
    assert str(path) in warning
    assert qc.onnx.evaluate(path, path, CHAIN_FEEDS).warnings == ()
    assert qc.onnx.evaluate(chain(), chain(), CHAIN_FEEDS).warnings == ()


def test_the_command_shows_the_layers(tmp_path: Path) -> None:
    model, data = save_model(tmp_path), save_samples(tmp_path)
    made = tmp_path / "q.onnx"
    qc.onnx.quantize(model, made, data, progress=False, strategy="mse")
    arguments = ["evaluate", model, made, "--samples", data, "--layers"]
    done = call(*arguments, "--json")
    found = qc.onnx.evaluate(model, made, data, layers=True)
    content = json.loads(done.out)
    assert content == {**found.to_dict(), "failures": []}
    assert [layer["node"] for layer in content["layers"]] == ["Conv_0", "Conv_2"]
    shown = call(*arguments)
    assert shown.code == 0
    for layer in found.layers:
        (line,) = [a for a in shown.out.splitlines() if a.startswith(layer.node)]
        for error in (*layer.errors.values(), layer.own):
            assert error is not None
            assert f"{error.sqnr_db:.1f} dB" in line
    assert all(text in shown.out for text in found.verdicts)
    rows = call(*arguments, "--sort", "own").out.splitlines()
    places = [
        next(i for i, row in enumerate(rows) if row.startswith(name))
        for name in ("Conv_0", "Conv_2")
    ]
    owns = [layer.own.loss for layer in found.layers if layer.own is not None]
    assert (places[0] < places[1]) == (owns[0] > owns[1])
    lines = run_in_terminal(80, *arguments)
    assert max(len(line) for line in lines if "Evaluating" not in line) <= 80


@pytest.mark.model
@pytest.mark.parametrize("kind", ["uint8", "int8"])
def test_every_quantized_node_of_the_text_recognizer_is_compared(
    kind: str, tmp_path: Path
) -> None:
    from tests.models import MODELS

    model, path = MODELS["pp-ocr-rec"].fetch(), tmp_path / "q.onnx"
    feeds = [{"x": models.random(1, 3, 48, 96, seed=seed)} for seed in range(2)]
    result = qc.onnx.quantize(
        model, path, feeds, activation_type=kind, progress=False, strategy="mse"
    )
    found = qc.onnx.evaluate(model, path, feeds[:1], layers=True)
    assert_all_compared(found)
    counted = Counter(layer.operator for layer in found.layers)
    assert counted["Conv"] == result.quantized_nodes["Conv"] == 38
    assert counted["MatMul"] == result.quantized_nodes["MatMul"] == 13
    for layer in found.layers:
        if layer.operator in ("Conv", "MatMul"):
            assert set(layer.errors) == {"exact", "native"}, layer
            assert layer.own is not None
