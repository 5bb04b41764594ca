"""Tables in the files of other tools, checked with the readers of those tools."""

from __future__ import annotations

import csv
import json
import math
import struct
from pathlib import Path

import flatbuffers  # noqa: F401  (onnxruntime's writer needs it)
import numpy as np
import onnx
import pytest
from onnxruntime.quantization import CalibrationMethod, QuantType, quantize_static
from onnxruntime.quantization.calibrate import load_tensors_data, save_tensors_data
from onnxruntime.quantization.CalTableFlatBuffers.TrtTable import TrtTable

import onnx_models as models
import quantcal as qc
from cli_runs import call
from quantcal.exporters import TARGETS, export, ncnn, onnxruntime, plain


def make_table(format: str = "uint8") -> qc.CalibrationTable:
    ranges = {
        "x:0": (-10.0, 1.0),
        "a name, with (all): sorts": (0.0, 6.0),
        "small": (-1e-6, 3e-7),
    }
    return qc.CalibrationTable(
        {n: qc.QuantParams.from_range(*r, format=format) for n, r in ranges.items()}
    )


def by_channel() -> qc.CalibrationTable:
    params = qc.QuantParams.from_range(
        [-1, -2, -0.5], [3, 1, 0.25], format="int8", axis=1
    )
    return qc.CalibrationTable({"c": params})


# onnxruntime -------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", onnxruntime.METHODS)
def test_onnxruntime_reads_the_ranges_of_the_table_from_our_cache(
    method: str, tmp_path: Path
) -> None:
    table, path = make_table(), tmp_path / "cache.json"
    onnxruntime.write_cache(table, path, method=method)
    read = load_tensors_data(path)
    assert read.calibration_method is CalibrationMethod[method]
    assert list(read.keys()) == list(table)
    for name, params in table.items():
        low, high = read[name].range_value
        assert (low, high) == (np.float32(params.low), np.float32(params.high))
        assert low.dtype == high.dtype == np.float32


def test_our_cache_is_the_file_that_onnxruntime_would_write(tmp_path: Path) -> None:
    for number, table in enumerate((make_table(), by_channel())):
        ours, theirs = tmp_path / f"ours{number}", tmp_path / f"theirs{number}"
        onnxruntime.write_cache(table, ours, method="Entropy")
        save_tensors_data(onnxruntime.tensors_data(table, method="Entropy"), theirs)
        assert ours.read_bytes() == theirs.read_bytes()


def test_a_cache_that_onnxruntime_wrote_is_read(tmp_path: Path) -> None:
    path = tmp_path / "cache.json"
    for table in (make_table("int8"), by_channel()):
        save_tensors_data(onnxruntime.tensors_data(table, method="Percentile"), path)
        read = onnxruntime.read_cache(path, format="int8")
        assert list(read) == list(table)
        for name, params in table.items():
            assert read[name].axis == params.axis
            assert read[name].strategy == "percentile"
            # The ends of ranges are float32 in the cache, and float64 in the table.
            np.testing.assert_allclose(read[name].scale, params.scale, rtol=2e-7)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff",
        b"[]",
        b"{}",
        b'{"calibration_method": 3, "data": {}}',
        b'{"calibration_method": {"value": "CalibrationMethod.MinMax"}, "data": [1]}',
    ],
)
def test_a_foreign_cache_is_refused_by_name(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "cache.json"
    path.write_bytes(content)
    with pytest.raises(qc.CalibrationError, match=r"cache\.json is no calibration"):
        onnxruntime.read_cache(path)


@pytest.mark.parametrize(
    "entry",
    [
        {},
        {"lowest": 1.0},
        {"lowest": "a", "highest": 2.0},
        {"lowest": float("nan"), "highest": 2.0},
        {"lowest": {"data": []}, "highest": {"data": []}},
        {"lowest": {"data": [1, 2]}, "highest": {"data": [1, 2, 3]}},
        {"lowest": 3.0, "highest": 2.0},
    ],
    ids=str,
)
def test_an_invalid_range_is_refused_with_its_tensor(
    entry: dict[str, object], tmp_path: Path
) -> None:
    path = tmp_path / "cache.json"
    method = {"value": "CalibrationMethod.MinMax"}
    path.write_text(json.dumps({"calibration_method": method, "data": {"t": entry}}))
    with pytest.raises(qc.CalibrationError, match=r'cache\.json, tensor "t"'):
        onnxruntime.read_cache(path)


def test_quantize_static_takes_our_cache_instead_of_samples(tmp_path: Path) -> None:
    model, cache = tmp_path / "model.onnx", tmp_path / "cache.json"
    onnx.save(models.conv_net(), model)
    feeds = [{"x": models.random(1, 3, 9, 12, seed=seed)} for seed in range(3)]
    calibrator = qc.onnx.observe(models.conv_net(), feeds, tensors="all")
    table = calibrator.compute("mse", format="uint8")
    onnxruntime.write_cache(table, cache)
    made = tmp_path / "made.onnx"
    quantize_static(
        model,
        made,
        activation_type=QuantType.QUInt8,
        calibration_cache_path=cache,
    )
    constants = {t.name: t for t in onnx.load(made).graph.initializer}
    scales = {n.removesuffix("_scale"): t for n, t in constants.items()}
    found = [name for name in table if name in scales]
    assert len(found) >= 2
    for name in found:
        scale = onnx.numpy_helper.to_array(scales[name])
        np.testing.assert_allclose(scale, table[name].scale, rtol=1e-6)


def test_the_tensorrt_provider_gets_magnitudes_not_upper_ends(tmp_path: Path) -> None:
    table = qc.CalibrationTable({**make_table(), **by_channel()})
    onnxruntime.write_tensorrt_table(table, tmp_path)
    assert {p.name for p in tmp_path.iterdir()} == set(onnxruntime.TENSORRT_FILES)
    read = TrtTable.GetRootAsTrtTable(
        (tmp_path / "calibration.flatbuffers").read_bytes(), 0
    )
    entries = [read.Dict(i) for i in range(read.DictLength())]
    values = {e.Key().decode(): float(e.Value()) for e in entries}
    assert set(values) == set(table)
    for name, params in table.items():
        magnitude = np.max(np.abs([params.low, params.high]))
        assert values[name] == np.float32(magnitude)
    # onnxruntime's function alone would write 1.
    assert values["x:0"] > 9.9
    assert values["c"] == np.float32(3)
    text = (tmp_path / "calibration.cache").read_text().splitlines()
    assert [float(line.rpartition(" ")[2]) for line in text] == [
        values[line.rpartition(" ")[0]] for line in text
    ]


def test_ranges_beyond_float32_are_refused_by_name(tmp_path: Path) -> None:
    huge = qc.QuantParams(1e30, 0, -1e39, 1e39, "int8", symmetric=False)
    table = qc.CalibrationTable({"huge": huge})
    for write in (onnxruntime.write_cache, onnxruntime.write_tensorrt_table):
        with pytest.raises(qc.CalibrationError, match=r"'huge'.*float32"):
            write(table, tmp_path)
    with pytest.raises(qc.CalibrationError, match="MinMax, Entropy"):
        onnxruntime.write_cache(make_table(), tmp_path / "x", method="minmax")


# ncnn --------------------------------------------------------------------------------------------


def read_ncnn(path: Path) -> dict[str, list[float]]:
    """Read a table as ncnn2int8 does: a key and floats, separated by blanks."""
    table = {}
    for line in path.read_text().splitlines():
        key, *scales = line.split(" ")
        assert key not in table
        table[key] = [float(np.float32(scale)) for scale in scales]
    return table


def test_ncnns_table_has_both_lines_of_each_layer(tmp_path: Path) -> None:
    model = models.conv_net()
    model.graph.node[0].name = "first"
    feeds = [{"x": models.random(1, 3, 9, 12)}]
    table = qc.onnx.observe(model, feeds).compute("minmax", format="int8")
    layers = ncnn.layers_of(model)
    # The second node has no name.
    assert set(layers) == {"first", "y"}
    assert ncnn.write_table(table, tmp_path / "t", layers) == 2
    read = read_ncnn(tmp_path / "t")
    assert set(read) == {"first", "first_param_0", "y", "y_param_0"}
    w1, w2 = models.random(4, 3, 3, 3), models.random(2, 4, 1, 1, seed=2)
    for key, weights, levels in (("first", w1, 31), ("y", w2, 127)):
        want = levels / np.abs(weights).reshape(len(weights), -1).max(axis=1)
        np.testing.assert_allclose(read[f"{key}_param_0"], want, rtol=1e-7)
    want = 127 / max(abs(table["x"].low), table["x"].high)
    np.testing.assert_allclose(read["first"], [want], rtol=1e-7)


def test_ncnn_layers_of_gemm_matmul_and_groups() -> None:
    weights = models.random(8, 5)
    gemm = ncnn.layers_of(models.gemm_net(models.random(5)))["gemm"]
    np.testing.assert_array_equal(gemm.magnitudes, np.abs(weights).max(axis=0))
    turned = ncnn.layers_of(models.gemm_net(models.random(5), transB=1))["gemm"]
    want = np.abs(models.random(5, 8)).max(axis=1)
    np.testing.assert_array_equal(turned.magnitudes, want)
    node = onnx.helper.make_node("Conv", ["x", "w"], ["y"], "dw", group=2)
    grouped = models.build(
        [node],
        [models.value("x", [1, 4, 5, 5])],
        [models.value("y", [1, 6, 3, 3])],
        {"w": models.random(6, 2, 3, 3)},
    )
    layer = ncnn.layers_of(grouped)["dw"]
    assert layer.levels == 127
    want = np.abs(models.random(6, 2, 3, 3)).reshape(2, -1).max(axis=1)
    np.testing.assert_array_equal(layer.magnitudes, want)


def test_ncnn_scales_keep_their_digits_and_are_never_infinite(tmp_path: Path) -> None:
    table = qc.CalibrationTable({"t": qc.QuantParams.from_range(-23456.7, 1)})
    layers = {"big": ncnn.Layer("t", np.array([0.0, 1e-44, 1e6]))}
    ncnn.write_table(table, tmp_path / "t", layers)
    read = read_ncnn(tmp_path / "t")
    np.testing.assert_allclose(read["big"], [127 / 23456.7], rtol=1e-6)
    assert read["big_param_0"][:2] == [1, 1]
    np.testing.assert_allclose(read["big_param_0"][2], 127e-6, rtol=1e-7)


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("two words", "cannot read"),
        ("n" * 250, "cannot read"),
        ("a_param_0", "weights"),
    ],
)
def test_names_that_ncnn_cannot_read_are_refused(
    name: str, why: str, tmp_path: Path
) -> None:
    with pytest.raises(qc.CalibrationError, match=why):
        ncnn.write_table(
            make_table(), tmp_path / "t", {name: ncnn.Layer("x:0", np.ones(1))}
        )
    with pytest.raises(qc.CalibrationError, match="none of the 1 layers; they read z"):
        ncnn.write_table(make_table(), tmp_path / "t", {"l": ncnn.Layer("z", 1)})


def with_bias() -> onnx.ModelProto:
    """Return a model with layers as Paddle exports them: an Add after each product."""
    nodes = [
        onnx.helper.make_node("Conv", ["x", "w1"], ["c"], "first"),
        onnx.helper.make_node("Add", ["c", "b1"], ["d"], "bias"),
        onnx.helper.make_node("Conv", ["d", "w2"], ["e"], "depthwise", group=4),
        onnx.helper.make_node("Conv", ["e", "w3"], ["f"], "grouped", group=2),
        onnx.helper.make_node("Flatten", ["f"], ["g"], "flat"),
        onnx.helper.make_node("MatMul", ["g", "w4"], ["h"], "product"),
        onnx.helper.make_node("Add", ["h", "b4"], ["i"], "sum"),
        onnx.helper.make_node("Gemm", ["i", "w5", "b5"], ["y"], "gemm", transB=1),
    ]
    shapes: dict[str, tuple[int, ...]] = {
        "w1": (4, 3, 3, 3),
        "b1": (1, 4, 1, 1),
        "w2": (4, 1, 3, 3),
        "w3": (6, 2, 1, 1),
        "w4": (6, 5),
        "b4": (5,),
        "w5": (7, 5),
        "b5": (7,),
    }
    weights = {n: models.random(*s, seed=k) for k, (n, s) in enumerate(shapes.items())}
    x, y = models.value("x", [1, 3, 5, 5]), models.value("y", [1, 7])
    return models.build(nodes, [x], [y], weights)


@pytest.mark.parametrize("how", models.HOLDERS)
def test_ncnn_layers_are_found_for_every_storage_of_weights(
    how: str, tmp_path: Path
) -> None:
    model = with_bias()
    table = qc.onnx.observe(model, [{"x": models.random(1, 3, 5, 5)}]).compute()
    wanted, found = tmp_path / "wanted", tmp_path / "found"
    assert ncnn.write_table(table, wanted, ncnn.layers_of(model)) == 5
    made = models.hold(model, how)
    layers = ncnn.layers_of(made)
    assert list(layers) == ["first", "depthwise", "grouped", "product", "gemm"]
    sizes = [np.size(layer.magnitudes) for layer in layers.values()]
    assert sizes == [4, 4, 2, 5, 7]
    ncnn.write_table(table, found, layers)
    assert found.read_bytes() == wanted.read_bytes()


def test_the_command_reports_which_layers_are_skipped_and_why(tmp_path: Path) -> None:
    model = with_bias()
    product, gemm = model.graph.node[5], model.graph.node[7]
    product.input[1] = "computed"
    turned = onnx.helper.make_node("Transpose", ["w4t"], ["computed"])
    stack = onnx.helper.make_node("MatMul", ["i", "w6"], ["z"], "stack")
    fused = onnx.helper.make_node("FusedConv", ["x", "w1"], ["u"], "fused")
    fused.domain = "com.microsoft"
    model.opset_import.append(onnx.helper.make_opsetid("com.microsoft", 1))
    model.graph.node.insert(5, turned)
    model.graph.node.extend([stack, fused])
    for name, shape in (("w4t", (5, 6)), ("w6", (2, 5, 3))):
        tensor = onnx.numpy_helper.from_array(models.random(*shape), name)
        model.graph.initializer.append(tensor)
    path, out = tmp_path / "model.onnx", tmp_path / "out"
    onnx.save(model, path)
    observed = qc.onnx.observe(model, [{"x": models.random(1, 3, 5, 5)}])
    missing, empty = gemm.input[0], "e"
    calibrator = qc.Calibrator()
    calibrator.observe(empty, np.zeros(0, np.float32))
    with pytest.warns(UserWarning, match="no finite value"):
        of_empty = calibrator.compute()
    whole = observed.compute()
    names = [name for name in whole if name not in (missing, empty)]
    table = qc.CalibrationTable(
        {name: whole[name] for name in names} | dict(of_empty),
        {name: whole.report[name] for name in names} | dict(of_empty.report),
    )
    table.save(tmp_path / "table.json")
    done = call(
        *("export", tmp_path / "table.json", "--to", "ncnn"),
        *("-o", out, "--model", path),
    )
    assert done.code == 0
    assert done.facts["layers"] == "2"
    assert set(read_ncnn(out)) == {
        *("first", "first_param_0", "depthwise", "depthwise_param_0")
    }
    output = " ".join(done.out.split())
    for words in (
        "product: its weights are not constant",
        "stack: its weights have 3 dimensions, not 2",
        "fused: fused by onnxruntime (com.microsoft.FusedConv)",
        "gemm: its input i is not in the table",
        "grouped: its input e is never reached by the calibration data: always empty",
        "no layer reads it",
    ):
        assert words in output
    written = export(table, "ncnn", out, model=path)
    assert (written.entries, written.unit) == (2, "layers")
    nothing = models.gemm_net(models.random(5))
    del nothing.graph.initializer[:]
    nothing.graph.input.append(models.value("w", [8, 5]))
    nothing.graph.input.append(models.value("b", [5]))
    onnx.save(nothing, path)
    error = call(
        *("export", tmp_path / "table.json", "--to", "ncnn"),
        *("-o", out, "--model", path),
    ).error_text()
    assert "ncnn computes in int8: gemm: its weights are not constant" in error


# plain -------------------------------------------------------------------------------------------


def test_csv_and_json_keep_every_bit_of_a_number(tmp_path: Path) -> None:
    table = qc.CalibrationTable({**make_table(), **by_channel()})
    plain.write_csv(table, tmp_path / "t.csv")
    plain.write_json(table, tmp_path / "t.json")
    with (tmp_path / "t.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    content = json.loads((tmp_path / "t.json").read_text("utf-8"))
    assert list(content) == list(table)
    for name, params in table.items():
        mine = [row for row in rows if row["tensor"] == name]
        channels = [row["channel"] for row in mine]
        assert channels == ([""] if params.axis is None else ["0", "1", "2"])
        for key in ("low", "high", "scale", "zero_point"):
            want = np.atleast_1d(getattr(params, key)).astype(np.float64)
            assert [float(row[key]) for row in mine] == want.tolist()
            assert np.atleast_1d(content[name][key]).tolist() == want.tolist()
        assert mine[0]["format"] == content[name]["format"] == params.format


# the command -------------------------------------------------------------------------------------


@pytest.mark.parametrize("to", TARGETS)
def test_the_command_writes_what_the_function_writes(to: str, tmp_path: Path) -> None:
    model = tmp_path / "model.onnx"
    onnx.save(models.conv_net(), model)
    feeds = [{"x": models.random(1, 3, 9, 12)}]
    table = qc.onnx.observe(model, feeds).compute("mse", format="int8")
    table.save(tmp_path / "table.json")
    options = {"model": model} if to == "ncnn" else {}
    arguments = ["--model", model] if to == "ncnn" else []
    made, expected = tmp_path / "made", tmp_path / "expected"
    if to == "onnxruntime-tensorrt":
        expected.mkdir()
    written = export(table, to, expected, **options)
    done = call("export", tmp_path / "table.json", "--to", to, "-o", made, *arguments)
    assert (done.code, done.err) == (0, "")
    if to == "ncnn":
        assert (done.facts["layers"], written.entries) == ("2", 2)
        assert done.facts["left out"] == "y: no layer reads it"
    else:
        assert done.facts["tensors"] == str(len(table)) == str(written.entries)
    assert done.facts["for"] == TARGETS[to].text
    files = [made] if made.is_file() else sorted(made.iterdir())
    wanted = [expected] if expected.is_file() else sorted(expected.iterdir())
    assert [f.read_bytes() for f in files] == [f.read_bytes() for f in wanted]


def test_the_command_reports_errors(tmp_path: Path) -> None:
    table = tmp_path / "table.json"
    make_table().save(table)
    out = tmp_path / "out"
    error = call("export", table, "--to", "ncnn", "-o", out).error_text()
    assert "give the model (--model)" in error
    error = call(
        "export", table, "--to", "csv", "-o", out, "--method", "MinMax"
    ).error_text()
    assert error == "method is no option of csv, which takes: none"
    error = call("export", table, "--to", "csv", "-o", table).error_text()
    assert "is an input" in error
    assert call("export", table, "--to", "tflite", "-o", out).code == 2
    qc.CalibrationTable({}).save(table)
    assert "empty" in call("export", table, "--to", "csv", "-o", out).error_text()
    assert not out.exists()
    with pytest.raises(qc.CalibrationError, match="Known targets: onnxruntime,"):
        export(make_table(), "tflite", out)


# TensorRT ----------------------------------------------------------------------------------------


def test_a_scale_is_written_as_the_bits_of_a_big_endian_float(tmp_path: Path) -> None:
    path = tmp_path / "calibration.cache"
    table = make_table("int8")
    qc.exporters.tensorrt.write_cache(
        table, path, version=8501, algorithm="MinMaxCalibration"
    )
    header, *lines = path.read_text().splitlines()
    assert header == "TRT-8501-MinMaxCalibration"
    for (name, params), line in zip(table.items(), lines, strict=True):
        assert line.startswith(f"{name}: ")
        digits = line[len(name) + 2 :]
        assert not digits.startswith("0")
        bits = bytes.fromhex(digits.zfill(8))
        assert struct.unpack(">f", bits) == (params.scale,)


def test_other_formats_use_their_larger_magnitude(tmp_path: Path) -> None:
    path = tmp_path / "calibration.cache"
    table = qc.CalibrationTable({**make_table("uint8"), **by_channel()})
    qc.exporters.tensorrt.write_cache(table, path)
    scales = qc.exporters.tensorrt.read_cache(path).scales
    for name, params in table.items():
        magnitude = np.max(np.abs([params.low, params.high]))
        assert scales[name] == np.float32(magnitude / 127)


def test_the_round_trip_is_exact(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    scales = rng.integers(0, 0x7F800000, 500, dtype=np.uint32).view(np.float32)
    named = {
        f"(Unnamed Layer* {i}) [Shuffle]_output: x:{i}": float(s)
        for i, s in enumerate(scales)
    }
    named |= {"zero": 0.0, "ünï:0": float(np.float32(1e-45)), ": ": 1.0, " ": 2.0}
    cache = qc.exporters.tensorrt.Cache(named, 101401, "EntropyCalibration")
    path, again = tmp_path / "a", tmp_path / "b"
    qc.exporters.tensorrt.write_cache(cache, path)
    assert qc.exporters.tensorrt.read_cache(path) == cache
    qc.exporters.tensorrt.write_cache(qc.exporters.tensorrt.read_cache(path), again)
    assert again.read_bytes() == path.read_bytes()
    assert "zero: 0\n" in path.read_text("utf-8")


def test_a_table_comes_back_from_its_cache(tmp_path: Path) -> None:
    table = make_table("int8")
    qc.exporters.tensorrt.write_cache(table, tmp_path / "c")
    back = qc.exporters.tensorrt.read_cache(tmp_path / "c").table()
    assert {n: p.scale for n, p in back.items()} == {
        n: p.scale for n, p in table.items()
    }
    qc.exporters.tensorrt.write_cache(back, tmp_path / "d")
    assert (tmp_path / "c").read_bytes() == (tmp_path / "d").read_bytes()


def test_windows_line_ends_and_empty_lines_are_read(tmp_path: Path) -> None:
    path = tmp_path / "c"
    path.write_bytes(b"TRT-8501-EntropyCalibration2\r\nx: 3C010A14\r\n\r\n")
    cache = qc.exporters.tensorrt.read_cache(path)
    assert cache.version == 8501
    assert cache.scales == {"x": struct.unpack(">f", bytes.fromhex("3c010a14"))[0]}


@pytest.mark.parametrize(
    ("content", "line", "why"),
    [
        (b"", 1, "is no header"),
        (b"TRT--X\n", 1, "is no header"),
        (b"TRT-8501-Entropy Calibration\n", 1, "is no header"),
        (b"{}\n", 1, "is no header"),
        (b"TRT-8501-A\nx: 1\n\xff: 3\n", 3, "UTF-8"),
        (b"TRT-8501-A\nx 3c010a14\n", 2, "not of the form"),
        (b"TRT-8501-A\n: 3c010a14\n", 2, "not of the form"),
        (b"TRT-8501-A\nx: 3c010a1g\n", 2, "hexadecimal"),
        (b"TRT-8501-A\nx: 0x3c01\n", 2, "hexadecimal"),
        (b"TRT-8501-A\nx: -1\n", 2, "hexadecimal"),
        (b"TRT-8501-A\nx: 03c010a14\n", 2, "hexadecimal"),
        (b"TRT-8501-A\nx: \n", 2, "hexadecimal"),
        (b"TRT-8501-A\nx: 7fc00000\n", 2, "no scale"),
        (b"TRT-8501-A\nx: 7f800000\n", 2, "no scale"),
        (b"TRT-8501-A\nx: bf800000\n", 2, "no scale"),
        (b"TRT-8501-A\nx: 1\ny: 1\nx: 2\n", 4, "second time"),
        (b"TRT-8501-A\n" + b"n" * 10**6 + b"\n", 2, "not of the form"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_hostile_cache_is_refused_with_file_and_line(
    content: bytes, line: int, why: str, tmp_path: Path
) -> None:
    path = tmp_path / "some.cache"
    path.write_bytes(content)
    with pytest.raises(qc.CalibrationError, match=why) as caught:
        qc.exporters.tensorrt.read_cache(path)
    message = str(caught.value)
    assert message.startswith(f"{path}, line {line}: ")
    assert len(message) < 400 + len(str(path))


@pytest.mark.parametrize(
    ("cache", "options", "why"),
    [
        ({"a\nb": 1.0}, {}, "does not fit a line"),
        ({"": 1.0}, {}, "does not fit a line"),
        ({"a": 1.0}, {"version": -3}, "no header"),
        ({"a": 1.0}, {"algorithm": "two words"}, "no header"),
    ],
)
def test_an_unreadable_cache_is_not_written(
    cache: dict[str, float], options: dict[str, object], why: str, tmp_path: Path
) -> None:
    path = tmp_path / "c"
    path.write_text("before")
    with pytest.raises(qc.CalibrationError, match=why):
        qc.exporters.tensorrt.write_cache(
            qc.exporters.tensorrt.Cache(cache), path, **options
        )
    assert path.read_text() == "before"


@pytest.mark.parametrize("scale", [math.nan, math.inf, -1.0, 1e300])
def test_invalid_scales_and_names_are_not_written(scale: float, tmp_path: Path) -> None:
    with pytest.raises(qc.CalibrationError, match="a scale must be from 0"):
        qc.exporters.tensorrt.write_cache(
            qc.exporters.tensorrt.Cache({"x": scale}), tmp_path / "cache"
        )
    with pytest.raises(qc.CalibrationError, match="half a surrogate pair"):
        qc.exporters.tensorrt.write_cache(
            qc.exporters.tensorrt.Cache({"\udc00": 1.0}), tmp_path / "cache"
        )
    assert not list(tmp_path.iterdir())


def test_only_parameters_are_exported(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="must be QuantParams, not float"):
        qc.exporters.export({"x": 0.5}, "csv", tmp_path / "x.csv")  # type: ignore[dict-item]
