"""Outputs replace only regular files that the run does not use."""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import onnx_models as models
import quantcal as qc
from cli_runs import call, save_model, save_samples
from quantcal.exporters import export, tensorrt
from quantcal.onnx._options.config import save_config
from quantcal.onnx._write import output

FEEDS = [{"x": models.random(1, 3, 9, 12)}]

special = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no such files here")


def calibrator() -> qc.Calibrator:
    cal = qc.Calibrator()
    cal.observe("x", np.linspace(-1, 1, 50, dtype=np.float32))
    return cal


def quantize(path: Path) -> None:
    qc.onnx.quantize(models.conv_net(), path, FEEDS, progress=False)


def plot(path: Path) -> None:
    from quantcal.report.picture import save_comparison

    save_comparison(qc.compare(calibrator(), "int8"), path)


TABLE = calibrator().compute("minmax")

LATENCY = qc.onnx.Latency(1.0, 0.0)
MACHINE = qc.onnx.Machine("arm", "a", 1, 1, "1.32.0")
TIMES = qc.onnx.NodeTimes({}, LATENCY, LATENCY, 0.5, 0.0, 0.0, 1, 3, MACHINE)

WRITERS: dict[str, tuple[str, Callable[[Path], Any]]] = {
    "model": ("q.onnx", quantize),
    "histograms": ("s.qcal", lambda path: calibrator().save(path)),
    "table": ("t.json", TABLE.save),
    "times": ("n.json", TIMES.save),
    "policy": ("p.toml", lambda path: qc.Policy({"*": "kl"}).save(path)),
    "config": ("c.toml", lambda path: save_config("a = 1\n", path)),
    "csv": ("t.csv", lambda path: export(TABLE, "csv", path)),
    "json": ("t.json", lambda path: export(TABLE, "json", path)),
    "onnxruntime": ("c.json", lambda path: export(TABLE, "onnxruntime", path)),
    "provider": (
        "calibration.flatbuffers",
        lambda path: export(TABLE, "onnxruntime-tensorrt", path.parent),
    ),
    "tensorrt": ("c.cache", lambda path: tensorrt.write_cache(TABLE, path)),
    "picture": ("p.png", plot),
    "report": ("r.html", lambda path: qc.write_report(path, table=TABLE)),
}

writers = pytest.mark.parametrize("writer", WRITERS)


@special
@writers
@pytest.mark.parametrize("kind", ["FIFO", "socket", "link to a FIFO"])
def test_special_files_are_refused_and_stay(
    writer: str, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, write = WRITERS[writer]
    path = tmp_path / name
    if kind == "socket":
        monkeypatch.chdir(tmp_path)  # a socket's path must be short
        with socket.socket(socket.AF_UNIX) as bound:
            bound.bind(name)
    elif kind == "FIFO":
        os.mkfifo(path)
    else:
        os.mkfifo(tmp_path / "fifo")
        path.symlink_to("fifo")
    before = path.stat()
    with pytest.raises(qc.CalibrationError, match=f"{name} cannot be written: it is a"):
        write(path)
    assert os.path.samestat(path.stat(), before)
    assert not stat.S_ISREG(path.stat().st_mode)
    assert not list(tmp_path.glob(".*"))


@writers
@pytest.mark.parametrize("exists", [True, False])
def test_links_stay_and_what_they_point_at_is_replaced(
    writer: str, exists: bool, tmp_path: Path
) -> None:
    name, write = WRITERS[writer]
    (tmp_path / "here").mkdir()
    (tmp_path / "there").mkdir()
    link, target = tmp_path / "here" / name, tmp_path / "there" / f"real-{name}"
    if exists:
        target.write_bytes(b"old")
    link.symlink_to(Path("..", "there", target.name))
    write(link)
    assert link.is_symlink()
    assert target.read_bytes() == link.read_bytes() != b"old"
    assert [file.name for file in target.parent.iterdir()] == [target.name]


def test_links_in_a_circle_are_reported(tmp_path: Path) -> None:
    link = tmp_path / "a.onnx"
    link.symlink_to("a.onnx")
    for write in (quantize, calibrator().save):
        with pytest.raises(
            qc.CalibrationError, match=r"a\.onnx cannot be written: Too"
        ):
            write(link)


def with_weights(folder: Path) -> tuple[Path, Path]:
    """Save a model whose weights are in a separate file."""
    folder.mkdir(exist_ok=True)
    model, weights = folder / "model.onnx", folder / "weights.bin"
    onnx.save_model(
        models.conv_net(),
        str(model),
        save_as_external_data=True,
        location=weights.name,
        size_threshold=0,
    )
    return model, weights


def alias(file: Path, how: str) -> Path:
    """Another name of a file."""
    other = file.parent.parent / f"{how}-{file.name}"
    if how == "link":
        other.symlink_to(file)
    elif how == "hard link":
        other.hardlink_to(file)
    else:
        other = file.parent / ".." / file.parent.name / file.name
    return other


@pytest.mark.parametrize("how", ["path", "link", "hard link"])
@pytest.mark.parametrize("which", ["model", "weights", "sample", "policy"])
def test_what_a_run_reads_is_no_output_under_any_name(
    which: str, how: str, tmp_path: Path
) -> None:
    model, weights = with_weights(tmp_path / "in")
    data = save_samples(tmp_path / "in")
    policy = tmp_path / "in" / "policy.toml"
    qc.Policy({"*": "kl"}).save(policy)
    files = {p: p.read_bytes() for p in (tmp_path / "in").rglob("*") if p.is_file()}
    file = {
        "model": model,
        "weights": weights,
        "sample": data / "1.npz",
        "policy": policy,
    }[which]
    target = alias(file, how)
    wanted = {
        "model": "is the model itself",
        "weights": "is a file of the weights of",
    }.get(which, "is an input, which would be lost")
    readers: list[Any] = [data]
    if (which, how) != ("weights", "hard link"):  # onnx reads no weights with two names
        readers.append(qc.onnx.load_samples(data, model))
    for reader in readers:
        with pytest.raises(qc.CalibrationError, match=wanted) as caught:
            qc.onnx.quantize(model, target, reader, strategy=policy, progress=False)
    assert f"whose other name is {file}" in str(caught.value)
    for arguments in (
        ("quantize", model, "-o", target),
        ("quantize", model, "-o", tmp_path / "q", "--save-table", target),
        ("quantize", model, "-o", tmp_path / "q", "--save-stats", target),
        ("observe", model, "-o", target),
    ):
        if arguments[0] == "quantize":
            arguments = (*arguments, "-s", policy)  # noqa: PLW2901
        elif which == "policy":
            continue
        assert wanted in call(*arguments, "--samples", data).error_text()
    assert {p: p.read_bytes() for p in files} == files
    assert not (tmp_path / "q").exists()


def test_the_weights_of_the_output_replace_none_of_the_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, weights = with_weights(tmp_path / "in")
    proto = onnx.load(model, load_external_data=False)
    for tensor in proto.graph.initializer:
        tensor.external_data[0].value = "q.onnx.data"
    model.write_bytes(proto.SerializeToString())
    weights = weights.rename(weights.with_name("q.onnx.data"))
    before = weights.read_bytes()
    with pytest.raises(qc.CalibrationError, match="is a file of the weights of"):
        qc.onnx.quantize(model, tmp_path / "in" / "q.onnx", FEEDS, progress=False)
    assert weights.read_bytes() == before


def test_what_becomes_a_special_file_meanwhile_is_refused_when_it_is_written(
    tmp_path: Path,
) -> None:
    path = tmp_path / "q.onnx"

    def feeds() -> Any:
        yield from FEEDS
        path.symlink_to(model)

    model = save_model(tmp_path)
    before = model.read_bytes()
    with pytest.raises(qc.CalibrationError, match="is the model itself"):
        qc.onnx.quantize(model, path, feeds(), progress=False)
    assert model.read_bytes() == before


def test_a_model_and_its_weights_are_replaced_together_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(output, "_MAX_FILE", 100)
    monkeypatch.setattr("quantcal.onnx._graph.external_data.EXTERNAL_BYTES", 100)
    path, weights = tmp_path / "q.onnx", tmp_path / "q.onnx.data"
    path.write_bytes(b"old model")
    weights.write_bytes(b"old weights")
    plain = Path.replace

    def full(self: Path, target: Path) -> Path:
        if target == path:
            raise OSError(28, "No space left on device")
        return plain(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", full)
        with pytest.raises(
            qc.CalibrationError, match=r"q\.onnx cannot be written: No s"
        ):
            quantize(path)
    assert (path.read_bytes(), weights.read_bytes()) == (b"old model", b"old weights")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["q.onnx", "q.onnx.data"]
    quantize(path)
    assert models.session(str(path)).run(None, FEEDS[0])


@pytest.mark.parametrize(
    "arguments",
    [
        "quantize model.onnx --samples samples -o q.onnx --save-stats q.onnx.data",
        "quantize model.onnx --samples samples -o q.onnx --save-table q.quantcal.toml",
        "quantize model.onnx --samples samples -o q.onnx --save-stats link.onnx",
        "quantize model.onnx --samples samples -o q.onnx --save-table a --save-stats b",
    ],
)
def test_two_outputs_are_never_one_file(
    arguments: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    save_model(tmp_path)
    save_samples(tmp_path)
    Path("link.onnx").symlink_to("q.onnx")
    Path("a").write_text("old")
    Path("b").hardlink_to("a")
    done = call(*arguments.split())
    assert done.code == 2
    assert "is to be written twice" in " ".join(done.err.replace("│", " ").split())
    assert not Path("q.onnx").exists()
    assert Path("a").read_text() == "old"


@pytest.mark.parametrize(
    "arguments",
    [
        "compute link.qcal -o stats.qcal",
        "compute stats.qcal -o link.qcal",
        "compute stats.qcal -s policy.toml -o policy.toml",
        "merge stats.qcal other.qcal -o other.qcal",
        "merge stats.qcal other.qcal -o link.qcal",
        "compare stats.qcal --plot picture.png",
        "export table.json --to csv -o table.json",
        "export table.json --to ncnn -o model.onnx --model model.onnx",
        "quantize model.onnx --from stats.qcal -o stats.qcal",
        "quantize model.onnx --from stats.qcal -o q.onnx --save-table link.qcal",
        "quantize model.onnx --from table.json -o table.json",
    ],
)
def test_no_command_replaces_what_it_reads(
    arguments: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    save_model(tmp_path)
    cal = calibrator()
    cal.save("stats.qcal")
    cal.save("other.qcal")
    cal.compute().save("table.json")
    qc.Policy({"*": "kl"}).save("policy.toml")
    Path("link.qcal").symlink_to("stats.qcal")
    Path("picture.png").hardlink_to("stats.qcal")
    files = {p: p.read_bytes() for p in tmp_path.iterdir()}
    assert "is an input, which would be lost" in call(*arguments.split()).error_text()
    assert {p: p.read_bytes() for p in tmp_path.iterdir()} == files


def test_an_export_never_replaces_the_weights_of_its_model(tmp_path: Path) -> None:
    model, weights = with_weights(tmp_path)
    table = tmp_path / "table.json"
    calibrator().compute().save(table)
    before = weights.read_bytes()
    given = ("--to", "ncnn", "-o", weights, "--model", model)
    assert (
        "is an input, which would be lost" in call("export", table, *given).error_text()
    )
    assert weights.read_bytes() == before
