"""A name that occurs twice in a file is refused by each reader, never resolved by chance."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import quantcal as qc
from quantcal.exporters import onnxruntime


def refused(read: Any, path: Path, *texts: str) -> None:
    with pytest.raises(qc.CalibrationError) as caught:
        read(path)
    for text in (path.name, *texts):
        assert text in str(caught.value)


def test_a_tensor_of_a_table_or_of_a_cache_occurs_once(tmp_path: Path) -> None:
    table = qc.CalibrationTable({"conv1": qc.QuantParams.from_range(-1, 1)})
    path = tmp_path / "table.json"
    table.save(path)
    tensor = json.dumps(json.loads(path.read_text())["tensors"]["conv1"])
    text = path.read_text()
    path.write_text(text.replace('"conv1": ', f'"conv1": {tensor}, "conv1": '))
    refused(qc.CalibrationTable.load, path, '"conv1" occurs twice')

    path = tmp_path / "cache.json"
    onnxruntime.write_cache(table, path)
    text = path.read_text()
    path.write_text(text.replace('"conv1": ', '"conv1": {}, "conv1": '))
    refused(onnxruntime.read_cache, path, '"conv1" occurs twice')

    path = tmp_path / "calibration.cache"
    qc.exporters.tensorrt.write_cache(table, path)
    path.write_text(path.read_text() + "conv1: 3c010204\n")
    refused(qc.exporters.tensorrt.read_cache, path, "'conv1' occurs a second time")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("policy.json", '{"rules": [], "rules": []}'),
        ("policy.json", '{"rules": [{"pattern": "a", "pattern": "b"}]}'),
        ("policy.toml", "rules = []\nrules = []\n"),
        (
            "policy.toml",
            '[[rules]]\npattern = "a"\nstrategy = "kl"\n'
            '[[rules]]\npattern = "a"\nstrategy = "mse"\n',
        ),
    ],
)
def test_a_key_or_a_pattern_of_a_policy_occurs_once(
    name: str, text: str, tmp_path: Path
) -> None:
    path = tmp_path / name
    path.write_text(text)
    refused(qc.Policy.load, path)


def test_an_array_of_a_sample_occurs_once(tmp_path: Path) -> None:
    pytest.importorskip("onnx")
    from quantcal.onnx._runtime.sample_files import read_sample

    path = tmp_path / "sample.npz"
    np.savez(path, x=np.ones(3, np.float32), y=np.zeros(2, np.float32))
    assert read_sample(path, []).keys() == {"x", "y"}
    with (
        zipfile.ZipFile(path, "a") as archive,
        pytest.warns(UserWarning, match="Duplicate"),
    ):
        archive.writestr("x.npy", archive.read("x.npy"))
    refused(lambda path: read_sample(path, []), path, '"x" occurs twice')
    np.savez(path, x=np.ones(3, np.float32))
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("x", archive.read("x.npy"))  # which numpy calls the same
    refused(lambda path: read_sample(path, []), path, '"x" occurs twice')


def test_a_tensor_and_a_key_of_a_checkpoint_occur_once(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    pytest.importorskip("safetensors")
    from quantcal.torch.compressed_tensors import read_scales, write_compressed_tensors

    write_compressed_tensors({"up": qc.QuantParams.from_range(-1, 1)}, tmp_path)
    assert read_scales(tmp_path).keys() == {"up"}
    path = tmp_path / "model.safetensors"
    data = path.read_bytes()
    size = int.from_bytes(data[:8], "little")
    header = data[8 : 8 + size].decode().rstrip()
    scale = json.dumps(json.loads(header)["up.input_scale"])
    header = header.replace(
        '"up.input_scale":', f'"up.input_scale":{scale},"up.input_scale":'
    )
    twice = header.encode()
    path.write_bytes(len(twice).to_bytes(8, "little") + twice + data[8 + size :])
    refused(lambda _: read_scales(tmp_path), path, '"up.input_scale" occurs twice')
    for damaged in (b"", data[:20], b"\xff" * 30, data[:8] + b"{}" + data[10:]):
        path.write_bytes(damaged)
        refused(lambda _: read_scales(tmp_path), path)
    path = tmp_path / "config.json"
    for text in ("", "[]", "{}", '{"quantization_config": 1}', '{"a": 1, "a": 2}'):
        path.write_text(text)
        refused(lambda _: read_scales(tmp_path), path)
