"""`quantcal report`, and `--report` of the commands that run models."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import planted_models as planted
import quantcal as qc
import report_sources as sources
from cli_runs import call, run_without, save_model, save_samples, save_stats
from quantcal import demo
from quantcal.demo import Accuracy, DemoResult, StrategyResult

pytest.importorskip("jinja2")


def heading(path: Path) -> str:
    text = path.read_text("utf-8")
    return text.partition("<h1>")[2].partition("</h1>")[0]


def test_files_are_known_by_their_content(tmp_path: Path) -> None:
    given = sources.quantized(tmp_path)
    result, calibrator = given["result"], given["calibrator"]
    names = list(result.table)
    calibrator.save(tmp_path / "a.bin")
    result.table.save(tmp_path / "b.json")
    for name, content in (
        ("c.json", sources.evaluation(names).to_dict() | {"failures": []}),
        ("d.json", sources.advice(names[0]).to_dict()),
        ("e.json", sources.tuning(names)),
    ):
        (tmp_path / name).write_text(json.dumps(content), "utf-8")
    files = [
        "c.json",
        "net.int8.onnx",
        "a.bin",
        "e.json",
        "d.json",
        "net.onnx",
        "b.json",
    ]
    out = tmp_path / "r.html"
    done = call("report", *(tmp_path / name for name in files), "-o", out)
    assert (done.code, done.err) == (0, "")
    for what in (
        "histograms",
        "a table",
        "a float model",
        "a quantized model",
        "advice",
    ):
        assert what in done.facts["from"], what
    assert heading(out) == "net.onnx"
    expected = tmp_path / "same.html"
    qc.write_report(
        expected,
        model=given["model"],
        quantized=result.output,
        calibrator=calibrator,
        table=result.table,
        evaluation=sources.evaluation(names),
        advice=sources.advice(names[0]),
        tune=sources.tuning(names),
    )
    assert out.read_bytes() == expected.read_bytes()


def test_two_files_of_a_kind_and_other_files_are_refused(tmp_path: Path) -> None:
    stats = save_stats(tmp_path)
    out = tmp_path / "r.html"
    again = tmp_path / "again.qcal"
    again.write_bytes(stats.read_bytes())
    error = call("report", stats, again, "-o", out).error_text()
    assert error == f"{stats} and {again} both hold histograms. Give one of them."
    odd = tmp_path / "odd.json"
    odd.write_text('{"a": 1}', "utf-8")
    error = call("report", odd, "-o", out).error_text()
    assert error.startswith(f"{odd} is none of the files that a report shows")
    odd.write_text("{broken", "utf-8")
    assert f"{odd} is no JSON" in call("report", odd, "-o", out).error_text()
    missing = tmp_path / "missing.qcal"
    assert (
        "missing.qcal: No such file" in call("report", missing, "-o", out).error_text()
    )
    error = call("report", stats, "-o", stats).error_text()
    assert "is an input, which would be lost" in error
    assert not out.exists()


def test_quantize_evaluate_and_tables_write_reports(tmp_path: Path) -> None:
    model, data = save_model(tmp_path), save_samples(tmp_path)
    made, out = tmp_path / "q.onnx", tmp_path / "r.html"
    table = tmp_path / "t.json"
    run = ("quantize", model, "-o", made, "--report", out)
    done = call(*run, "--samples", data, "-s", "mse", "--save-table", table)
    assert (done.code, done.err) == (0, "")
    assert str(out) in done.facts["also written"]
    first = out.read_text("utf-8")
    assert '"buckets"' in first
    assert "nodes on integers" in first
    assert "Expected loss: " in first
    assert "A sample takes " in first
    done = call(*run, "--from", table)
    assert (done.code, done.err) == (0, "")
    assert '"buckets"' not in out.read_text("utf-8")
    done = call("evaluate", model, made, "--samples", data, "--layers", "--report", out)
    assert done.code == 0
    assert done.out.rstrip().endswith(f"report: {out}")
    assert 'id="plot-layers"' in out.read_text("utf-8")


def test_advise_and_tune_write_reports(tmp_path: Path) -> None:
    data, out = tmp_path / "samples", tmp_path / "r.html"
    data.mkdir()
    for number, feed in enumerate(planted.feeds(15)):
        np.savez(data / f"{number:02}.npz", **feed)
    model = save_model(tmp_path, planted.mlp(guilty=2))
    done = call("advise", model, "--samples", data, "-s", "mse", "--report", out)
    assert (done.code, done.err) == (0, "")
    assert "--exclude layer3" in out.read_text("utf-8")
    # An ample promise: the search is short.
    arguments = ("--max-drop", "90%", "-s", "mse", "--report", out, "--json")
    done = call("tune", model, "-o", tmp_path / "q.onnx", "--samples", data, *arguments)
    assert done.code == 0
    assert json.loads(done.out)["kept"]
    assert 'id="plot-tuning"' in out.read_text("utf-8")


def test_the_demo_writes_a_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, out = tmp_path / "out", tmp_path / "r.html"
    folder.mkdir()
    given = sources.quantized(folder)
    (folder / "net.int8.onnx").rename(folder / "rec.auto.onnx")
    given["calibrator"].save(folder / "rec.qcal")
    given["result"].table.save(folder / "rec.auto.json")

    class Recognizer:
        def fetch(self) -> Path:
            return folder / "net.onnx"

    monkeypatch.setattr(demo, "RECOGNIZER", Recognizer())
    monkeypatch.setattr(demo, "run", lambda **_: demo_result(folder))
    done = call("demo", "--output", folder, "--report", out)
    assert (done.code, done.err) == (0, "")
    text = out.read_text("utf-8")
    assert heading(out) == "PP-OCRv4 text recognizer"
    assert "INT8 mse answers 0.750 exactly, FP32 0.800 ± 0.078" in text
    assert '"buckets"' in text


def demo_result(folder: Path) -> DemoResult:
    """What the demo returns: 80 of 100 lines in FP32, 75 in INT8."""
    right, fewer = (Accuracy(n / 100, 0.01, 1.0, 100) for n in (80, 75))
    row = StrategyResult("mse", folder / "rec.mse.onnx", fewer, fewer, 0.1, 0.1)
    return DemoResult(folder, right, (row,), 4, 9, 0.5, {}, 8, "VNNI", 1)


@pytest.mark.parametrize("command", ["quantize", "evaluate", "advise", "tune"])
def test_a_report_never_replaces_what_a_command_reads(
    command: str, tmp_path: Path
) -> None:
    model, data = save_model(tmp_path), save_samples(tmp_path)
    before = model.read_bytes()
    more = {"evaluate": [model], "advise": []}
    arguments = more.get(command, ["-o", tmp_path / "q.onnx"])
    done = call(command, model, *arguments, "--samples", data, "--report", model)
    assert done.code == 1
    assert "is the model itself, which is never changed" in done.err
    assert model.read_bytes() == before


def test_without_jinja2_nothing_runs(tmp_path: Path) -> None:
    model, data = save_model(tmp_path), save_samples(tmp_path)
    out = tmp_path / "r.html"
    for arguments in (
        (
            "quantize",
            model,
            "-o",
            tmp_path / "q.onnx",
            "--samples",
            data,
            "--report",
            out,
        ),
        ("report", save_stats(tmp_path), "-o", out),
    ):
        done = run_without(["jinja2"], *arguments)
        assert done.code == 1
        assert 'pip install "quantcal[report]"' in done.err
    assert not (tmp_path / "q.onnx").exists()
    assert not out.exists()
