"""Errors name the kind of a wrong file, with what to do."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import pickle
import tarfile
import warnings
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest

import onnx_models as models
import quantcal as qc

FEEDS = [{"x": models.random(1, 3, 6, 8)}]
MODEL = models.conv_net().SerializeToString()


def zipped(*names: str) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        for name in names:
            archive.writestr(name, MODEL)
    return made.getvalue()


def tarred() -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("model.onnx"))
    return made.getvalue()


def numpy_file(*, several: bool) -> bytes:
    made = io.BytesIO()
    if several:
        np.savez(made, x=FEEDS[0]["x"])
    else:
        np.save(made, FEEDS[0]["x"])
    return made.getvalue()


# Behind these the content that was asked for may be: what to do is the same for all.
WRAPPED = {
    "lfs": (
        b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n",
        "a Git LFS pointer, not the file itself. Fetch the content: git lfs pull",
    ),
    "annex": (b"/annex/objects/SHA256E-s9--a.onnx\n", "a git-annex pointer.*annex get"),
    "gzip": (gzip.compress(MODEL), "compressed by gzip. Unpack it first: gzip -d"),
    "bzip2": (bz2.compress(MODEL), "compressed by bzip2. Unpack it first"),
    "xz": (lzma.compress(MODEL), "compressed by xz. Unpack it first"),
    "zstd": (b"\x28\xb5\x2f\xfd" + MODEL, "compressed by zstd. Unpack it first"),
    "tar": (tarred(), "a tar archive. Unpack it first"),
    "zip": (zipped("model.onnx", "readme.txt"), "a ZIP archive. Unpack it first"),
    "cut zip": (zipped("model.onnx")[:-40], r"a ZIP archive \(.*damaged or cut short"),
    "page": (
        b"\n<!DOCTYPE html>\n<html><body>404",
        "an HTML page, not the file itself",
    ),
    "zeros": (bytes(10_000), "nothing but zeros, as after an interrupted download"),
}

OTHER_MODELS = {
    "torch": (zipped("archive/data.pkl", "archive/data/0"), r"a PyTorch.*torch\.onnx"),
    "torchscript": (
        zipped("m/constants.pkl", "m/code/x.py"),
        r"a PyTorch.*torch\.onnx",
    ),
    "pickle": (pickle.dumps({"a": 1}), "a Python pickle, as old PyTorch"),
    "keras": (zipped("config.json", "metadata.json", "w.h5"), "a Keras model"),
    "hdf5": (b"\x89HDF\r\n\x1a\n" + bytes(50), "an HDF5 file, as Keras writes"),
    "tflite": (b"\x1c\0\0\0TFL3" + bytes(50), "a model of TensorFlow Lite"),
    "gguf": (b"GGUF\3\0\0\0" + bytes(50), "a GGUF file"),
    "safetensors": (
        (16).to_bytes(8, "little") + b'{"a":{"x":[0]}} ' + bytes(50),
        "a safetensors file: weights without a graph",
    ),
    "openvino": (b"<?xml version='1.0'?>\n<net name='a'>", "a model of OpenVINO"),
    "array": (numpy_file(several=False), "a numpy array.*data, not a model"),
    "arrays": (numpy_file(several=True), "a file of numpy arrays.*data, not a model"),
    "error": (b'{"message": "Not Found"}', "JSON text. It may hold the reason"),
    "xml error": (b"<?xml version='1.0'?><Error/>", "XML text. It may hold the reason"),
    "text": (b"Invalid username or password.\n", "text. Fetch the file again"),
    "empty": (b"", "empty. Fetch the file again"),
}


@pytest.mark.parametrize(
    ("content", "message"),
    (WRAPPED | OTHER_MODELS).values(),
    ids=WRAPPED | OTHER_MODELS,
)
@pytest.mark.parametrize("form", ["path", "bytes"])
def test_what_is_given_for_a_model_is_called_what_it_is(
    form: str, content: bytes, message: str, tmp_path: Path
) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(content)
    given: Any = path if form == "path" else content
    label = r"m\.onnx" if form == "path" else "the model"
    with pytest.raises(qc.CalibrationError, match=f"{label} is {message}"):
        qc.onnx.observe(given, FEEDS)
    with pytest.raises(qc.CalibrationError, match=f"{label} is {message}"):
        qc.onnx.evaluate(given, MODEL, FEEDS)
    with pytest.raises(qc.CalibrationError, match=f"{label} is {message}"):
        qc.onnx.evaluate(MODEL, given, FEEDS)
    with pytest.raises(qc.CalibrationError, match=f"{label} is {message}"):
        qc.onnx.quantize(given, tmp_path / "q.onnx", FEEDS)
    assert not (tmp_path / "q.onnx").exists()


def test_a_model_in_onnxruntimes_own_format_is_called_that(tmp_path: Path) -> None:
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.optimized_model_filepath = str(tmp_path / "m.ort")
    options.add_session_config_entry("session.save_model_format", "ORT")
    ort.InferenceSession(MODEL, options, providers=["CPUExecutionProvider"])
    with pytest.raises(
        qc.CalibrationError, match=r"m\.ort is .*own format.*\.onnx mod"
    ):
        qc.onnx.observe(tmp_path / "m.ort", FEEDS)


def test_a_model_is_read_whatever_its_bytes_look_like() -> None:
    """The magic letters of an .ort file can stand in an ONNX model, too."""
    proto = onnx.ModelProto.FromString(MODEL)
    proto.producer_name = "ORTModule"
    content = proto.SerializeToString()
    assert content[4:8] == b"ORTM"
    assert qc.onnx.observe(content, FEEDS)
    assert qc.onnx.observe(bytearray(content), FEEDS)


@pytest.mark.parametrize("length", [1, 7, len(MODEL) // 2, len(MODEL) - 1])
def test_a_model_that_is_cut_short_is_called_that(length: int, tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(MODEL[:length])
    with pytest.raises(
        qc.CalibrationError, match=r"m\.onnx is not an ONNX model, or it is"
    ):
        qc.onnx.observe(tmp_path / "m.onnx", FEEDS)


@pytest.mark.parametrize("form", ["onnxtxt", "textproto", "json"])
def test_the_advice_on_the_text_forms_of_onnx_leads_to_success(
    form: str, tmp_path: Path
) -> None:
    """onnxruntime reads none of them."""
    path = tmp_path / f"m.{form}"
    onnx.save_model(onnx.ModelProto.FromString(MODEL), str(path), format=form)
    with pytest.raises(
        qc.CalibrationError,
        match=rf'm\.{form} is ONNX written as text \({form}\).*format="{form}"',
    ):
        qc.onnx.observe(path, FEEDS)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # onnx calls one of them experimental
        onnx.save(onnx.load(path, format=form), tmp_path / "model.onnx")
    assert qc.onnx.observe(tmp_path / "model.onnx", FEEDS)


def test_a_folder_names_the_models_inside(tmp_path: Path) -> None:
    with pytest.raises(qc.CalibrationError, match=r"is a folder.*such as model\.onnx"):
        qc.onnx.observe(tmp_path, FEEDS)
    (tmp_path / "encoder.onnx").write_bytes(MODEL)
    with pytest.raises(
        qc.CalibrationError, match=r"is a folder.* in it: encoder\.onnx"
    ):
        qc.onnx.observe(tmp_path, FEEDS)


@pytest.mark.parametrize("path", ["a\0b", "n" * 5000])
def test_paths_that_cannot_be_are_refused(path: str) -> None:
    with pytest.raises(qc.CalibrationError, match=r"Cannot read|is not a file"):
        qc.onnx.observe(path, FEEDS)


def test_objects_that_are_no_models_are_named() -> None:
    class Module:
        def state_dict(self) -> dict[str, Any]:
            return {}

    class Program:
        model_proto = onnx.ModelProto()

    graph = onnx.ModelProto.FromString(MODEL).graph
    for given, message in (
        (7, "The model is a int. Give a path, bytes, or an onnx.ModelProto"),
        (graph, "GraphProto. Give a path"),
        (Module(), r"Module. Give .*torch\.onnx\.export"),
        (Program(), "Program. Give .* its model_proto"),
    ):
        with pytest.raises(qc.CalibrationError, match=message):
            qc.onnx.observe(given, FEEDS)  # type: ignore[arg-type]


def test_a_graph_without_nodes_is_no_damage() -> None:
    proto = onnx.ModelProto.FromString(MODEL)
    del proto.graph.node[:]
    with pytest.raises(qc.CalibrationError, match="graph of the model has no nodes"):
        qc.onnx.observe(proto, FEEDS)


@pytest.mark.parametrize(("content", "message"), WRAPPED.values(), ids=WRAPPED)
@pytest.mark.parametrize("suffix", [".npz", ".npy"])
def test_samples_that_are_something_else_are_called_what_they_are(
    suffix: str, content: bytes, message: str, tmp_path: Path
) -> None:
    path = tmp_path / f"0{suffix}"
    path.write_bytes(content)
    with pytest.raises(qc.CalibrationError, match=rf"0\{suffix} is {message}"):
        qc.onnx.observe(MODEL, path)


@pytest.mark.parametrize("kind", ["torch", "pickle", "safetensors", "text"])
def test_samples_of_other_kinds_say_what_is_expected(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "0.npz"
    path.write_bytes(OTHER_MODELS[kind][0])
    with pytest.raises(
        qc.CalibrationError, match=r"not what numpy\.save or .*, but a?"
    ):
        qc.onnx.observe(MODEL, path)


def test_an_empty_sample_is_called_empty(tmp_path: Path) -> None:
    (tmp_path / "0.npz").touch()
    with pytest.raises(qc.CalibrationError, match=r"0\.npz is empty. Fetch"):
        qc.onnx.observe(MODEL, tmp_path)


@pytest.mark.parametrize("load", [qc.load, qc.CalibrationTable.load])
@pytest.mark.parametrize("kind", ["lfs", "gzip", "zip", "page"])
def test_files_of_quantcal_that_are_something_else_are_called_what_they_are(
    kind: str, load: Any, tmp_path: Path
) -> None:
    content, message = WRAPPED[kind]
    (tmp_path / "kept").write_bytes(content)
    with pytest.raises(qc.CalibrationError, match=f"kept is {message}"):
        load(tmp_path / "kept")
