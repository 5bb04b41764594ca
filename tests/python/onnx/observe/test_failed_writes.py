"""Histograms are kept when the output or a checkpoint cannot be written."""

from __future__ import annotations

from pathlib import Path

import pytest

import quantcal as qc
from checkpoint_runs import Often, failing, samples, save
from cli_runs import call, save_model
from quantcal.cli import checkpoints


@pytest.mark.parametrize("model_too", [False, True])
def test_histograms_are_kept_when_their_file_cannot_be_written(
    model_too: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from quantcal.onnx import quantizer

    model, data = save_model(tmp_path), save(tmp_path, samples(3))

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device", "out.onnx")

    arguments = ["quantize", model, "-o", tmp_path / "out.onnx", "--samples", data]
    with monkeypatch.context() as patch:
        refusing("stats.qcal", patch)
        if model_too:
            patch.setattr(quantizer, "write_prepared", full)
        done = call(*arguments, "--save-stats", tmp_path / "stats.qcal")
    assert done.code == 1
    first = "out.onnx: No space left on device" if model_too else "stats.qcal: no space"
    assert first in done.err
    kept = tmp_path / "out.onnx.first-3.qcal"
    assert f"The histograms of all 3 samples are kept in {kept}" in done.err
    assert qc.load(kept).to_bytes() == qc.onnx.observe(model, data).to_bytes()


def test_an_error_is_reported_when_no_checkpoint_can_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, data = save_model(tmp_path), save(tmp_path, samples(3))

    def full(self: qc.Calibrator, path: str | Path) -> None:
        if "first-2" not in str(path):
            raise qc.CalibrationError(f"{path}: no space left on device")
        plain(self, path)

    plain = qc.Calibrator.save
    output = tmp_path / "out.qcal"
    monkeypatch.setattr(checkpoints, "FlagCheckpoint", Often)
    monkeypatch.setattr(qc.Calibrator, "save", full)
    done = call("observe", model, "-o", output, "--samples", data)
    assert done.code == 1
    assert "warning: No checkpoint can be written" in done.err
    assert f"{output}: no space left on device" in done.err
    assert "The last samples could not be kept" in done.err
    kept = tmp_path / "out.qcal.first-2.qcal"
    assert f"first 2 samples are kept in {kept}" in done.err
    assert kept.exists()


def test_histograms_are_kept_when_the_model_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from quantcal.onnx import quantizer

    model, data = save_model(tmp_path), save(tmp_path, samples(3))

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device", "out.onnx")

    whole = tmp_path / "whole.onnx"
    assert (
        call("quantize", model, "-o", whole, "--samples", data, "-s", "mse").code == 0
    )
    output = tmp_path / "out.onnx"
    with monkeypatch.context() as patch:
        patch.setattr(quantizer, "write_prepared", full)
        done = call("quantize", model, "-o", output, "--samples", data)
    kept = tmp_path / "out.onnx.first-3.qcal"
    assert done.code == 1
    assert f"The histograms of all 3 samples are kept in {kept}" in done.err
    assert call("quantize", model, "-o", output, "--from", kept).code == 0
    assert output.read_bytes() == whole.read_bytes()


def refusing(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let writing histograms to a file of this name fail."""
    plain = qc.Calibrator.save

    def save(self: qc.Calibrator, path: str | Path) -> None:
        if Path(path).name == name:
            raise qc.CalibrationError(f"{path}: no space left on device")
        plain(self, path)

    monkeypatch.setattr(qc.Calibrator, "save", save)


def test_histograms_are_kept_when_they_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, data = save_model(tmp_path), save(tmp_path, samples(3))
    output, kept = tmp_path / "out.qcal", tmp_path / "out.qcal.first-3.qcal"
    with monkeypatch.context() as patch:
        refusing(output.name, patch)
        done = call("observe", model, "-o", output, "--samples", data)
    assert done.code == 1
    assert "no space left on device" in done.err
    assert f"The histograms of all 3 samples are kept in {kept}" in done.err
    assert f"--resume {kept} does not run them again" in done.err
    again = call("observe", model, "-o", output, "--samples", data, "--resume", kept)
    assert again.code == 0
    assert output.read_bytes() == kept.read_bytes()
    assert qc.load(kept).to_bytes() == qc.onnx.observe(model, data).to_bytes()


def test_a_failed_checkpoint_does_not_end_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, keep = (
        save_model(tmp_path),
        qc.onnx.Checkpoint(tmp_path / "s.qcal", seconds=0),
    )
    with monkeypatch.context() as patch:
        refusing("s.qcal.first-2.qcal", patch)
        with pytest.warns(
            UserWarning, match="No checkpoint can be written: .*no space"
        ):
            found = qc.onnx.observe(model, samples(4), checkpoint=keep)
    assert found.to_bytes() == qc.onnx.observe(model, samples(4)).to_bytes()
    assert keep.complete == 4
    assert keep.found() == [keep.path(4)]


def test_an_earlier_checkpoint_is_reported_when_the_last_one_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, keep = (
        save_model(tmp_path),
        qc.onnx.Checkpoint(tmp_path / "s.qcal", seconds=0),
    )
    feeds = failing(2, qc.CalibrationError("x.npz: it is damaged."))
    with monkeypatch.context() as patch:
        refusing("s.qcal.first-2.qcal", patch)
        with (
            pytest.warns(UserWarning, match="No checkpoint can be written"),
            pytest.raises(qc.CalibrationError) as message,
        ):
            qc.onnx.observe(model, feeds, checkpoint=keep)
    text = str(message.value)
    assert text.startswith("x.npz: it is damaged. The last samples could not be kept: ")
    assert "first sample are kept" in text
    assert keep.path(1).exists()
