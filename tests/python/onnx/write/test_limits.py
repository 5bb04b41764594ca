"""Limits on the loss of a quantized model: `Evaluation.check`, and exit codes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import quantcal as qc
from cli_runs import call, save_model, save_samples
from quantcal.onnx import Evaluation, MetricMean, OutputError


def made(
    sqnr: float | None = 20.0, top1: float | None = None, native: float = 30.0
) -> Evaluation:
    by = {
        "exact": OutputError(sqnr_db=sqnr, top1=top1),
        "native": OutputError(sqnr_db=None if sqnr is None else native, top1=top1),
    }
    return Evaluation(3, {"y": by}, {}, (), (), ())


def with_metric(first: float, other: float) -> Evaluation:
    means = {"float": MetricMean(first, 0), "native": MetricMean(other, 0)}
    return Evaluation(3, made().outputs, {"right": means}, (), (), ())


def test_every_output_of_floats_needs_the_sqnr_in_every_arithmetic() -> None:
    assert made().check() == ()
    assert made().check(min_sqnr=20) == ()
    (line,) = made().check(min_sqnr=20.1)
    assert line == ("min_sqnr: 'y' has 20.0 dB (exact); at least 20.1 dB was promised")
    assert len(made(native=-float("inf")).check(min_sqnr=20.1)) == 2
    assert made(float("inf"), native=float("inf")).check(min_sqnr=300) == ()
    with pytest.raises(qc.CalibrationError, match="min_sqnr needs an output of floats"):
        made(None).check(min_sqnr=3)
    with pytest.raises(qc.CalibrationError, match="min_sqnr is nan"):
        made().check(min_sqnr=float("nan"))


def test_top1_answers_may_change_by_a_share() -> None:
    assert made(top1=0.99).check(max_drop="1%") == ()
    lines = made(top1=0.98).check(max_drop="1%")
    assert len(lines) == 2
    assert lines[0].startswith("max_drop: 'y' has another top-1 in 2.00 % of places")
    with pytest.raises(qc.CalibrationError, match="max_drop needs a metric"):
        made().check(max_drop="1%")
    for wrong in (-1, 1, "101%", float("nan"), True):
        with pytest.raises(qc.CalibrationError, match="max_drop is"):
            made(top1=1).check(max_drop=wrong)


def test_a_metric_may_fall_by_a_share_of_the_float_models() -> None:
    assert with_metric(0.8, 0.792).check(max_drop="1.0001%") == ()
    assert with_metric(0.8, 0.9).check(max_drop=0) == ()
    (line,) = with_metric(0.8, 0.79).check(max_drop="1%")
    assert line == (
        "max_drop: 'right' falls from 0.8 to 0.79 (native), by 1.25 %; "
        "at most 1 % was promised"
    )
    assert len(with_metric(0.8, float("nan")).check(max_drop="100%")) == 1
    assert len(with_metric(0, -1).check(max_drop="100%")) == 1
    assert with_metric(-2, -2.02).check(max_drop="1.01%") == ()
    # Both limits are checked, and the metric replaces the answers.
    assert len(with_metric(0.8, 0.7).check(max_drop="1%", min_sqnr=25)) == 2


def test_the_command_exits_with_3_and_says_which_limit_failed(tmp_path: Path) -> None:
    model, data = save_model(tmp_path), save_samples(tmp_path)
    path = tmp_path / "q.onnx"
    qc.onnx.quantize(model, path, data, progress=False, strategy="mse")
    arguments = ["evaluate", model, path, "--samples", data]
    assert call(*arguments, "--min-sqnr", 10).code == 0
    done = call(*arguments, "--min-sqnr", 90)
    assert done.code == 3
    assert done.err.splitlines()[0].startswith("failed: min_sqnr: 'y' has ")
    assert len(done.err.splitlines()) == 2  # exact and native
    assert "SQNR" in done.out  # what was found is shown all the same
    content = call(*arguments, "--min-sqnr", 90, "--json")
    assert content.code == 3
    assert [f"failed: {f}" for f in json.loads(content.out)["failures"]] == (
        content.err.splitlines()
    )
    assert (
        "max_drop needs a metric" in call(*arguments, "--max-drop", "1%").error_text()
    )
    assert call(*arguments, "--max-drop", "101%").code == 2


def test_a_metric_and_a_drop_on_the_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, data = save_model(tmp_path), save_samples(tmp_path)
    path = tmp_path / "q.onnx"
    qc.onnx.quantize(model, path, data, progress=False, strategy="mse")
    (tmp_path / "scores.py").write_text(
        "calls = []\n"
        "def falling(number, feed, outputs):\n"
        "    calls.append(1)\n"
        "    return 1.0 if len(calls) % 3 == 1 else 0.97\n"
    )
    monkeypatch.chdir(tmp_path)
    arguments = ["evaluate", model, path, "--samples", data]
    arguments += ["--metric", "scores:falling", "--max-drop"]
    assert call(*arguments, "3.1%").code == 0
    done = call(*arguments, "2%")
    assert done.code == 3
    assert "failed: max_drop: 'metric' falls from 1 to 0.97" in done.err
