"""Names that are not text: halves of surrogate pairs, and paths that are not UTF-8."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import onnx_models as models
import quantcal as qc
from cli_runs import environment, save_model, save_samples
from quantcal.exporters import export, ncnn, onnxruntime, plain, tensorrt
from quantcal.onnx._options.config import save_config

HALF = "\ud800"
BYTE = "\udcff"  # how Python calls the byte 0xff in a file's name

FEEDS = [{"x": models.random(1, 3, 9, 12)}]
PARAMS = qc.QuantParams.from_range(-1, 1)
ODD = {HALF: PARAMS}
TABLE = qc.CalibrationTable({"x": dataclasses.replace(PARAMS, strategy=HALF)})


def layers(name: str) -> dict[str, ncnn.Layer]:
    return {name: ncnn.Layer("x", np.ones(3))}


def calibrator() -> qc.Calibrator:
    cal = qc.Calibrator()
    cal.observe("x", np.ones(3, np.float32))
    return cal


WRITERS: dict[str, Callable[[Path], Any]] = {
    "csv": lambda path: plain.write_csv(ODD, path),
    "csv, strategy": lambda path: plain.write_csv(TABLE, path),
    "json": lambda path: plain.write_json(ODD, path),
    "table, strategy": TABLE.save,
    "export": lambda path: export(ODD, "csv", path),
    "onnxruntime": lambda path: onnxruntime.write_cache(ODD, path),
    "provider": lambda path: onnxruntime.write_tensorrt_table(ODD, path.parent),
    "tensorrt": lambda path: tensorrt.write_cache(ODD, path),
    "tensorrt, cache": lambda path: tensorrt.write_cache(
        tensorrt.Cache({HALF: 0.5}), path
    ),
    "ncnn": lambda path: ncnn.write_table({"x": PARAMS}, path, layers(HALF)),
    "policy": lambda path: qc.Policy({HALF: "kl"}).save(path.with_suffix(".toml")),
    "policy, json": lambda path: qc.Policy({HALF: "kl"}).save(
        path.with_suffix(".json")
    ),
    "config": lambda path: save_config(f"include = ['{HALF}']", path),
}


@pytest.mark.parametrize("writer", WRITERS)
def test_half_a_surrogate_pair_in_a_file_is_reported(
    writer: str, tmp_path: Path
) -> None:
    with pytest.raises(qc.CalibrationError, match=r"half a (surrogate pair|character)"):
        WRITERS[writer](tmp_path / "file")
    assert list(tmp_path.iterdir()) == []


PATHS: dict[str, Callable[[str], Any]] = {
    "histograms": lambda path: calibrator().save(path),
    "table": TABLE.save,
    "load": qc.load,
    "load a table": qc.CalibrationTable.load,
    "load a policy": lambda path: qc.Policy.load(f"{path}.toml"),
    "configuration": qc.onnx.read_config,
    "cache": tensorrt.read_cache,
    "output": lambda path: qc.onnx.quantize(
        models.conv_net(), path, FEEDS, progress=False
    ),
    "model": lambda path: qc.onnx.observe(path, FEEDS),
    "evaluate": lambda path: qc.onnx.evaluate(path, path, FEEDS),
    "samples": lambda path: qc.onnx.observe(models.conv_net(), path),
    "callable": lambda path: qc.onnx.load_samples(
        f"python:{path}:f", models.conv_net()
    ),
}


@pytest.mark.parametrize("use", PATHS)
def test_half_a_surrogate_pair_in_a_path_is_reported(use: str) -> None:
    with pytest.raises(qc.CalibrationError):
        PATHS[use](HALF)


def test_half_a_surrogate_pair_in_a_cache_of_onnxruntime_is_reported(
    tmp_path: Path,
) -> None:
    path = tmp_path / "cache.json"
    onnxruntime.write_cache({"x": PARAMS}, path)
    path.write_text(path.read_text().replace('"x"', r'"\ud800"'))
    with pytest.raises(
        qc.CalibrationError, match=r"cache\.json, tensor .* half a surrogate pair"
    ):
        onnxruntime.read_cache(path)


bytes_only = pytest.mark.skipif(sys.platform != "linux", reason="names are bytes there")


@bytes_only
def test_paths_that_are_not_utf_8_are_read_and_written_where_that_is_possible(
    tmp_path: Path,
) -> None:
    folder = tmp_path / f"folder{BYTE}"
    folder.mkdir()
    model = save_model(folder)
    data = save_samples(folder)
    cal = qc.onnx.observe(model, data)
    cal.save(folder / "stats.qcal")
    assert qc.load(folder / "stats.qcal").to_bytes() == cal.to_bytes()
    # onnx and onnxruntime take no such path for what is written.
    with pytest.raises(qc.CalibrationError, match="is not UTF-8"):
        qc.onnx.quantize(model, folder / "q.onnx", data, progress=False)
    qc.onnx.quantize(model, tmp_path / "q.onnx", data, progress=False)
    plain = qc.onnx.evaluate(model, tmp_path / "q.onnx", data)
    (tmp_path / "q.onnx").rename(folder / "q.onnx")
    assert qc.onnx.evaluate(model, folder / "q.onnx", data) == plain


@bytes_only
def test_weights_in_a_folder_that_is_not_utf_8_are_reported(tmp_path: Path) -> None:
    plain = tmp_path / "plain"
    plain.mkdir()
    path = plain / "m.onnx"
    options: dict[str, Any] = {"location": "w", "size_threshold": 0}
    onnx.save_model(models.conv_net(), str(path), save_as_external_data=True, **options)
    folder = plain.rename(tmp_path / BYTE)
    with pytest.raises(qc.CalibrationError, match="whose path is not UTF-8"):
        qc.onnx.observe(folder / "m.onnx", FEEDS)


@bytes_only
@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        ("quantize model.onnx --samples samples -o @.onnx", 1),
        ("quantize model.onnx --samples samples -o q.onnx --include @", 1),
        ("quantize @.onnx --samples samples -o q.onnx", 1),
        ("observe model.onnx --samples samples -o @.qcal", 0),
        ("inspect stats.qcal --match @", 1),
        ("compute stats.qcal -o @.json -s @=kl -s mse", 1),
        ("compute stats.qcal -o @.json -s mse --json", 0),
        ("merge stats.qcal -o @.qcal", 0),
    ],
)
def test_arguments_that_are_not_utf_8_are_no_defect(
    arguments: str, code: int, tmp_path: Path
) -> None:
    save_model(tmp_path)
    save_samples(tmp_path)
    calibrator().save(tmp_path / "stats.qcal")
    given = [os.fsencode(part.replace("@", f"a{BYTE}")) for part in arguments.split()]
    done = subprocess.run(
        [os.fsencode(sys.executable), b"-m", b"quantcal", *given],
        capture_output=True,
        cwd=tmp_path,
        env=environment(),
        timeout=120,
        check=False,
    )
    assert done.returncode == code, done.stderr
    assert b"Traceback" not in done.stderr
    if code == 0:
        assert (
            (tmp_path / f"a{BYTE}")
            .with_suffix(".json" if arguments.startswith("compute") else ".qcal")
            .is_file()
        )
