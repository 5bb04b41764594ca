"""External data is found where onnxruntime finds it: through links and in folders."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest

import onnx_models as models
import quantcal as qc
from quantcal.exporters.ncnn import layers_of
from quantcal.onnx._graph.external_data import external_tensors
from quantcal.onnx._model.model import load_model

pytestmark = pytest.mark.skipif(os.name == "nt", reason="links need rights there")

FEEDS = [{"x": models.random(1, 3, 6, 8)}]


def link(path: Path, target: Path) -> Path:
    """Make a relative link, as caches do."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to(os.path.relpath(target, path.parent))
    return path


def save(path: Path, weights: str = "model.onnx_data") -> onnx.ModelProto:
    """Write a model, and its weights into a file that may be in a subfolder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    (path.parent / weights).parent.mkdir(parents=True, exist_ok=True)
    onnx.save_model(
        models.conv_net(),
        str(path),
        save_as_external_data=True,
        location=weights,
        size_threshold=0,
    )
    return onnx.load(path)


def cache(root: Path) -> Path:
    """A cache like that of huggingface_hub: links to files that are named by their hash."""
    save(root / "tmp" / "model.onnx")
    (root / "blobs").mkdir()
    for number, name in enumerate(("model.onnx", "model.onnx_data")):
        blob = root / "blobs" / f"{number:064x}"
        (root / "tmp" / name).rename(blob)
        link(root / "snapshots" / "abc" / "onnx" / name, blob)
    return root / "snapshots" / "abc" / "onnx" / "model.onnx"


def linked_weights(root: Path) -> Path:
    save(root / "model.onnx")
    (root / "model.onnx_data").rename(root / "other")
    link(root / "model.onnx_data", root / "other")
    return root / "model.onnx"


def two_names(root: Path) -> Path:
    save(root / "model.onnx")
    os.link(root / "model.onnx_data", root / "second_name")
    return root / "model.onnx"


def inner_folder(root: Path) -> Path:
    save(root / "model.onnx", "weights/of it/data.bin")
    return root / "model.onnx"


def linked_folder(root: Path) -> Path:
    save(root / "blobs" / "model.onnx")
    link(root / "snapshot", root / "blobs")
    return root / "snapshot" / "model.onnx"


def beside_the_target(root: Path) -> Path:
    save(root / "kept" / "model.onnx")
    return link(root / "models" / "mine.onnx", root / "kept" / "model.onnx")


PLACES: list[Callable[[Path], Path]] = [
    cache,
    linked_weights,
    two_names,
    inner_folder,
    linked_folder,
    beside_the_target,
]


@pytest.mark.parametrize("place", PLACES, ids=lambda place: place.__name__)
def test_every_function_finds_the_weights_of_a_model(
    place: Callable[[Path], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = place(tmp_path)
    monkeypatch.setattr(
        "quantcal.onnx._graph.external_data.EXTERNAL_BYTES", 0
    )  # all are mapped
    calibrator = qc.onnx.observe(path, FEEDS)
    model = models.conv_net()
    assert calibrator.to_bytes() == qc.onnx.observe(model, FEEDS).to_bytes()
    everything = [
        qc.onnx.observe(each, FEEDS, tensors="all", observer="outputs").to_bytes()
        for each in (path, model)
    ]
    assert everything[0] == everything[1]

    table = calibrator.compute("mse", format="uint8")
    made: list[bytes] = []
    for number, each in enumerate((path, model)):
        out = tmp_path / f"out{number}.onnx"
        qc.onnx.quantize(each, out, FEEDS, progress=False, strategy="mse")
        made.append(out.read_bytes())
        qc.onnx.write(each, out, table)
        made.append(out.read_bytes())
        qc.onnx.quantize(each, out, activation_type="none", progress=False)
        made.append(out.read_bytes())
    assert made[:3] == made[3:]

    out = tmp_path / "out1.onnx"
    found = qc.onnx.evaluate(path, out, FEEDS)
    assert found == qc.onnx.evaluate(model, out, FEEDS)
    sums = [qc.onnx.find_saturation(m, calibrator, table) for m in (path, model)]
    assert repr(sums[0]) == repr(sums[1])
    assert layers_of(path).keys() == layers_of(model).keys() == {"c1", "y"}
    assert len(qc.onnx.load_samples(saved_feed(tmp_path), path)) == 1


def saved_feed(folder: Path) -> Path:
    np.savez(folder / "feed.npz", **FEEDS[0])
    return folder / "feed.npz"


def test_weights_beside_a_relative_path_are_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = cache(tmp_path)
    monkeypatch.chdir(path.parent)
    assert qc.onnx.observe("model.onnx", FEEDS)
    monkeypatch.chdir(path.parent.parent)
    assert qc.onnx.observe("onnx/model.onnx", FEEDS)


def test_weights_beside_the_given_path_take_precedence(tmp_path: Path) -> None:
    path = beside_the_target(tmp_path)
    other = np.zeros(10_000, np.uint8)
    (path.parent / "model.onnx_data").write_bytes(other.tobytes())
    loaded = load_model(path)
    assert not any(any(tensor.raw_data) for tensor in loaded.proto.graph.initializer)


def test_locations_name_ordinary_files_of_one_folder(tmp_path: Path) -> None:
    loaded = load_model(cache(tmp_path), weights=False)
    assert loaded.folder is not None
    for tensor in external_tensors(loaded.proto):
        [location] = [e.value for e in tensor.external_data if e.key == "location"]
        file = loaded.folder / location
        assert file.resolve() == file
        assert file.is_relative_to(loaded.folder)


def changed(path: Path, location: str) -> Path:
    proto = onnx.load(path, load_external_data=False)
    for tensor in external_tensors(proto):
        for entry in tensor.external_data:
            if entry.key == "location":
                entry.value = location
    path.write_bytes(proto.SerializeToString())
    return path


def upwards(root: Path) -> Path:
    save(root / "m" / "model.onnx")
    (root / "m" / "model.onnx_data").rename(root / "secret")
    return changed(root / "m" / "model.onnx", "../secret")


def absolute(root: Path) -> Path:
    save(root / "model.onnx")
    return changed(root / "model.onnx", str(root / "model.onnx_data"))


def linked_to_the_outside(root: Path) -> Path:
    save(root / "m" / "model.onnx")
    (root / "m" / "model.onnx_data").rename(root / "secret")
    link(root / "m" / "model.onnx_data", root / "secret")
    return root / "m" / "model.onnx"


def folder_to_the_outside(root: Path) -> Path:
    save(root / "m" / "model.onnx")
    (root / "private").mkdir()
    (root / "m" / "model.onnx_data").rename(root / "private" / "secret")
    link(root / "m" / "sub", root / "private")
    return changed(root / "m" / "model.onnx", "sub/secret")


def cycle(root: Path) -> Path:
    save(root / "model.onnx")
    (root / "model.onnx_data").unlink()
    (root / "model.onnx_data").symlink_to("model.onnx_data")
    return root / "model.onnx"


def long_name(root: Path) -> Path:
    save(root / "model.onnx")
    return changed(root / "model.onnx", "n" * 5000)


def fifo(root: Path) -> Path:
    save(root / "model.onnx")
    (root / "model.onnx_data").unlink()
    os.mkfifo(root / "model.onnx_data")
    return root / "model.onnx"


@pytest.mark.parametrize(
    ("place", "message"),
    [
        (upwards, "secret', outside of the model's folder.* Copy that file to"),
        (linked_to_the_outside, "secret', outside of the model's folder"),
        (folder_to_the_outside, "secret', outside of the model's folder"),
        (absolute, "an absolute path, which onnxruntime refuses"),
        (cycle, "model.onnx_data'"),
        (long_name, "too long|not a file"),
        (fifo, "which is not a file"),
    ],
)
def test_locations_and_links_must_stay_in_the_folders_of_the_model(
    place: Callable[[Path], Path], message: str, tmp_path: Path
) -> None:
    """onnxruntime refuses the same."""
    path = place(tmp_path)
    with pytest.raises(Exception, match=r"(?i)external|regular|canonical|open"):
        models.session(str(path))
    pattern = rf"model\.onnx: its weight 'w1' is in .*({message})"
    with pytest.raises(qc.CalibrationError, match=pattern):
        qc.onnx.observe(path, FEEDS)
    out = tmp_path / "q.onnx"
    with pytest.raises(qc.CalibrationError, match=pattern):
        qc.onnx.quantize(path, out, FEEDS, progress=False, strategy="mse")
    assert not out.exists()
    with pytest.raises(qc.CalibrationError, match=pattern):
        qc.onnx.evaluate(path, models.conv_net(), FEEDS)


LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (LFS, "which is a Git LFS pointer.* git lfs pull"),
        (b"", "which is empty. Fetch"),
        (b"\x01" * 400, "up to byte 432, but the file has 400 bytes"),
    ],
)
def test_a_file_of_another_kind_is_named(
    content: bytes, message: str, tmp_path: Path
) -> None:
    save(tmp_path / "model.onnx")
    (tmp_path / "model.onnx_data").write_bytes(content)
    with pytest.raises(qc.CalibrationError, match=f"'w1' is in .*{message}"):
        qc.onnx.observe(tmp_path / "model.onnx", FEEDS)
