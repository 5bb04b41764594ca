"""Written models have exactly the table's ranges and compute accurate results."""

from __future__ import annotations

import logging
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

import onnx_models as models
import quantcal as qc
from quantcal.onnx._model.model import opset_of
from quantcal.onnx._write import output


def images(model: onnx.ModelProto) -> list[dict[str, Any]]:
    return [{"x": models.random(1, 3, 9, w, seed=w)} for w in (8, 12, 20)]


def rows(width: int) -> list[dict[str, Any]]:
    return [{"x": models.random(16, width, seed=n)} for n in range(3)]


def activation_params(model: onnx.ModelProto) -> dict[str, tuple[bytes, int, str]]:
    """Read (scale bits, zero point, dtype) of each QuantizeLinear from the file."""
    constants = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    found = {}
    for node in model.graph.node:
        if node.op_type == "QuantizeLinear":
            scale, zero = constants[node.input[1]], constants[node.input[2]]
            assert scale.shape == zero.shape == ()
            name = node.input[0].removesuffix("_QuantizeLinear_Input")
            found[name] = (scale.tobytes(), int(zero), str(zero.dtype))
    return found


def wanted_params(table: Any) -> dict[str, tuple[bytes, int, str]]:
    return {
        name: (np.float32(p.scale).tobytes(), p.zero_point, p.format)
        for name, p in table.items()
    }


def assert_works(
    model: onnx.ModelProto, path: Path, feeds: list[dict[str, Any]], decibels: float
) -> None:
    """Compare with the float model, in float Q/DQ arithmetic and in integer kernels."""
    for exact in (True, False):
        got = models.session(str(path), exact=exact)
        for feed in feeds:
            want = models.session(model, exact=True).run(None, feed)
            for w, g in zip(want, got.run(None, feed), strict=True):
                assert models.signal_to_noise(w, g) > decibels, f"exact={exact}"


def test_the_file_holds_our_ranges_bit_for_bit(tmp_path: Path) -> None:
    model = models.conv_net()
    path = tmp_path / "q.onnx"
    result = qc.onnx.quantize(
        model, path, images(model), progress=False, strategy="mse"
    )
    written = onnx.load(path)
    assert activation_params(written) == wanted_params(result.table)
    kinds = Counter(node.op_type for node in written.graph.node)
    assert kinds["Conv"] == 2
    # x, r1 (for the first Conv and its ReLU alike) and y
    assert result.quantize_nodes == kinds["QuantizeLinear"] == 3
    # and 2 weights, 1 bias
    assert result.dequantize_nodes == kinds["DequantizeLinear"] == 6
    assert result.quantized_nodes == {"Conv": 2}
    assert result.left_in_float == {}
    assert (result.samples, result.tensors_observed) == (3, 3)
    assert result.output == path
    # 8 bits give about 40 dB, 7-bit weights a little less, wrong ranges far less.
    assert_works(model, path, images(model), 30)


@pytest.mark.parametrize("activation", ["uint8", "int8"])
@pytest.mark.parametrize("weight", ["int8", "uint8"])
@pytest.mark.parametrize("per_channel", [True, False])
def test_every_format(
    tmp_path: Path, activation: str, weight: str, per_channel: bool
) -> None:
    model = models.conv_net()
    path = tmp_path / "q.onnx"
    result = qc.onnx.quantize(
        model,
        path,
        images(model),
        activation_type=activation,
        weight_type=weight,
        per_channel=per_channel,
        reduce_range=weight == "int8",
        strategy="minmax",
        progress=False,
    )
    written = onnx.load(path)
    assert activation_params(written) == wanted_params(result.table)
    kernel = {t.name: t for t in written.graph.initializer}["w1_quantized"]
    data = numpy_helper.to_array(kernel)
    assert data.dtype == weight
    scales = {t.name: t for t in written.graph.initializer}["w1_scale"]
    assert list(scales.dims) == ([4] if per_channel else [])
    if weight == "int8":
        assert np.abs(data.astype(int)).max() <= 64
    else:
        assert np.abs(data.astype(int) - 128).max() > 64
    assert_works(model, path, images(model), 25)


@pytest.mark.parametrize("opset", [9, 11, 12])
@pytest.mark.parametrize("ir", [3, 8])
def test_old_models_are_converted(tmp_path: Path, opset: int, ir: int) -> None:
    model = models.conv_net(opset=opset, ir=ir)
    path = tmp_path / "q.onnx"
    result = qc.onnx.quantize(
        model, path, images(model), progress=False, strategy="mse"
    )
    assert opset_of(onnx.load(path)) == 13
    assert result.quantized_nodes == {"Conv": 2}
    assert_works(model, path, images(model), 30)


@pytest.mark.parametrize("shape", [(5,), (1, 5), (1,), ()])
@pytest.mark.parametrize(
    "options", [{}, {"transB": 1}, {"beta": 0.25}, {"alpha": 2.0, "beta": -3.0}]
)
@pytest.mark.parametrize("per_channel", [True, False])
def test_gemm_biases_of_every_shape(
    tmp_path: Path, shape: tuple[int, ...], options: dict[str, Any], per_channel: bool
) -> None:
    bias = np.asarray(3 * models.random(*shape), dtype=np.float32)
    model = models.gemm_net(bias, **options)
    path = tmp_path / "q.onnx"
    result = qc.onnx.quantize(
        model,
        path,
        rows(8),
        per_channel=per_channel,
        progress=False,
        strategy="mse",
    )
    assert result.quantized_nodes == {"Gemm": 1}
    assert_works(model, path, rows(8), 28)


def test_a_shared_bias_is_quantized_for_each_of_its_readers(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Gemm", ["x", "w", "b"], ["h"]),
        helper.make_node("Gemm", ["h", "w", "b"], ["y"], transB=1),
    ]
    data = {"w": models.random(5, 5), "b": models.random(5), "b0": models.random(5)}
    nodes.append(helper.make_node("Add", ["y", "b0"], ["z"]))
    model = models.build(
        nodes, [models.value("x", ["n", 5])], [models.value("z", ["n", 5])], data
    )
    path = tmp_path / "q.onnx"
    result = qc.onnx.quantize(model, path, rows(5), progress=False, strategy="mse")
    assert result.quantized_nodes == {"Gemm": 2}
    assert_works(model, path, rows(5), 28)


@pytest.mark.parametrize("shapes", [((4, 6), (6, 3)), ((2, 4, 6), (2, 6, 3)), ((6,), (6, 3)), ((4, 6), (6,))])  # fmt: skip
@pytest.mark.parametrize("constant", ["left", "right", "none"])
def test_matmul_of_every_shape(
    tmp_path: Path, shapes: tuple[tuple[int, ...], ...], constant: str
) -> None:
    a, b = models.random(*shapes[0]), models.random(*shapes[1], seed=3)
    inputs = [models.value("a", a.shape), models.value("b", b.shape)]
    feed = {"a": a, "b": b}
    fixed = {"left": {"a": a}, "right": {"b": b}, "none": {}}[constant]
    node = helper.make_node("MatMul", ["a", "b"], ["y"])
    model = models.build(
        [node],
        [value for value in inputs if value.name not in fixed],
        [models.value("y", (a @ b).shape)],
        fixed,
    )
    feed = {name: array for name, array in feed.items() if name not in fixed}
    path = tmp_path / "q.onnx"
    qc.onnx.quantize(model, path, [feed], strategy="minmax", progress=False)
    assert_works(model, path, [feed], 25)


def test_batch_norm_constants_and_shared_weights(tmp_path: Path) -> None:
    model = models.batch_norm_net(shared=True)
    path = tmp_path / "q.onnx"
    result = qc.onnx.quantize(
        model, path, images(model), progress=False, strategy="mse"
    )
    assert result.quantized_nodes == {"Conv": 2}
    assert_works(model, path, images(model), 28)


def test_a_tensor_that_an_if_captures(tmp_path: Path) -> None:
    model = models.if_net(outside=True)
    path = tmp_path / "q.onnx"
    feeds = [{"x": models.random(4, 6), "c": np.array(c)} for c in (True, False)]
    result = qc.onnx.quantize(model, path, feeds, progress=False, strategy="mse")
    assert result.quantized_nodes == {"MatMul": 3}
    assert result.left_in_float == {}
    assert_works(model, path, feeds, 28)


def test_names_that_the_quantizer_would_use_twice(tmp_path: Path) -> None:
    model = models.conv_net()
    graph = model.graph
    graph.initializer.append(
        numpy_helper.from_array(models.random(4, 1, 1), "c1_scale")
    )
    graph.node[1].CopyFrom(helper.make_node("Mul", ["c1", "c1_scale"], ["r1"]))
    path = tmp_path / "q.onnx"
    result = qc.onnx.quantize(
        model, path, images(model), progress=False, strategy="mse"
    )
    assert activation_params(onnx.load(path)) == wanted_params(result.table)
    assert_works(model, path, images(model), 28)


def test_other_operators_on_request(tmp_path: Path) -> None:
    model = models.conv_net()
    path = tmp_path / "q.onnx"
    result = qc.onnx.quantize(
        model,
        path,
        images(model),
        op_types=["Conv", "Relu"],
        progress=False,
        strategy="mse",
    )
    assert result.quantized_nodes == {"Conv": 2, "Relu": 1}
    assert_works(model, path, images(model), 28)


def test_excluded_nodes_stay_in_float(tmp_path: Path) -> None:
    model = models.conv_net()
    model.graph.node[0].name = "stem"
    path = tmp_path / "q.onnx"
    result = qc.onnx.quantize(
        model,
        path,
        images(model),
        exclude=["stem"],
        progress=False,
        strategy="mse",
    )
    assert result.left_in_float == {"excluded": 1}
    assert result.quantized_nodes == {"Conv": 1}
    assert sorted(result.table) == ["r1", "y"]
    weights = {t.name for t in onnx.load(path).graph.initializer}
    assert "w1" in weights


@pytest.mark.parametrize("weight", ["int8", "int4"])
def test_weights_without_values_stay_in_float(tmp_path: Path, weight: str) -> None:
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["y"], "full"),
        helper.make_node("MatMul", ["nothing", "empty"], ["zeros"], "empty"),
    ]
    given = models.value("x", ["n", 64]), models.value("nothing", ["n", 0])
    made = models.value("y", ["n", 64]), models.value("zeros", ["n", 5])
    constants = {"w": models.random(64, 64), "empty": np.zeros((0, 5), np.float32)}
    model = models.build(nodes, [*given], [*made], constants)
    path = tmp_path / "q.onnx"
    result = qc.onnx.quantize(
        model, path, activation_type="none", weight_type=weight, progress=False
    )
    assert result.left_in_float == {"a weight without values": 1}
    assert result.quantized_nodes == {"MatMul": 1}


def test_a_weight_that_an_excluded_node_reads_stays_in_float_for_it(
    tmp_path: Path,
) -> None:
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["h"], "one"),
        helper.make_node("MatMul", ["h", "w"], ["y"], "two"),
    ]
    x, y = models.value("x", ["n", 6]), models.value("y", ["n", 6])
    model = models.build(nodes, [x], [y], {"w": models.random(6, 6)})
    path = tmp_path / "q.onnx"
    qc.onnx.quantize(
        model, path, rows(6), exclude=["two"], progress=False, strategy="mse"
    )
    written = onnx.load(path)
    (two,) = [node for node in written.graph.node if node.name == "two"]
    assert two.input[1] == "w"
    kept = {t.name: t for t in written.graph.initializer}["w"]
    np.testing.assert_array_equal(numpy_helper.to_array(kept), models.random(6, 6))
    assert_works(model, path, rows(6), 28)


def test_write_needs_only_a_table(tmp_path: Path) -> None:
    model, feeds = models.conv_net(), images(models.conv_net())
    cal = qc.onnx.observe(model, feeds, tensors="all")
    # int8 needs the range before the ReLU, too.
    table = cal.compute("minmax", format="int8")
    path = tmp_path / "q.onnx"
    written = qc.onnx.write(model, path, table, reduce_range=True)
    assert activation_params(onnx.load(path)) == wanted_params(table)
    assert (written.weight_bits, written.quantized_nodes) == (7, {"Conv": 2})
    assert_works(model, path, feeds, 28)
    partial = {name: p for name, p in table.items() if name != "r1"}
    before = path.read_bytes()
    with pytest.raises(
        qc.CalibrationError, match=r"no range for 1 of the 4 tensors.*: r1"
    ):
        qc.onnx.write(model, path, partial)
    assert path.read_bytes() == before


def test_a_quantized_model_is_not_quantized_again(tmp_path: Path) -> None:
    model = models.conv_net()
    path = tmp_path / "q.onnx"
    qc.onnx.quantize(model, path, images(model), progress=False, strategy="mse")
    with pytest.raises(qc.CalibrationError, match="already quantized"):
        qc.onnx.quantize(
            path, tmp_path / "r.onnx", images(model), progress=False, strategy="mse"
        )
    assert sorted(p.name for p in tmp_path.iterdir()) == ["q.onnx"]


def test_only_the_output_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folders = {name: tmp_path / name for name in ("in", "out", "temp")}
    for folder in folders.values():
        folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folders["temp"]))
    source = folders["in"] / "m.onnx"
    onnx.save(models.conv_net(opset=11), source)
    before = (source.read_bytes(), source.stat().st_mtime_ns)
    target = folders["out"] / "q.onnx"
    qc.onnx.quantize(
        source, target, images(models.conv_net()), progress=False, strategy="mse"
    )
    assert (source.read_bytes(), source.stat().st_mtime_ns) == before
    files = sorted(str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*.*"))
    assert files == ["in/m.onnx", "out/q.onnx"]


def test_a_failure_leaves_the_old_output(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "q.onnx"
    path.write_bytes(b"the old one")
    model = models.conv_net()

    def fail(*_: Any) -> None:
        raise qc.CalibrationError("it is not valid")

    monkeypatch.setattr(output, "check_written", fail)
    with pytest.raises(qc.CalibrationError, match="not valid"):
        qc.onnx.quantize(model, path, images(model), progress=False, strategy="mse")
    assert path.read_bytes() == b"the old one"
    assert [p.name for p in tmp_path.iterdir()] == ["q.onnx"]


def test_models_beyond_two_gigabytes_get_a_weights_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(output, "_MAX_FILE", 100)
    weight = models.random(64, 64)
    node = helper.make_node("MatMul", ["x", "w"], ["y"])
    model = models.build(
        [node],
        [models.value("x", ["n", 64])],
        [models.value("y", ["n", 64])],
        {"w": weight},
    )
    path = tmp_path / "q.onnx"
    qc.onnx.quantize(model, path, rows(64), progress=False, strategy="mse")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["q.onnx", "q.onnx.data"]
    assert (tmp_path / "q.onnx.data").stat().st_size >= 64 * 64
    assert_works(model, path, rows(64), 28)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"activation_type": "int6"}, "activation_type='int6' is not known.*int8"),
        ({"weight_type": "int6"}, "weight_type='int6' is not known.*int8"),
        ({"reduce_range": "no"}, 'True, False or "auto"'),
        ({"strategy": "best"}, "best"),
        ({"exclude": ["none"]}, "exclude='none' matches no node"),
        ({"op_types": ["Gemm"]}, "no 'Gemm' node"),
    ],
)
def test_wrong_options_are_refused(
    tmp_path: Path, options: dict[str, Any], message: str
) -> None:
    model = models.conv_net()
    with pytest.raises(qc.CalibrationError, match=message):
        qc.onnx.quantize(
            model, tmp_path / "q.onnx", images(model), progress=False, **options
        )
    assert list(tmp_path.iterdir()) == []


def test_wrong_outputs_are_refused_before_any_work(tmp_path: Path) -> None:
    source = tmp_path / "m.onnx"
    onnx.save(models.conv_net(), source)

    def never() -> Any:
        raise AssertionError("the data must not be read")
        yield

    for target, message in (
        (source, "is the model itself"),
        (tmp_path, "is a folder"),
        (tmp_path / "no" / "q.onnx", "is missing"),
    ):
        with pytest.raises(qc.CalibrationError, match=message):
            qc.onnx.quantize(source, target, never(), progress=False, strategy="mse")


def test_the_summary_says_what_was_done(tmp_path: Path) -> None:
    model = models.conv_net()
    result = qc.onnx.quantize(
        model,
        tmp_path / "q.onnx",
        images(model),
        reduce_range=True,
        progress=False,
        strategy="mse",
    )
    text = result.summary()
    assert "2 Conv" in text
    assert "3 / 6" in text
    assert "7 bits: as asked for" in text
    assert result.reduce_range
    assert result.seconds > 0
    if result.peak_memory is not None:
        assert result.peak_memory > 1e6
    shares = [clipped.share for clipped in result.widest_clipped]
    assert shares == sorted(shares, reverse=True)
    assert all(0 < share <= 1 for share in shares)


def test_nothing_is_logged_or_printed(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    model = models.conv_net(opset=11)
    with caplog.at_level(logging.WARNING):
        qc.onnx.quantize(model, tmp_path / "q.onnx", images(model), strategy="mse")
    assert capfd.readouterr() == ("", "")
    assert caplog.records == []
