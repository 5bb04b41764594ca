"""Histograms equal numpy's statistics of the outputs of a plain session."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import onnx_models as models
import quantcal as qc
from quantcal.onnx._model.model import LoadedModel
from quantcal.onnx._runtime import memory_groups
from quantcal.onnx._runtime.session import Workspace

WIDTHS = (8, 5, 16, 9, 24, 3)


def images(widths: tuple[int, ...] = WIDTHS) -> list[dict[str, Any]]:
    return [{"x": models.random(1, 3, 6, w, seed=w)} for w in widths]


def assert_equals_oracle(
    cal: qc.Calibrator, model: onnx.ModelProto, feeds: list[dict[str, Any]]
) -> None:
    """Compare every histogram's exact figures with those of all values."""
    assert len(cal) > 0
    inputs = {value.name for value in model.graph.input}
    for name in cal.names:
        parts = [
            f[name] if name in inputs else models.outputs(model, f, [name])[0]
            for f in feeds
        ]
        data = np.concatenate([part.ravel() for part in parts])
        h = cal[name]
        finite = data[np.isfinite(data)]
        assert h.count == data.size, name
        assert h.nan == np.isnan(data).sum(), name
        assert h.posinf == np.isposinf(data).sum(), name
        assert h.neginf == np.isneginf(data).sum(), name
        assert h.zeros == (data == 0).sum(), name
        assert h.min == finite.min(), name
        assert h.max == finite.max(), name


def test_the_tensors_that_quantization_needs_are_observed() -> None:
    model, feeds = models.conv_net(), images()
    cal = qc.onnx.observe(model, feeds)
    assert sorted(cal.names) == ["r1", "x", "y"]  # c1 is rounded after its ReLU
    assert_equals_oracle(cal, model, feeds)


def test_all_float_tensors_and_no_weights() -> None:
    model, feeds = models.batch_norm_net(), images()
    cal = qc.onnx.observe(model, feeds, tensors="all")
    assert sorted(cal.names) == ["c", "n", "x", "y"]
    assert_equals_oracle(cal, model, feeds)


def test_named_tensors_only() -> None:
    model, feeds = models.conv_net(), images()
    cal = qc.onnx.observe(model, feeds, tensors=["r1", "x"])
    assert sorted(cal.names) == ["r1", "x"]
    assert_equals_oracle(cal, model, feeds)


@pytest.mark.parametrize("max_memory", [1, 2_000, 6_000, 1 << 30])
def test_groups_change_nothing(
    max_memory: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, feeds = models.batch_norm_net(shared=True), images()
    largest: list[int] = []
    original = memory_groups.GroupedRun.__call__

    def watch(self: Any, feed: Any, where: str) -> Any:
        for arrays in original(self, feed, where):
            if len(arrays) > 1:
                largest.append(sum(array.nbytes for array in arrays.values()))
            yield arrays

    monkeypatch.setattr(memory_groups.GroupedRun, "__call__", watch)
    cal = qc.onnx.observe(
        model, iter(feeds), tensors="all", observer="outputs", max_memory=max_memory
    )  # a generator: one pass must suffice
    assert sorted(cal.names) == ["c", "n", "x", "y", "z"]
    assert_equals_oracle(cal, model, feeds)
    assert all(size <= max_memory for size in largest)
    assert bool(largest) == (max_memory > 1)


def test_a_larger_sample_makes_new_groups() -> None:
    model = models.conv_net()
    with Workspace(LoadedModel(model, "it")) as work:
        types = work.types(["c1", "r1", "y"])
        run = memory_groups.GroupedRun(
            work, types, 4 * 10 * 4 * 6
        )  # 10 channels of 4 × 6
        seen = []
        for feed in images((8, 4, 10, 80)):
            names = [sorted(arrays) for arrays in run(feed, "a sample")]
            assert sorted(name for group in names for name in group) == [
                "c1",
                "r1",
                "y",
            ]
            seen.append(run.groups)
    assert seen == [1, 1, 2, 3]


def test_nan_and_infinity_are_counted_or_refused_by_name_and_sample() -> None:
    node = helper.make_node("Log", ["x"], ["l"])
    matmul = helper.make_node("MatMul", ["l", "w"], ["y"])
    model = models.build(
        [node, matmul],
        [models.value("x", ["n", 4])],
        [models.value("y", ["n", 2])],
        {"w": np.eye(4, 2, dtype=np.float32)},
    )
    bad = np.array([[1, 0, -1, 2]], dtype=np.float32)
    feeds = [{"x": np.ones((1, 4), np.float32)}, {"x": bad}]
    cal = qc.onnx.observe(model, feeds)
    assert (cal["l"].nan, cal["l"].neginf, cal["l"].count) == (1, 1, 8)
    assert_equals_oracle(cal, model, feeds)
    with pytest.raises(qc.CalibrationError, match=r"sample 1.*'?l'?"):
        qc.onnx.observe(model, feeds, on_nonfinite="raise")


def test_several_inputs_of_several_types() -> None:
    nodes = [
        helper.make_node("Gather", ["table", "ids"], ["e"]),
        helper.make_node("Add", ["e", "x"], ["s"]),
        helper.make_node("MatMul", ["s", "w"], ["y"]),
    ]
    model = models.build(
        nodes,
        [models.value("ids", ["n"], TensorProto.INT64), models.value("x", [4])],
        [models.value("y", ["n", 2])],
        {"table": models.random(9, 4), "w": models.random(4, 2)},
    )
    feeds = [
        {"ids": np.arange(n, dtype=np.int64), "x": models.random(4, seed=n)}
        for n in (1, 5)
    ]
    cal = qc.onnx.observe(model, feeds, tensors="all")
    assert sorted(cal.names) == ["e", "s", "x", "y"]
    assert_equals_oracle(cal, model, feeds)


def test_half_and_double_tensors_are_observed() -> None:
    nodes = [
        helper.make_node("Cast", ["x"], ["half"], to=TensorProto.FLOAT16),
        helper.make_node("Cast", ["x"], ["double"], to=TensorProto.DOUBLE),
        helper.make_node("Cast", ["x"], ["int"], to=TensorProto.INT32),
        helper.make_node("Relu", ["x"], ["y"]),
    ]
    x, y = models.value("x", ["n"]), models.value("y", ["n"])
    model = models.build(nodes, [x], [y], {})
    feeds = [{"x": models.random(50)}]
    cal = qc.onnx.observe(model, feeds, tensors="all")
    assert sorted(cal.names) == ["double", "half", "x", "y"]
    assert_equals_oracle(cal, model, feeds)
    with pytest.raises(
        qc.CalibrationError, match=r"'int' has the type tensor\(int32\)"
    ):
        qc.onnx.observe(model, feeds, tensors=["int"])


def test_optimizations_do_not_change_what_is_observed() -> None:
    # onnxruntime would fold the two Mul nodes into the Conv, and drop the Identity.
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"]),
        helper.make_node("Mul", ["c", "k"], ["m"]),
        helper.make_node("Identity", ["m"], ["i"]),
        helper.make_node("Add", ["i", "k"], ["y"]),
    ]
    model = models.build(
        nodes,
        [models.value("x", ["n", 3, "h", "w"])],
        [models.value("y", ["n", 4, "i", "j"])],
        {"w": models.random(4, 3, 3, 3), "k": models.random(4, 1, 1, seed=2)},
    )
    cal = qc.onnx.observe(model, images(), tensors="all")
    assert sorted(cal.names) == ["c", "i", "m", "x", "y"]
    assert_equals_oracle(cal, model, images())


def test_a_path_and_bytes_and_external_data(tmp_path: Path) -> None:
    model, feeds = models.conv_net(), images()
    want = qc.onnx.observe(model, feeds)
    path = tmp_path / "m.onnx"
    onnx.save_model(
        model, str(path), save_as_external_data=True, location="w", size_threshold=0
    )
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    got = qc.onnx.observe(path, feeds)
    assert sorted(got.names) == sorted(want.names)
    assert all(got[name].max == want[name].max for name in want.names)
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before
    whole = models.conv_net().SerializeToString()
    assert qc.onnx.observe(whole, feeds)["y"].max == want["y"].max
    with pytest.raises(qc.CalibrationError, match="Pass the path"):
        qc.onnx.observe(path.read_bytes(), feeds)


def test_the_model_object_is_not_changed() -> None:
    model = models.conv_net(opset=11)
    before = model.SerializeToString()
    qc.onnx.observe(model, images())
    assert model.SerializeToString() == before


def test_an_existing_calibrator_is_continued() -> None:
    model, feeds = models.conv_net(), images()
    cal = qc.onnx.observe(model, feeds[:2])
    assert qc.onnx.observe(model, feeds[2:], calibrator=cal) is cal
    assert_equals_oracle(cal, model, feeds)
    with pytest.raises(qc.CalibrationError, match="not both"):
        qc.onnx.observe(model, feeds, calibrator=cal, mantissa_bits=5)


def test_names_that_do_not_exist() -> None:
    model, feeds = models.conv_net(), images()
    with pytest.raises(qc.CalibrationError, match=r"no tensor 'r2'.*r1"):
        qc.onnx.observe(model, feeds, tensors=["r2"])
    with pytest.raises(qc.CalibrationError, match="'w1' is a weight"):
        qc.onnx.observe(model, feeds, tensors=["w1"])
    with pytest.raises(qc.CalibrationError, match='Give None, "all"'):
        qc.onnx.observe(model, feeds, tensors="c1")


def test_no_samples_is_an_error() -> None:
    with pytest.raises(qc.CalibrationError, match="no samples"):
        qc.onnx.observe(models.conv_net(), [])


def test_a_sample_on_which_the_model_fails_is_named() -> None:
    nodes = [
        helper.make_node("Reshape", ["x", "s"], ["r"]),
        helper.make_node("MatMul", ["r", "w"], ["y"]),
    ]
    model = models.build(
        nodes,
        [models.value("x", ["n"])],
        [models.value("y", [2, 2])],
        {"s": np.array([2, 4]), "w": models.random(4, 2)},
    )
    feeds = [{"x": models.random(8)}, {"x": models.random(7)}]
    with pytest.raises(qc.CalibrationError, match=r"sample 1 with shapes .*\[7\]"):
        qc.onnx.observe(model, feeds)


def test_a_model_that_cannot_be_loaded_is_named(tmp_path: Path) -> None:
    with pytest.raises(qc.CalibrationError, match=r"nothing\.onnx is not a file"):
        qc.onnx.observe(tmp_path / "nothing.onnx", images())
    path = tmp_path / "text.onnx"
    path.write_text("this is no model")
    with pytest.raises(qc.CalibrationError, match=r"text\.onnx"):
        qc.onnx.observe(path, images())
    node = helper.make_node("NoSuchOp", ["x"], ["y"])
    graph = helper.make_graph(
        [node], "g", [models.value("x", [1])], [models.value("y", [1])]
    )
    opset = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=8), path)
    with pytest.raises(
        qc.CalibrationError, match=r"cannot load .*text\.onnx.*NoSuchOp"
    ):
        qc.onnx.observe(path, images(), tensors="all")


def test_memory_limit_must_be_positive() -> None:
    with pytest.raises(qc.CalibrationError, match="max_memory is 0"):
        qc.onnx.observe(models.conv_net(), images(), max_memory=0)
