"""`quantcal observe`, `inspect`, `compute` and `merge`: files in, files and tables out."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import quantcal as qc
from cli_runs import (
    call,
    plain,
    run,
    run_in_terminal,
    save_model,
    save_samples,
    save_stats,
    unboxed,
)
from quantcal.cli.flags import Flags
from quantcal.strategies import names


def inspect_json(path: Path, *arguments: object) -> list[dict[str, Any]]:
    done = call("inspect", path, "--json", *arguments)
    assert done.code == 0, done.err
    content = json.loads(done.out)
    assert content["file"] == str(path)
    return list(content["tensors"])


@pytest.mark.parametrize(
    ("arguments", "options"),
    [
        ([], {}),
        (["--mantissa-bits", "5"], {"mantissa_bits": 5}),
        (["--all-tensors"], {"tensors": "all"}),
        (["--tensor", "r1", "--tensor", "y"], {"tensors": ["y", "r1"]}),
        (["--op-type", "Relu"], {"op_types": ["Relu"]}),
        (["--exclude", "*0"], {"exclude": ["*0"]}),
        (["--max-memory", "1"], {}),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_observe_writes_what_the_library_observes(
    arguments: list[str], options: dict[str, Any], tmp_path: Path
) -> None:
    model, data = save_model(tmp_path), save_samples(tmp_path)
    written = tmp_path / "stats.qcal"
    done = call("observe", model, "-o", written, "--samples", data, *arguments)
    assert (done.code, done.err) == (0, "")
    expected = qc.onnx.observe(model, data, **options)
    assert written.read_bytes() == expected.to_bytes()
    facts = done.facts
    assert facts["written"].startswith(f"{written} (")
    assert facts["samples"] == "3"
    assert facts["tensors"] == str(len(expected))
    assert facts["values"] == str(sum(expected[name].count for name in expected))


def test_memory_is_given_in_megabytes() -> None:
    assert Flags({"max_memory": 3}).values() == {"max_memory": 3_000_000}
    assert Flags({"max_memory": None}).values() == {}


def test_a_callable_in_the_current_folder_yields_samples(tmp_path: Path) -> None:
    model = save_model(tmp_path)
    (tmp_path / "mine.py").write_text(
        "import numpy as np\n"
        "def samples():\n"
        "    for size in (5, 6):\n"
        "        yield {'x': np.ones((1, 3, size, size), np.float32)}\n"
    )
    stats = tmp_path / "stats.qcal"
    data = "python:mine:samples"
    done = run("observe", model, "-o", stats, "--samples", data, cwd=tmp_path)
    assert done.facts["samples"] == "2"
    assert qc.load(stats)["x"].count == 3 * (5 * 5 + 6 * 6)


def test_nonfinite_activations_are_warned_of_or_refused(tmp_path: Path) -> None:
    model = save_model(tmp_path)
    data = save_samples(tmp_path, bad=math.inf)
    stats = tmp_path / "stats.qcal"
    done = call("observe", model, "-o", stats, "--samples", data)
    assert done.code == 0
    assert done.err.startswith("warning: ")
    assert done.err.count("\n") == 1
    assert "x" in done.err.partition("ranges: ")[2].split(", ")
    before = stats.read_bytes()
    strict = ["--on-nonfinite", "raise"]
    output = call(
        "observe", model, "-o", stats, "--samples", data, *strict
    ).error_text()
    assert "sample 1" in output
    assert '"x"' in output
    assert stats.read_bytes() == before


def test_inspect_json_holds_the_histograms_figures(tmp_path: Path) -> None:
    stats = save_stats(tmp_path)
    cal = qc.load(stats)
    shown = inspect_json(stats)
    assert {record["name"] for record in shown} == set(cal)
    for record in shown:
        h = cal[record["name"]]
        for key in (
            "count",
            "finite",
            "zeros",
            "nan",
            "posinf",
            "neginf",
            "min",
            "max",
        ):
            assert record[key] == getattr(h, key), key
        assert record["exact"] is h.exact
        assert record["mantissa_bits"] == h.mantissa_bits
        assert (record["mean"], record["std"]) == (h.mean(), h.std())
        assert record["observations"] == 1
        for percent, value in record["percentiles"].items():
            assert value == h.quantile(float(percent) / 100)


def test_inspect_sorts_matches_and_limits(tmp_path: Path) -> None:
    stats = save_stats(tmp_path)

    def names(*arguments: object) -> list[str]:
        return [record["name"] for record in inspect_json(stats, *arguments)]

    layers = names("--match", "/model/*")
    assert [name.split(".")[1].split("/")[0] for name in layers] == [
        "0",
        "1",
        "2",
        "10",
    ]
    assert "layers.2" in names("--sort", "max")[0]  # holds the outlier, 300
    assert names("--sort", "max")[-1] in {"nothing", "only_nan"}
    assert names("--sort", "nonfinite")[:2] == ["broken", "only_nan"]
    by_count = [record["count"] for record in inspect_json(stats, "--sort", "count")]
    assert by_count == sorted(by_count, reverse=True)
    assert len(names("--limit", "3")) == 3
    assert names("--match", "logits[0]/[bold]") == ["logits[0]/[bold]"]  # as it stands


def test_inspect_shows_whole_names_and_every_tensor_in_a_pipe(tmp_path: Path) -> None:
    stats = save_stats(tmp_path)
    done = run("inspect", stats, COLUMNS="40")
    assert done.out == plain(done.out)  # no colors
    assert not any(line.endswith(" ") for line in done.out.splitlines())
    rows = {line.split()[0]: line for line in done.out.splitlines() if line}
    assert set(qc.load(stats)) <= set(rows)
    assert "7 NaN 3 inf" in rows["broken"]
    assert "█" in rows["constant"]
    assert rows["nothing"].split()[1] == "0"
    assert done.err.startswith("warning: 2 tensors hold NaN or infinite values")
    assert "broken, only_nan" in done.err


def test_inspect_marks_nonfinite_values_in_red(tmp_path: Path) -> None:
    stats = save_stats(tmp_path)
    colored = run("inspect", stats, FORCE_COLOR="1", TERM="xterm-256color")
    assert "\x1b[1;31m7 NaN 3 inf\x1b[0m" in colored.out


def test_inspect_says_how_exactly_values_are_known(tmp_path: Path) -> None:
    stats = save_stats(tmp_path)
    last = call("inspect", stats, "--match", "*.10/*").out.splitlines()[-1]
    assert last == "1 of 10 tensors; every value is known exactly"
    last = call("inspect", stats, "--match", "*.2/*").out.splitlines()[-1]
    assert last == "1 of 10 tensors; values are known within bins of 0.39 %"
    last = call("inspect", stats, "--match", "only_nan").out.splitlines()[-1]
    assert last == "1 of 10 tensors; no finite values"


@pytest.mark.parametrize("columns", [60, 80, 120, 200])
def test_tables_fit_the_terminal_and_names_stay_apart(
    columns: int, tmp_path: Path
) -> None:
    pytest.importorskip("pty", reason="there are no such terminals on Windows")
    stats = save_stats(tmp_path)
    table = tmp_path / "table.json"
    assert call("compute", stats, "-o", table).code == 0
    names = len(qc.load(stats))
    for file in (stats, table):
        lines = run_in_terminal(columns, "inspect", file)
        assert all(len(line) <= columns for line in lines)
        rows = lines[2 : 2 + names]
        if columns >= 80:  # below, names of this length lose what tells them apart
            assert len({row.split()[0] for row in rows}) == names
        assert lines[2 + names].startswith(f"{names} tensors")
        assert lines[0].startswith("tensor")


def test_an_empty_calibrator_is_shown_and_computes_nothing(tmp_path: Path) -> None:
    empty = tmp_path / "empty.qcal"
    qc.Calibrator().save(empty)
    done = call("inspect", empty)
    assert done.code == 0
    assert done.out.endswith("0 tensors; no finite values\n")
    assert inspect_json(empty) == []
    assert (
        "observed nothing" in call("compute", empty, "-o", tmp_path / "t").error_text()
    )


@pytest.mark.filterwarnings("ignore:.*no finite value")
@pytest.mark.parametrize(
    ("arguments", "strategy", "options"),
    [
        ([], "mse", {"format": "int8"}),
        (["-s", "kl", "--activation-type", "uint8"], "kl", {"format": "uint8"}),
        (["-s", "minmax", "--affine"], "minmax", {"symmetric": False}),
        (
            ["-s", "percentile_99.9", "--activation-type", "uint8", "--symmetric"],
            "percentile_99.9",
            {"format": "uint8", "symmetric": True},
        ),
        (["--activation-type", "int4"], "mse", {"format": "int4"}),
        (
            ["--activation-type", "float8_e4m3fn", "--power-of-two", "-s", "entropy"],
            "entropy",
            {"format": "float8_e4m3fn", "power_of_two": True},
        ),
        (["-s", "percentile_adaptive"], "percentile_adaptive", {}),
        (["-s", "aciq", "--activation-type", "uint4"], "aciq", {"format": "uint4"}),
        (["-s", "hybrid"], "hybrid", {}),
        (
            ["-s", "*logits*=softmax", "-s", "mse"],
            {"*logits*": "softmax", "*": "mse"},
            {},
        ),
        (
            ["-s", "mse", "-s", "*layers*=minmax", "-s", "broken=kl"],
            {"*layers*": "minmax", "broken": "kl", "*": "mse"},
            {},
        ),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_compute_writes_the_librarys_table(
    arguments: list[str], strategy: Any, options: dict[str, Any], tmp_path: Path
) -> None:
    stats = save_stats(tmp_path)
    written, expected = tmp_path / "table.json", tmp_path / "expected.json"
    table = qc.load(stats).compute(strategy, **options)
    table.save(expected)
    done = call("compute", stats, "-o", written, *arguments)
    assert done.code == 0, done.err
    assert written.read_bytes() == expected.read_bytes()
    assert done.facts["tensors"] == str(len(table))
    first = next(iter(table.values()))
    scaling = "symmetric" if first.symmetric else "affine"
    power = ", power-of-two scale" if "--power-of-two" in arguments else ""
    assert done.facts["format"] == f"{first.format} ({scaling}{power})"


def test_an_unknown_format_is_told_with_those_that_exist(tmp_path: Path) -> None:
    stats = save_stats(tmp_path)
    table = tmp_path / "table.json"
    for arguments, message in (
        (["int17"], 'Format "int17" is not known. Known formats: int2 to int16'),
        (["float8_e4m3fn", "--affine"], "float8_e4m3fn has no zero point"),
    ):
        done = call("compute", stats, "-o", table, "--activation-type", *arguments)
        assert done.code == 2
        assert f"Invalid value for '--activation-type': {message}" in unboxed(done.err)
    assert not table.exists()


def test_power_of_two_scales_are_written(tmp_path: Path) -> None:
    stats, written = save_stats(tmp_path), tmp_path / "table.json"
    arguments = ["--activation-type", "int4", "--power-of-two"]
    assert call("compute", stats, "-o", written, *arguments).code == 0
    table = qc.CalibrationTable.load(written)
    assert {math.frexp(p.scale)[0] for p in table.values()} == {0.5}
    assert {p.format for p in table.values()} == {"int4"}


@pytest.mark.parametrize("command", ["compute", "quantize"])
def test_the_help_names_the_strategies_that_exist(command: str) -> None:
    shown = unboxed(run(command, "--help", COLUMNS="200").out)
    for name in names():
        if name not in ("kl_divergence", "max_entropy", "fixed"):
            text = name.replace(
                "<number>", "99.99"
            )  # the others are aliases or need options
            assert f"{text}," in shown or f"{text};" in shown or f"{text} (" in shown, (
                name
            )
    if command == "compute":
        for word in (
            "int2 to int16",
            "uint2 to uint16",
            "float8_e4m3fn",
            "float4_e2m1fn",
        ):
            assert word in shown


def test_compute_json_is_the_table_with_its_report(tmp_path: Path) -> None:
    stats = save_stats(tmp_path)
    written = tmp_path / "table.json"
    done = call("compute", stats, "--json", "-o", written)
    assert (done.code, done.err.count("\n")) == (0, 1)
    assert done.err.startswith("warning: 2 tensors have no finite value")
    content = json.loads(done.out)
    assert content["kind"] == "ranges"
    saved = json.loads(written.read_text(encoding="utf-8"))["tensors"]
    assert {tensor.pop("name"): tensor for tensor in content["tensors"]} == saved
    alone = json.loads(call("compute", stats, "--json").out)
    assert alone["file"] is None
    assert len(alone["tensors"]) == len(saved)
    assert {t["name"] for t in inspect_json(written)} == set(saved)


@pytest.mark.filterwarnings("ignore:.*no finite value")
def test_compute_lists_the_tensors_that_lose_most(tmp_path: Path) -> None:
    stats = save_stats(tmp_path)
    arguments = ["-o", tmp_path / "t.json", "-s", "percentile_90"]
    table = qc.load(stats).compute("percentile_90")
    shares = sorted((r.clipped, n) for n, r in table.report.items() if r.clipped > 0)
    done = call("compute", stats, *arguments)
    listing = done.out.split("Most clipped")[1].splitlines()
    assert listing[0] == f", of {len(shares)}:"
    rows = [line.split()[0] for line in listing[3:] if line]
    assert set(rows) <= {name for share, name in shares if share >= shares[-5][0]}
    assert len(rows) == 5
    assert "broken, only_nan" in done.err


def test_compute_says_when_nothing_is_clipped(tmp_path: Path) -> None:
    """127 steps of exactly 1: the ends of the range are the ends of the data."""
    cal = qc.Calibrator()
    cal.observe("x", np.arange(-127, 128, dtype=np.float32))
    cal.save(tmp_path / "s.qcal")
    done = call("compute", tmp_path / "s.qcal", "-o", tmp_path / "t", "-s", "minmax")
    assert done.out.endswith("\n\nNo tensor is clipped.\n")


def test_inspect_shows_a_table_without_reports(tmp_path: Path) -> None:
    """Ranges that were set by hand were never scored against data."""
    path = tmp_path / "table.json"
    params = qc.QuantParams.from_range(-1, 3, format="uint8")
    qc.CalibrationTable({"a": params, "b": params}).save(path)
    done = call("inspect", path, "--sort", "max")
    assert done.code == 0
    assert done.out.endswith("2 tensors; uint8\n")
    assert [tensor["report"] for tensor in inspect_json(path)] == [None, None]


def test_merge_is_one_run_over_all_the_data(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    parts = [rng.standard_normal(n).astype(np.float32) for n in (100, 3000, 7)]
    whole = qc.Calibrator()
    files = []
    for number, part in enumerate(parts):
        cal = qc.Calibrator()
        for target in (cal, whole):
            target.observe("x", part)
            target.observe("y", part * 2)
        files.append(tmp_path / f"{number}.qcal")
        cal.save(files[-1])
    merged = tmp_path / "all.qcal"
    done = call("merge", *files, "-o", merged)
    assert (done.code, done.err) == (0, "")
    assert merged.read_bytes() == whole.to_bytes()
    assert done.facts["files"] == "3"
    assert done.facts["values"] == str(2 * 3107)
    call("merge", *reversed(files), "-o", merged)
    assert merged.read_bytes() == whole.to_bytes()


def test_merge_refuses_to_count_a_file_twice(tmp_path: Path) -> None:
    stats = save_stats(tmp_path)
    other = tmp_path / "." / "x" / ".." / "stats.qcal"
    (tmp_path / "x").mkdir()
    output = call("merge", stats, other, "-o", tmp_path / "all.qcal").error_text()
    assert "twice" in output
    assert not (tmp_path / "all.qcal").exists()


def test_merge_warns_of_files_with_other_tensors(tmp_path: Path) -> None:
    stats = save_stats(tmp_path)
    other = tmp_path / "other.qcal"
    cal = qc.Calibrator()
    cal.observe("constant", np.ones(3, np.float32))
    cal.save(other)
    done = call("merge", other, stats, "-o", tmp_path / "all.qcal")
    assert done.code == 0
    assert done.err.startswith(f"warning: {stats} and the files before it")
    assert "9 tensors in one of them only" in done.err
    assert qc.load(tmp_path / "all.qcal")["constant"].count == 13
