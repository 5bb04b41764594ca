"""What `quantize` prints of the whole model, and what `--quiet` and `--json` leave of it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import quantcal as qc
from cli_runs import call, save_model, save_samples, save_stats
from quantcal.cli.parsing.quantities import read_share


@pytest.fixture
def start(tmp_path: Path) -> list[object]:
    model, data = save_model(tmp_path), save_samples(tmp_path)
    made = tmp_path / "q.onnx"
    return ["quantize", model, "-o", made, "--samples", data, "-s", "mse"]


def test_the_summary_has_sizes_nodes_loss_and_latency(start: list[object]) -> None:
    facts = call(*start).facts
    assert " KB, from " in facts["written"]
    whole = "2 of 2 Conv quantized: 100 % of the weights, 100 % of the multiply-adds"
    assert facts["whole model"] == whole
    assert facts["expected loss"].startswith("small, 0.")
    assert "3 calibration samples" in facts["expected loss"]
    for words in ("float ", "quantized ", " ms: ", "in turns"):
        assert words in facts["latency"]
    assert "in float" not in facts
    assert "samples" in facts["two halves"].partition(": ")[0]


def test_without_latency_nothing_is_timed(start: list[object]) -> None:
    facts = call(*start, "--no-latency", "--exclude", "Conv_0").facts
    assert "latency" not in facts
    assert facts["in float"].startswith("1 Conv: ")
    # 4 · 3 · 3 · 3 · 4 of the weights are those of the first Conv
    assert "of the multiply-adds" in facts["in float"]
    assert facts["whole model"].startswith("1 of 2 Conv quantized")


def test_a_processor_without_vnni_is_named_before_the_run(start: list[object]) -> None:
    done = call(*start, "--cpu", "no-vnni")
    assert "no VNNI, so int8 may be no faster than float" in done.err
    assert "no VNNI" not in call(*start, "--cpu", "no-vnni", "--no-latency").err
    assert call(*start, "--cpu", "vnni").err == ""


def test_json_has_the_cost_and_nothing_else_is_printed(start: list[object]) -> None:
    done = call(*start, "--json", "--cpu", "vnni")
    content = json.loads(done.out)
    assert done.err == ""
    assert content["kind"] == "quantized"
    assert content["quantized_nodes"] == {"Conv": 2}
    assert content["cost"]["operators"]["Conv"]["nodes"] == 2
    assert content["cost"]["float_latency"]["median_ms"] > 0
    assert content["stability"]["verdict"]


def test_quiet_prints_errors_only(start: list[object], tmp_path: Path) -> None:
    stats, table = save_stats(tmp_path), tmp_path / "t.json"
    for arguments in (
        start,
        ["observe", *start[1:2], "-o", tmp_path / "s.qcal", *start[4:6]],
        ["inspect", stats],
        ["compare", stats],
        ["compute", stats, "-o", table],
        ["merge", stats, tmp_path / "s.qcal", "-o", tmp_path / "m.qcal"],
        ["export", table, "--to", "csv", "-o", tmp_path / "t.csv"],
        ["evaluate", start[1], start[3], *start[4:6]],
    ):
        done = call(*arguments, "--quiet")
        assert (done.code, done.out, done.err) == (0, "", ""), arguments
    assert call("inspect", stats).out  # the next command is not quiet
    assert call("inspect", tmp_path / "no.qcal", "-q").error_text()


@pytest.mark.parametrize("command", ["observe", "merge", "export"])
def test_commands_that_write_files_print_json(command: str, tmp_path: Path) -> None:
    model, data, stats = save_model(tmp_path), save_samples(tmp_path), tmp_path / "s"
    qc.onnx.observe(model, data, progress=False).save(stats)
    qc.load(stats).save(tmp_path / "other")
    qc.load(stats).compute("mse").save(tmp_path / "t.json")
    made = tmp_path / "made"
    arguments: dict[str, list[object]] = {
        "observe": [model, "--samples", data],
        "merge": [stats, tmp_path / "other"],
        "export": [tmp_path / "t.json", "--to", "csv"],
    }
    content = json.loads(call(command, *arguments[command], "-o", made, "--json").out)
    assert content["file"] == str(made)
    assert content["tensors"] == 3
    assert made.is_file()


def test_a_share_is_a_percentage_or_a_small_number(tmp_path: Path) -> None:
    assert read_share("1%", "--max-drop") == pytest.approx(0.01)
    assert read_share("0.01", "--max-drop") == 0.01
    assert read_share("100%", "--max-drop") == 1
    arguments = ["evaluate", "m", "q", "--samples", "d", "--max-drop"]
    for wrong in ("1", "101%", "-1%", "much", "nan"):
        done = call(*arguments, wrong)
        assert done.code == 2
        assert "such as 1%" in done.err


def test_a_format_for_some_tensors_is_refused_where_there_is_no_model(
    tmp_path: Path,
) -> None:
    stats = save_stats(tmp_path)
    for command in (
        ["compute", stats, "--json"],
        ["compare", stats],
        ["stability", stats, "x"],
    ):
        done = call(*command, "-a", "a=int8")
        assert done.code == 2
        assert "only `quantcal quantize` and `observe` take" in done.err
