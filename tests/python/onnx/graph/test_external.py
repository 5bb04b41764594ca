"""Models with external data run from their files, whatever their size."""

from __future__ import annotations

import gc
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import onnx_models as models
import quantcal as qc
from quantcal.onnx._graph import external_data
from quantcal.onnx._model.model import load_light, load_model

ROWS, WIDTH = 4_500_000, 128  # 2.3 GB of float32


def saved(model: onnx.ModelProto, folder: Path) -> Path:
    """Save a model with all weights in one external file."""
    path = folder / "m.onnx"
    onnx.save_model(
        model, str(path), save_as_external_data=True, location="w", size_threshold=0
    )
    return path


def embedding(folder: Path) -> Path:
    """A table above 2 GB, of which a sample reads a few rows, and a small MatMul.

    The file is sparse: only its last row is stored, and the rest reads as zeros.
    """
    table = TensorProto(name="table", data_type=TensorProto.FLOAT, dims=[ROWS, WIDTH])
    table.data_location = TensorProto.EXTERNAL
    table.external_data.add(key="location", value="table.bin")
    nodes = [
        helper.make_node("Gather", ["table", "ids"], ["e"]),
        helper.make_node("MatMul", ["e", "w"], ["y"], "product"),
    ]
    weight = onnx.numpy_helper.from_array(np.ones((WIDTH, 4), np.float32), "w")
    graph = helper.make_graph(
        nodes,
        "embedding",
        [models.value("ids", ["n"], TensorProto.INT64)],
        [models.value("y", ["n", 4])],
        [table, weight],
    )
    opsets = [helper.make_opsetid("", 17)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    (folder / "big.onnx").write_bytes(model.SerializeToString())
    with (folder / "table.bin").open("wb") as file:
        file.truncate(ROWS * WIDTH * 4)
        file.seek((ROWS - 1) * WIDTH * 4)
        file.write(np.full(WIDTH, 3, np.float32).tobytes())
    return folder / "big.onnx"


OBSERVE = """
import sys
import numpy as np
import quantcal as qc
from quantcal.onnx.result import peak_memory
feeds = [{"ids": np.array([0, int(sys.argv[2]) - 1])}]
for tensors in (None, "all"):
    cal = qc.onnx.observe(sys.argv[1], feeds, tensors=tensors, placement="stock")
    assert (cal["e"].min, cal["e"].max) == (0, 3), cal["e"]
    assert cal["y"].max == 3 * 128
print(peak_memory() // 2**20)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="sparse files, peak in KiB")
def test_a_model_above_2_gb_is_observed_in_a_fraction_of_its_size(
    tmp_path: Path,
) -> None:
    path = embedding(tmp_path)
    command = [sys.executable, "-c", OBSERVE, str(path), str(ROWS)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 1000  # MiB


@pytest.mark.parametrize("tensors", [None, "all"])
@pytest.mark.parametrize("method", ["in_graph", "outputs"])
@pytest.mark.parametrize("opset", [11, 17])
def test_observation_reads_no_large_weight_and_gives_the_same_result(
    tensors: str | None,
    method: str,
    opset: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = models.conv_net(opset=opset)
    feeds = [{"x": models.random(1, 3, 6, 8)}]
    want = qc.onnx.observe(model, feeds, tensors=tensors)
    path = saved(model, tmp_path)
    monkeypatch.setattr(
        "quantcal.onnx._graph.external_data.EXTERNAL_BYTES", 0
    )  # all are large

    def refused(*_: object) -> None:
        raise AssertionError("a weight is read")

    monkeypatch.setattr(external_data, "_read", refused)
    got = qc.onnx.observe(path, feeds, tensors=tensors, observer=method)  # type: ignore[arg-type]
    assert got.to_bytes() == want.to_bytes()
    with pytest.raises(AssertionError, match="a weight is read"):
        load_model(path)


def test_weights_that_change_are_read_one_by_one(tmp_path: Path) -> None:
    """BatchNormalization and a shared bias, compared with the model in memory."""
    model = models.batch_norm_net(shared=True)
    feeds = [{"x": models.random(1, 3, 6, 8)}]
    want = qc.onnx.observe(model, feeds)
    assert qc.onnx.observe(saved(model, tmp_path), feeds).to_bytes() == want.to_bytes()


def test_weights_inside_subgraphs_are_found_and_small_ones_read(tmp_path: Path) -> None:
    model, x = models.if_net(outside=True), models.random(4, 6)
    branch = model.graph.node[-1].attribute[0].g
    inner = onnx.numpy_helper.from_array(models.random(6, 6, seed=3), "w2")
    branch.initializer.append(inner)
    branch.node[0].input[1] = "w2"
    feeds = [{"x": x, "c": np.array(yes)} for yes in (True, False)]
    want = qc.onnx.observe(model, feeds, tensors="all")
    path = saved(model, tmp_path)
    names = {
        t.name
        for t in external_data.external_tensors(
            onnx.load(path, load_external_data=False)
        )
    }
    assert names == {"w", "w2"}
    assert qc.onnx.observe(path, feeds, tensors="all").to_bytes() == want.to_bytes()
    light = load_model(path, weights=False)
    assert not list(external_data.external_tensors(light.proto))  # 144 bytes each


def test_a_missing_file_of_external_data_is_named(tmp_path: Path) -> None:
    path = saved(models.conv_net(), tmp_path)
    (tmp_path / "w").unlink()
    with pytest.raises(
        qc.CalibrationError, match=r"weight 'w1' is in '.*w', which is not"
    ):
        qc.onnx.observe(path, [{"x": models.random(1, 3, 6, 8)}])


def test_a_model_given_as_bytes_is_observed_in_the_graph(tmp_path: Path) -> None:
    model, feeds = models.conv_net(), [{"x": models.random(1, 3, 6, 8)}]
    path = tmp_path / "m.onnx"
    onnx.save_model(model, str(path))
    for tensors in (None, "all"):
        given = [
            qc.onnx.observe(form, feeds, tensors=tensors, observer="in_graph")
            for form in (path, path.read_bytes(), model)
        ]
        assert given[0].to_bytes() == given[1].to_bytes() == given[2].to_bytes()
        assert len(given[0]) >= 3


@pytest.mark.parametrize(
    "model",
    [models.conv_net(), models.conv_net(opset=11), models.batch_norm_net(shared=True)],
    ids=["conv", "opset 11", "folded and shared"],
)
def test_quantizing_from_external_data_writes_the_same_bytes(
    model: onnx.ModelProto, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    feeds = [{"x": models.random(1, 3, 6, 8)}]
    qc.onnx.quantize(
        model, tmp_path / "want.onnx", feeds, progress=False, strategy="mse"
    )
    path = saved(model, tmp_path)
    monkeypatch.setattr(
        "quantcal.onnx._graph.external_data.EXTERNAL_BYTES", 0
    )  # all are large
    qc.onnx.quantize(path, tmp_path / "got.onnx", feeds, progress=False, strategy="mse")
    want, got = ((tmp_path / f"{n}.onnx").read_bytes() for n in ("want", "got"))
    assert want == got


def test_float_weights_are_copied_into_the_output(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The weight of an excluded node."""
    monkeypatch.setattr("quantcal.onnx._graph.external_data.EXTERNAL_BYTES", 0)
    path = saved(models.conv_net(), tmp_path)
    feeds = [{"x": models.random(1, 3, 6, 8)}]
    qc.onnx.quantize(
        path,
        tmp_path / "q.onnx",
        feeds,
        exclude=["Conv_2"],
        progress=False,
        strategy="mse",
    )
    (tmp_path / "w").unlink()
    assert models.session(str(tmp_path / "q.onnx")).run(None, feeds[0])


@pytest.mark.parametrize("form", ["path", "bytes", "object"])
@pytest.mark.parametrize("opset", [11, 17])
def test_large_models_use_a_temporary_file_and_give_the_same_result(
    form: str, opset: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, feeds = models.conv_net(opset=opset), [{"x": models.random(1, 3, 6, 8)}]
    path = tmp_path / "m.onnx"
    onnx.save_model(model, str(path))
    given = {"path": path, "bytes": path.read_bytes(), "object": model}[form]
    observed = qc.onnx.observe(given, feeds, tensors="all").to_bytes()
    qc.onnx.quantize(
        given, tmp_path / "want.onnx", feeds, progress=False, strategy="mse"
    )
    before = model.SerializeToString()

    monkeypatch.setattr("quantcal.onnx._model.model._MANY_WEIGHTS", 0)
    monkeypatch.setattr("quantcal.onnx._graph.external_data.EXTERNAL_BYTES", 200)
    light = load_light(given)
    assert any(external_data.external_tensors(light.proto))
    assert qc.onnx.observe(given, feeds, tensors="all").to_bytes() == observed
    qc.onnx.quantize(
        given, tmp_path / "got.onnx", feeds, progress=False, strategy="mse"
    )
    want, got = ((tmp_path / f"{n}.onnx").read_bytes() for n in ("want", "got"))
    assert want == got
    assert model.SerializeToString() == before


def test_the_temporary_file_of_weights_is_removed_with_the_model(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("quantcal.onnx._model.model._MANY_WEIGHTS", 0)
    light = load_light(models.conv_net())
    folder = light.folder
    assert folder is not None
    assert folder.is_dir()
    del light
    gc.collect()
    assert not folder.exists()


def test_files_in_the_working_folder_do_not_matter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One has the name of the temporary weights, another one is from an earlier run."""
    (tmp_path / "weights").write_text("mine")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("quantcal.onnx._write.output._MAX_FILE", 100)
    monkeypatch.setattr("quantcal.onnx._graph.external_data.EXTERNAL_BYTES", 100)
    feeds = [{"x": models.random(1, 3, 6, 8)}]
    for _ in range(2):
        qc.onnx.quantize(
            models.conv_net(), "q.onnx", feeds, progress=False, strategy="mse"
        )
    assert models.session("q.onnx").run(None, feeds[0])
    assert Path("q.onnx.data").stat().st_size >= 100
    assert Path("weights").read_text() == "mine"


PEAK = """
import sys
import numpy as np
import onnx
import quantcal as qc
from quantcal.onnx.result import peak_memory
import onnxruntime
feeds = [{"x": np.ones((1, 2048), np.float32)}]
before = peak_memory()
qc.onnx.observe(sys.argv[1], feeds, tensors="all")
print((peak_memory() - before) / float(sys.argv[2]))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="peak memory of one process")
def test_a_model_in_one_file_is_observed_in_about_twice_its_size(
    tmp_path: Path,
) -> None:
    """Reading needs the file and the parsed model. Later steps need no more."""
    size, layers = 2048, 6
    weights = {f"w{i}": models.random(size, size, seed=i) for i in range(layers)}
    names = ["x", *(f"h{i}" for i in range(layers - 1)), "y"]
    nodes = [
        helper.make_node("MatMul", [names[i], f"w{i}"], [names[i + 1]])
        for i in range(layers)
    ]
    ends = [models.value(name, ["n", size]) for name in ("x", "y")]
    model = models.build(nodes, ends[:1], ends[1:], weights)
    path = tmp_path / "m.onnx"
    onnx.save_model(model, str(path))
    bytes_of_weights = layers * size * size * 4
    command = [sys.executable, "-c", PEAK, str(path), str(bytes_of_weights)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    assert float(done.stdout) < 2.5, done.stdout
