"""What commands read: never overwritten, and reported with its fault when it is damaged."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import numpy as np
import pytest

import onnx_models as models
import quantcal as qc
from cli_runs import call, save_model


@pytest.mark.parametrize(
    "arguments",
    [
        "compute stats.qcal -o stats.qcal",
        "compute stats.qcal -s policy.json -o policy.json",
        "observe model.onnx --samples data -o data/0.npz",
        "observe model.onnx --samples data/0.npz -o data/0.npz",
        "quantize model.onnx --samples data -o data/0.npz",
        "quantize model.onnx --samples data -o out --save-table data/0.npz",
    ],
)
def test_what_a_command_reads_it_does_not_overwrite(
    arguments: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    save_model(tmp_path)
    Path("data").mkdir()
    np.savez("data/0.npz", x=models.random(1, 3, 8, 8))
    cal = qc.Calibrator()
    cal.observe("x", np.ones(3, np.float32))
    cal.save("stats.qcal")
    qc.Policy({"*": "kl"}).save("policy.json")
    files = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    assert "is an input, which would be lost" in call(*arguments.split()).error_text()
    assert {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()} == files


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (
            "def feeds():\n    yield {}[0]",
            "sample 0 .* KeyError: 0 .*odd_feeds.py, line 2",
        ),
        ("def feeds(needed): ...", "sample 0 .* TypeError: .*needed"),
        ("def feeds(:", "Cannot import 'odd_feeds' .*SyntaxError"),
        (
            "1 / 0",
            "Cannot import 'odd_feeds' .*ZeroDivisionError.*odd_feeds.py, line 1",
        ),
    ],
)
def test_a_fault_of_the_users_code_is_told_with_its_line(
    code: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    monkeypatch.delitem(sys.modules, "odd_feeds", raising=False)
    Path("odd_feeds.py").write_text(code)
    save_model(tmp_path)
    arguments = "observe model.onnx -o s.qcal --samples python:odd_feeds:feeds"
    assert re.search(message, call(*arguments.split()).error_text())


def test_a_sample_of_another_kind_is_told_without_talk_of_pickles(
    tmp_path: Path,
) -> None:
    model, sample = save_model(tmp_path), tmp_path / "0.npz"
    sample.write_bytes(b"no arrays")
    done = call("observe", model, "-o", tmp_path / "s.qcal", "--samples", sample)
    assert "0.npz: the content is not what numpy.save or savez" in done.error_text()


def test_a_table_given_for_histograms_is_told_apart(tmp_path: Path) -> None:
    cal = qc.Calibrator()
    cal.observe("x", np.ones(3, np.float32))
    cal.compute().save(tmp_path / "table.json")
    for command in (["compare"], ["compute", "-o", tmp_path / "t"]):
        message = call(*command, tmp_path / "table.json").error_text()
        assert "table.json holds a table, not histograms. Give the file" in message
    cal.save(tmp_path / "stats.qcal")
    wanted = ["--to", "csv", "-o", tmp_path / "ranges.csv"]
    message = call("export", tmp_path / "stats.qcal", *wanted).error_text()
    assert "stats.qcal holds histograms, not a table. `quantcal compute" in message


def test_tensors_without_a_finite_value_are_warned_of(tmp_path: Path) -> None:
    cal = qc.Calibrator()
    cal.observe("fine", np.ones(3, np.float32))
    cal.observe("lost", np.full(3, np.nan, np.float32))
    cal.save(tmp_path / "stats.qcal")
    done = call("compute", tmp_path / "stats.qcal", "-o", tmp_path / "table.json")
    assert done.code == 0
    assert "1 tensor has no finite value, so the range has no meaning: lost" in (
        " ".join(done.err.split())
    )
