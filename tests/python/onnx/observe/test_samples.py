"""Samples from files, callables, iterables and data readers, and their errors."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto

import onnx_models as models
import quantcal as qc
from quantcal.onnx import InputSpec, load_samples
from quantcal.onnx._model.model import model_inputs
from quantcal.onnx._runtime.samples import as_samples

F32 = np.dtype("float32")
TWO = (InputSpec("x", F32, (None, 3)), InputSpec("n", np.dtype("int64"), ()))
ONE = TWO[:1]


def feed(rows: int = 2) -> dict[str, Any]:
    return {"x": models.random(rows, 3), "n": np.array(rows)}


def test_a_folder_of_npz_is_read_in_the_order_of_names_and_again(
    tmp_path: Path,
) -> None:
    for name, rows in (("b", 2), ("a", 1), ("c", 3)):
        np.savez(tmp_path / f"{name}.npz", **feed(rows))
    (tmp_path / "readme.txt").write_text("not a sample")
    feeds = load_samples(tmp_path, TWO)
    assert len(feeds) == 3
    assert feeds.rewindable
    for _ in range(2):
        assert [sample["x"].shape[0] for sample in feeds] == [1, 2, 3]
    np.testing.assert_array_equal(next(iter(feeds))["x"], models.random(1, 3))


def test_one_npz_is_one_sample(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "one.npz", **feed())
    assert [sorted(sample) for sample in load_samples(tmp_path / "one.npz", TWO)] == [
        ["n", "x"]
    ]


def test_npy_files_feed_a_model_with_one_input(tmp_path: Path) -> None:
    for rows in (1, 2):
        np.save(tmp_path / f"{rows}.npy", models.random(rows, 3))
    assert [sample["x"].shape for sample in load_samples(tmp_path, ONE)] == [
        (1, 3),
        (2, 3),
    ]
    with pytest.raises(qc.CalibrationError, match=r"2 inputs: 'x'.*\.npz"):
        load_samples(tmp_path, TWO)


def test_samples_are_read_one_at_a_time(tmp_path: Path) -> None:
    for index in range(3):
        np.savez(tmp_path / f"{index}.npz", **feed())
    iterator = iter(load_samples(tmp_path, TWO))
    next(iterator)
    (tmp_path / "1.npz").unlink()
    with pytest.raises(qc.CalibrationError, match=r"1\.npz"):
        next(iterator)


def test_a_python_callable_gives_feeds_and_starts_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "some_samples.py").write_text(
        "import numpy\n"
        "def samples():\n"
        "    for n in (1, 2):\n"
        "        yield {'x': numpy.ones((n, 3), 'float32')}\n"
        "def wrong():\n"
        "    return 5\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    feeds = load_samples("python:some_samples:samples", ONE)
    assert [len(sample["x"]) for sample in feeds] == [1, 2]
    assert [len(sample["x"]) for sample in feeds] == [1, 2]
    assert feeds.count is None
    with pytest.raises(TypeError, match="not known"):
        len(feeds)
    with pytest.raises(qc.CalibrationError, match="no callable 'nothing'"):
        load_samples("python:some_samples:nothing", ONE)
    with pytest.raises(qc.CalibrationError, match="returned a int"):
        list(load_samples("python:some_samples:wrong", ONE))
    with pytest.raises(qc.CalibrationError, match="Cannot import 'no_such_module'"):
        load_samples("python:no_such_module:f", ONE)
    with pytest.raises(qc.CalibrationError, match="python:module:callable"):
        load_samples("python:some_samples", ONE)


def test_a_source_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(qc.CalibrationError, match="missing does not exist"):
        load_samples(tmp_path / "missing", ONE)
    with pytest.raises(qc.CalibrationError, match="Is python:samples:read meant"):
        load_samples("samples:read", ONE)
    with pytest.raises(qc.CalibrationError, match=r"holds no \.npz or \.npy file"):
        load_samples(tmp_path, ONE)
    (tmp_path / "line.png").touch()
    with pytest.raises(qc.CalibrationError, match=r"1 image\..*python:module:callable"):
        load_samples(tmp_path, ONE)
    (tmp_path / "data.csv").write_text("1,2")
    with pytest.raises(qc.CalibrationError, match=r"data\.csv is neither"):
        load_samples(tmp_path / "data.csv", ONE)
    np.save(tmp_path / "a.npy", models.random(1, 3))
    np.savez(tmp_path / "b.npz", **feed())
    with pytest.raises(qc.CalibrationError, match=r"both \.npz and \.npy"):
        load_samples(tmp_path, ONE)


@pytest.mark.parametrize("damage", ["text", "truncated", "altered", "objects", "empty"])
@pytest.mark.parametrize("kind", ["npz", "npy"])
def test_a_damaged_file_is_named(tmp_path: Path, kind: str, damage: str) -> None:
    path = tmp_path / f"bad.{kind}"
    array: Any = models.random(40, 3)
    if damage == "objects":
        array = np.array([{"a": 1}], dtype=object)
    if kind == "npz":
        np.savez_compressed(path, x=array)
    else:
        np.save(path, array)
    data = path.read_bytes()
    half = len(data) // 2
    changed = {
        "text": b"hello",
        "truncated": data[:half],
        "altered": data[:20] + b"\xff" * 30 + data[50:],
        "objects": data,
        "empty": b"",
    }
    path.write_bytes(changed[damage])
    with pytest.raises(qc.CalibrationError, match=rf"bad\.{kind}"):
        list(load_samples(path, ONE))


@pytest.mark.parametrize(
    ("sample", "message"),
    [
        ({"x": models.random(2, 3)}, r"sample 1 has no input 'n'.*takes 'x'"),
        ({**feed(), "z": 1}, r"sample 1 has 'z', which is not an input.*'x'.*'n'"),
        ({**feed(), "x": np.ones((2, 3))}, r"sample 1: input 'x' has dtype float64.*float32.*astype"),
        ({**feed(), "n": np.int32(1)}, r"sample 1: input 'n' has dtype int32.*int64"),
        ({**feed(), "x": models.random(3)}, r"sample 1: input 'x' has 1 dimensions, shape \[3\].*\[any, 3\]"),
        ({**feed(), "x": models.random(2, 4)}, r"sample 1: input 'x' has shape \[2, 4\].*\[any, 3\]"),
        ({**feed(), "x": [[1.0, 2.0, 3.0]]}, r"sample 1: input 'x' is a list; expected a numpy array"),
        (models.random(2, 3), r"sample 1 is a ndarray; expected a mapping"),
    ],
)  # fmt: skip
def test_a_sample_that_does_not_fit_is_refused_by_its_index(
    sample: Any, message: str
) -> None:
    with pytest.raises(qc.CalibrationError, match=message):
        list(as_samples([feed(), sample], TWO))


def test_an_input_with_a_default_may_be_missing() -> None:
    specs = (*ONE, InputSpec("n", np.dtype("int64"), (), required=False))
    assert [sorted(s) for s in as_samples([feed(), {"x": feed()["x"]}], specs)] == [
        ["n", "x"],
        ["x"],
    ]


def test_a_list_can_be_read_again_and_a_generator_cannot() -> None:
    assert as_samples([feed()], TWO).rewindable
    assert as_samples([feed()], TWO).count == 1
    once = as_samples((feed() for _ in range(2)), TWO)
    assert not once.rewindable
    assert once.count is None
    assert len(list(once)) == 2


def test_a_calibration_data_reader_is_accepted_and_rewound() -> None:
    from onnxruntime.quantization import CalibrationDataReader

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self.rewind()

        def get_next(self) -> Any:
            return next(self.samples, None)

        def rewind(self) -> None:
            self.samples = iter([feed(1), feed(2)])

    feeds = as_samples(Reader(), TWO)
    assert feeds.rewindable
    for _ in range(2):
        assert [len(sample["x"]) for sample in feeds] == [1, 2]


@pytest.mark.parametrize(
    "samples", [5, {"x": models.random(1, 3)}, models.random(1, 3)]
)
def test_objects_that_are_not_samples_are_refused(samples: Any) -> None:
    with pytest.raises(
        qc.CalibrationError, match=r"samples are a .*CalibrationDataReader"
    ):
        as_samples(samples, ONE)


def test_feeds_are_checked_against_the_model_that_reads_them() -> None:
    feeds = as_samples([feed()], TWO)
    with pytest.raises(qc.CalibrationError, match=r"sample 0 has 'n'"):
        list(as_samples(feeds, ONE))


def test_inputs_are_taken_from_the_model() -> None:
    model = models.conv_net(ir=3, opset=11)
    assert model_inputs(model) == (InputSpec("x", F32, (None, 3, None, None)),)
    feeds = load_samples("python:os:listdir", model)
    assert [spec.name for spec in feeds.inputs] == ["x"]
    text = models.value("s", ["n"], TensorProto.STRING)
    specs = model_inputs(models.build([], [text], [text], {}))
    assert list(as_samples([{"s": np.array(["a"])}], specs))
