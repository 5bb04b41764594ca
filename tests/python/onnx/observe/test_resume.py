"""Resuming from a checkpoint: its settings, its samples, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import quantcal as qc
from checkpoint_runs import failing, samples, save
from cli_runs import call, save_model
from quantcal.onnx._check import equivalence, trial_run


def test_a_run_that_fails_twice_continues_twice(tmp_path: Path) -> None:
    model, output = save_model(tmp_path), tmp_path / "out.qcal"
    calibrator, keep = None, qc.onnx.Checkpoint(output)
    for count in (2, 5):
        with pytest.raises(qc.CalibrationError, match=f"first {count} samples"):
            qc.onnx.observe(
                model,
                failing(count, qc.CalibrationError("no more")),
                calibrator=calibrator,
                checkpoint=keep,
            )
        calibrator, keep = qc.onnx.Checkpoint.resume(keep.path(count), output)
    found = qc.onnx.observe(model, samples(7), calibrator=calibrator, checkpoint=keep)
    assert found.to_bytes() == qc.onnx.observe(model, samples(7)).to_bytes()
    assert keep.complete == 7


def test_a_run_resumes_when_no_samples_are_left(tmp_path: Path) -> None:
    """The last sample was bad, and is removed."""
    model, output = save_model(tmp_path), tmp_path / "out.onnx"
    data = save(tmp_path, samples(3))
    (data / "3.npz").write_bytes(b"nonsense")
    assert call("quantize", model, "-o", output, "--samples", data).code == 1
    (data / "3.npz").unlink()
    kept = tmp_path / "out.onnx.first-3.qcal"
    done = call("quantize", model, "-o", output, "--samples", data, "--resume", kept)
    assert (done.code, done.facts["samples"]) == (0, "3")
    whole = tmp_path / "whole.onnx"
    qc.onnx.quantize(model, whole, data, strategy="mse")
    assert output.read_bytes() == whole.read_bytes()


@pytest.mark.parametrize("earlier", [0, 2, 3])
def test_a_resumed_run_checks_the_models_on_the_sample_that_a_whole_run_takes(
    earlier: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is the first sample, also if it ran earlier, and if all did."""
    model, output = save_model(tmp_path), tmp_path / "out.onnx"
    how: dict[str, Any] = {}
    if earlier:
        kept = qc.onnx.Checkpoint(output).path(earlier)
        qc.onnx.observe(model, samples(earlier)).save(kept)
        how["calibrator"], how["checkpoint"] = qc.onnx.Checkpoint.resume(kept, output)
    ran: list[tuple[list[int], str]] = []

    def note(_: object, *rest: Any) -> None:
        *_, feed, where = rest
        ran.append((list(feed["x"].shape), where))

    monkeypatch.setattr(equivalence, "check_equivalence", note)  # of the float forms
    monkeypatch.setattr(trial_run, "run", note)
    result = qc.onnx.quantize(model, output, samples(3), progress=False, **how)
    assert result.samples == 3
    written = f"the quantized copy of {model}, sample 0"
    assert ran == [([1, 3, 6, 5], "sample 0"), ([1, 3, 6, 5], written)]


def test_unusable_checkpoints_are_refused(tmp_path: Path) -> None:
    model, data = save_model(tmp_path), save(tmp_path, samples(2))
    output = tmp_path / "out.qcal"

    def message(file: Path, *more: object) -> str:
        how = ["-o", output, "--samples", data, "--resume", file]
        return call("observe", model, *how, *more).error_text()

    whole = qc.onnx.observe(model, data)
    whole.save(tmp_path / "stats.qcal")
    assert "does not say how many samples" in message(tmp_path / "stats.qcal")
    whole.save(tmp_path / "out.qcal.first-3.qcal")
    assert "2 samples, but the checkpoint holds 3" in message(
        tmp_path / "out.qcal.first-3.qcal"
    )
    whole.save(tmp_path / "out.qcal.first-1.qcal")
    first = tmp_path / "out.qcal.first-1.qcal"
    assert "lacks" in message(first, "--all-tensors")
    assert "holds" in message(first, "--tensor", "y")
    how = ["-o", output, "--samples", data, "--resume", first, "--mantissa-bits", "7"]
    wrong = call("observe", model, *how)
    assert wrong.code == 2
    assert not output.exists()


def test_a_configuration_with_other_settings_is_not_resumed(
    tmp_path: Path,
) -> None:
    model, data = save_model(tmp_path), save(tmp_path, samples(2))
    kept, output = tmp_path / "out.qcal.first-1.qcal", tmp_path / "out.onnx"
    qc.onnx.observe(model, samples(2)[:1], mantissa_bits=7).save(kept)
    config = tmp_path / "run.toml"

    def resumed(text: str) -> Any:
        config.write_text(text)
        how = ["-o", output, "--samples", data, "--resume", kept, "--config", config]
        return call("quantize", model, *how)

    message = resumed("mantissa_bits = 9\n").error_text()
    assert "says mantissa_bits = 9" in message
    assert f"{kept} were made with 7" in message
    assert (
        "says on_nonfinite = 'raise'"
        in resumed('on_nonfinite = "raise"\n').error_text()
    )
    assert not output.exists()
    assert resumed("mantissa_bits = 7\n").code == 0
    assert output.exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("mantissa_bits = 9\n", "says mantissa_bits = 9"),
        ('on_nonfinite = "raise"\n', "says on_nonfinite = 'raise'"),
        ('mantissa_bits = 7\non_nonfinite = "ignore"\n', ""),
        ("", ""),
    ],
)
def test_complete_histograms_must_have_the_settings_of_the_configuration(
    text: str, message: str, tmp_path: Path
) -> None:
    model, stats, config = (
        save_model(tmp_path),
        tmp_path / "s.qcal",
        tmp_path / "c.toml",
    )
    qc.onnx.observe(model, samples(2), mantissa_bits=7).save(stats)
    config.write_text(text)
    how = ["-o", tmp_path / "q.onnx", "--from", stats, "--config", config]
    done = call("quantize", model, *how)
    if message:
        assert message in done.error_text()
        assert f"{stats} were made with" in done.error_text()
    else:
        assert done.code == 0


@pytest.mark.parametrize("resumed", [False, True])
def test_the_settings_of_a_configuration_are_those_of_the_histograms(
    resumed: bool, tmp_path: Path
) -> None:
    model, data = save_model(tmp_path), save(tmp_path, samples(3))
    config, output = tmp_path / "c.toml", tmp_path / "q.onnx"
    config.write_text('mantissa_bits = 7\non_nonfinite = "raise"\n')
    how = ["--samples", data, "--config", config, "--save-stats", tmp_path / "s.qcal"]
    if resumed:
        settings: dict[str, Any] = {"mantissa_bits": 7, "on_nonfinite": "raise"}
        kept = tmp_path / "q.onnx.first-1.qcal"
        qc.onnx.observe(model, samples(1), **settings).save(kept)
        how += ["--resume", kept]
    assert call("quantize", model, "-o", output, *how).code == 0
    found = qc.load(tmp_path / "s.qcal")
    assert (found.mantissa_bits, found.on_nonfinite) == (7, "raise")
    written = qc.onnx.read_config(tmp_path / "q.quantcal.toml")
    assert (written["mantissa_bits"], written["on_nonfinite"]) == (7, "raise")
    save(tmp_path, samples(3, bad=2))
    assert "sample 2" in call("quantize", model, "-o", output, *how).error_text()


def test_a_calibrator_that_counts_infinities_refuses_to_raise(
    tmp_path: Path,
) -> None:
    model, cal = save_model(tmp_path), qc.Calibrator()
    with pytest.raises(qc.CalibrationError, match="was made with 'ignore'"):
        qc.onnx.observe(model, samples(2), calibrator=cal, on_nonfinite="raise")
    assert not len(cal)


@pytest.mark.parametrize("command", ["observe", "quantize"])
def test_an_output_with_the_name_of_a_checkpoint_is_refused(
    command: str, tmp_path: Path
) -> None:
    """A run for `out` would replace and remove it."""
    model, data = save_model(tmp_path), save(tmp_path, samples(2))
    name = tmp_path / "out.first-3.qcal"
    name.write_bytes(b"old")
    wanted = "has the name of a checkpoint"
    assert wanted in call(command, model, "-o", name, "--samples", data).error_text()
    if command == "quantize":
        how = ["-o", tmp_path / "out", "--samples", data, "--save-stats", name]
        assert wanted in call(command, model, *how).error_text()
    assert name.read_bytes() == b"old"


def test_the_resumed_checkpoint_is_not_replaced(tmp_path: Path) -> None:
    model, data = save_model(tmp_path), save(tmp_path, samples(3))
    kept = tmp_path / "out.qcal.first-2.qcal"
    qc.onnx.observe(model, samples(2)).save(kept)
    (tmp_path / "link").symlink_to(kept)
    before = kept.read_bytes()
    how = ["-o", tmp_path / "link", "--samples", data, "--resume", kept]
    assert (
        "is an input, which would be lost" in call("observe", model, *how).error_text()
    )
    assert kept.read_bytes() == before
