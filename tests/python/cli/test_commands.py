"""The command as a whole: help, versions, exit codes, errors, pipes and Ctrl-C."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper
from typer.testing import CliRunner

import onnx_models as models
import quantcal as qc
from cli_runs import (
    call,
    environment,
    plain,
    run,
    run_without,
    save_model,
    save_samples,
    save_stats,
)
from quantcal.cli import main, stats_run
from quantcal.cli.app import app
from quantcal.cli.parsing.commands import find_command
from quantcal.cli.parsing.names import COMMANDS


def test_the_version_is_the_packages() -> None:
    done = run("--version")
    assert (done.code, done.out, done.err) == (0, f"quantcal {qc.__version__}\n", "")


def test_the_console_script_is_the_same_command() -> None:
    (script,) = metadata.entry_points(group="console_scripts", name="quantcal")
    assert script.load() is main


def test_without_arguments_the_command_lists_its_commands() -> None:
    done = run()
    assert "Traceback" not in done.err
    shown = done.out + done.err
    for command in COMMANDS:
        assert f"\n  {command} " in shown


@pytest.mark.parametrize("command", COMMANDS)
def test_help_shows_an_example_that_names_the_command(command: str) -> None:
    done = run(command, "--help")
    assert done.code == 0
    assert f"$ quantcal {command} " in plain(done.out)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_option_is_explained_and_says_its_default(command: str) -> None:
    for parameter in find_command(command).params:
        assert len(getattr(parameter, "help", None) or "") > 20, parameter.name
        optional = not parameter.required and parameter.default is None
        if optional and parameter.name != "output":  # -o of compute: see its help
            assert isinstance(parameter.show_default, str), parameter.name


@pytest.mark.parametrize(
    "arguments",
    [
        ["bogus"],
        ["quantize", "model.onnx", "--samples", "d"],
        ["quantize", "model.onnx", "-o", "x"],
        ["inspect", "x", "--sort", "color"],
        ["inspect", "x", "--limit", "0"],
        ["compute", "x", "-o", "y", "--activation-type", "int17"],
        ["compute", "x", "-o", "y", "--activation-type", "float8_e5m2", "--affine"],
        ["compute", "x"],
        ["compute", "x", "-o", "y", "-s", "mse", "-s", "kl"],
        ["compute", "x", "-o", "y", "-s", "=kl"],
        ["compute", "x", "-o", "y", "-s", "a="],
        ["compute", "x", "-o", "y", "-s", "a=kl", "-s", "a=mse"],
        ["compute", "x", "-o", "y", "-s", "*=kl", "-s", "mse"],
        ["observe", "m", "-o", "y", "--samples", "d", "--mantissa-bits", "2"],
        ["observe", "m", "-o", "y", "--samples", "d", "--tensor", "t", "--all-tensors"],
        ["merge", "-o", "y"],
        ["demo", "--lines", "0"],
    ],
    ids=" ".join,
)
def test_wrong_usage_exits_with_2_and_points_to_the_help(arguments: list[str]) -> None:
    result = CliRunner().invoke(app, arguments, prog_name="quantcal")
    assert result.exit_code == 2
    assert result.stdout == ""
    assert "Usage: quantcal" in plain(result.stderr)
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize("missing", ["typer", "rich"])
def test_without_its_packages_the_command_says_how_to_install_them(
    missing: str,
) -> None:
    asked = {"typer": ["--help"], "rich": ["inspect", "x"]}[missing]
    done = run_without([missing], *asked)
    assert (done.code, done.out) == (1, "")
    assert done.err == (
        "The quantcal command needs typer and rich. "
        'Install them with: pip install "quantcal[cli]"\n'
    )


def test_without_onnx_only_the_commands_that_run_models_refuse(tmp_path: Path) -> None:
    missing = ["onnx", "onnxruntime"]
    model = tmp_path / "model.onnx"
    model.write_bytes(b"")
    for command in ("quantize", "observe"):
        done = run_without(
            missing, command, model, "-o", tmp_path / "o", "--samples", "d"
        )
        assert 'pip install "quantcal[onnx]"' in done.error_text()
    stats = save_stats(tmp_path)
    assert run_without(missing, "inspect", stats).code == 0
    table = tmp_path / "t.json"
    assert run_without(missing, "compute", stats, "-o", table).code == 0
    assert len(qc.CalibrationTable.load(table)) == len(qc.load(stats))


def test_a_defect_keeps_its_traceback(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """What a user cannot mend must not be shown as if they could."""

    def broken(path: Path) -> qc.Calibrator:
        raise ZeroDivisionError(path)

    monkeypatch.setattr(stats_run, "load_stats", broken)
    result = CliRunner().invoke(app, ["compute", "x", "-o", str(tmp_path / "y")])
    assert isinstance(result.exception, ZeroDivisionError)


@pytest.mark.parametrize("command", ["quantize", "observe"])
def test_ctrl_c_exits_with_130_and_leaves_no_file(command: str, tmp_path: Path) -> None:
    """The signal comes while the first sample is read: there is nothing to be kept."""
    save_model(tmp_path)
    (tmp_path / "patience.py").write_text(
        "import os, signal\n"
        "import numpy as np\n"
        "def samples():\n"
        "    signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "    os.kill(os.getpid(), signal.SIGINT)\n"
        "    yield {'x': np.zeros((1, 3, 9, 9), np.float32)}\n"
    )
    before = sorted(path.name for path in tmp_path.iterdir())
    data = "python:patience:samples"
    done = run(command, "model.onnx", "-o", "made", "--samples", data, cwd=tmp_path)
    assert (done.code, done.out, done.err) == (130, "", "interrupted\n")
    after = {path.name for path in tmp_path.iterdir()} - {"__pycache__"}
    assert sorted(after) == before


@pytest.mark.parametrize("extra", [[], ["--json"]])
def test_a_reader_that_stops_early_is_no_error(
    extra: list[str], tmp_path: Path
) -> None:
    """As `quantcal inspect … | head -1`: more than a pipe holds, and nobody reads it."""
    cal = qc.Calibrator()
    for number in range(1500):
        cal.observe(f"{'long' * 20}.{number}", models.random(3, seed=number))
    cal.save(tmp_path / "many.qcal")
    with subprocess.Popen(
        [
            sys.executable,
            "-m",
            "quantcal",
            "inspect",
            str(tmp_path / "many.qcal"),
            *extra,
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(),
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.read(1)
        process.stdout.close()
        complaint = process.stderr.read().decode()
        process.wait(60)
    assert complaint == ""


def damaged(path: Path, how: str) -> Path:
    """Write a damaged copy of a file of histograms."""
    data = bytearray(path.read_bytes())
    if how == "cut":
        del data[len(data) // 2 :]
    elif how == "altered":
        data[len(data) // 2] ^= 0x10
    elif how == "newer":
        data[4] += 1  # the version follows the four magic bytes
    elif how == "foreign":
        data = bytearray(b"PK\x03\x04 something else")
    elif how == "empty":
        data.clear()
    target = path.with_name(f"{how}.qcal")
    target.write_bytes(data)
    return target


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ("cut", "cut off"),
        ("altered", "checksum"),
        ("newer", "newer"),
        ("foreign", "ZIP archive"),
        ("empty", "cut off"),
        ("missing", "No such file"),
    ],
)
def test_damaged_histograms_are_named_with_the_reason(
    how: str, reason: str, tmp_path: Path
) -> None:
    good = save_stats(tmp_path)
    bad = tmp_path / "missing.qcal" if how == "missing" else damaged(good, how)
    made = tmp_path / "made"
    for arguments in (
        ["inspect", bad],
        ["inspect", bad, "--json"],
        ["compute", bad, "-o", made],
        ["merge", good, bad, "-o", made],
    ):
        message = call(*arguments).error_text()
        assert str(bad) in message
        assert reason in message
    assert run("inspect", bad).error_text() == message  # in a separate process too
    assert not made.exists()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ('{"kind": "something else"}', "not a calibration table"),
        ('{"kind": "quantcal calibration table", "version": 99}', "newer"),
        ('{"kind": "quantcal calibration table", "version": 1}', "tensors"),
        ('{"cut": ', "not a calibration table"),
        ("{}", "not a calibration table"),
    ],
)
def test_damaged_tables_are_named_with_the_reason(
    content: str, reason: str, tmp_path: Path
) -> None:
    path = tmp_path / "table.json"
    path.write_text(content)
    message = call("inspect", path).error_text()
    assert str(path) in message
    assert reason in message


def test_samples_are_counted_themselves_not_the_turns_of_a_loop(
    tmp_path: Path,
) -> None:
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["going"], ["go"]),
            helper.make_node("Add", ["sum", "sum"], ["next"]),
        ],
        "body",
        [
            models.value("i", [], TensorProto.INT64),
            models.value("going", [], TensorProto.BOOL),
            models.value("sum", ["n"]),
        ],
        [models.value("go", [], TensorProto.BOOL), models.value("next", ["n"])],
    )
    net = models.build(
        [helper.make_node("Loop", ["times", "", "x"], ["y"], body=body)],
        [models.value("x", ["n"])],
        [models.value("y", ["n"])],
        {"times": np.array(5)},
    )
    data = tmp_path / "samples"
    data.mkdir()
    for number in range(2):
        np.savez(data / f"{number}.npz", x=models.random(4, seed=number))
    model, made = save_model(tmp_path, net), tmp_path / "stats.qcal"
    done = call("observe", model, "-o", made, "--samples", data, "--all-tensors")
    assert done.facts["samples"] == "2"
    assert qc.load(made).stats("next").observations == 10


def test_folders_and_places_that_cannot_be_written_are_named(tmp_path: Path) -> None:
    stats = save_stats(tmp_path)
    assert str(tmp_path) in call("inspect", tmp_path).error_text()
    lost = tmp_path / "no" / "where"
    assert str(lost) in call("compute", stats, "-o", lost).error_text()
    assert str(lost) in call("merge", stats, "-o", lost).error_text()
    model, data = save_model(tmp_path), save_samples(tmp_path)
    for command in ("observe", "quantize"):
        done = call(command, model, "-o", lost, "--samples", data)
        assert str(lost.parent) in done.error_text()


def test_strategies_and_names_that_do_not_exist_are_told_with_those_that_do(
    tmp_path: Path,
) -> None:
    stats = save_stats(tmp_path)
    made = tmp_path / "made"
    message = call("compute", stats, "-o", made, "-s", "entropie").error_text()
    assert '"entropie"' in message
    assert "minmax" in message
    message = call(
        "compute", stats, "-o", made, "-s", "brokn=kl", "-s", "mse"
    ).error_text()
    assert '"brokn" was never observed' in message
    assert "broken" in message
    message = call("compute", stats, "-o", made, "-s", "l*=kl").error_text()
    assert "No rule matches" in message
    message = call("inspect", stats, "--match", "brok?").error_text()
    assert "'brok?'" in message
    assert "broken" in message
    assert not made.exists()


def test_models_and_data_that_do_not_fit_are_told_in_one_line(tmp_path: Path) -> None:
    model, data = save_model(tmp_path), save_samples(tmp_path)
    made = tmp_path / "made"
    text = tmp_path / "text.onnx"
    text.write_text("no model")
    empty = tmp_path / "empty"
    empty.mkdir()
    for arguments, words in (
        ((tmp_path / "none.onnx", "--samples", data), ["none.onnx"]),
        ((text, "--samples", data), ["text.onnx"]),
        ((model, "--samples", tmp_path / "nothing"), ["nothing", "does not exist"]),
        ((model, "--samples", data, "--exclude", "nix"), ["'nix'", "matches no node"]),
        ((model, "--samples", data, "--op-type", "Conf"), ["'Conf'", "Conv"]),
        ((model, "--samples", "python:json:samples"), ["json", "samples"]),
    ):
        for command in ("observe", "quantize"):
            message = call(command, *arguments, "-o", made).error_text()
            assert all(word in message for word in words), message
    for command in ("observe", "quantize"):  # with a second line, which can be copied
        done = call(command, model, "--samples", empty, "-o", made)
        assert done.code == 1
        assert f"error: {empty} holds no .npz or .npy file: it is empty." in done.err
        assert "\n  quantcal " in done.err
    (data / "1.npz").write_bytes(b"not a zip")
    message = call("quantize", model, "--samples", data, "-o", made).error_text()
    assert "1.npz" in message
    assert not made.exists()


def test_a_model_that_fails_while_running_is_told_with_the_sample(
    tmp_path: Path,
) -> None:
    net = models.conv_net()
    net.graph.node[0].attribute.add(name="group", type=2, i=7)
    model, data = save_model(tmp_path, net), save_samples(tmp_path)
    message = call(
        "observe", model, "--samples", data, "-o", tmp_path / "made"
    ).error_text()
    assert "sample 0" in message
    assert "group: 7" in message


def test_quoted_complaints_of_many_lines_become_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """onnx's checker and onnxruntime answer so."""

    def refuse(path: Path) -> qc.Calibrator:
        raise qc.CalibrationError(f"{path} is bad:\n\n  ==> Context: node  3\n")

    monkeypatch.setattr(stats_run, "load_stats", refuse)
    result = CliRunner().invoke(app, ["compute", "x", "--json"])
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == "error: x is bad: ==> Context: node 3\n"


def test_an_encoding_without_our_characters_gets_others(tmp_path: Path) -> None:
    stats = save_stats(tmp_path)
    done = run("inspect", stats, PYTHONIOENCODING="ascii")
    assert done.code == 0
    assert done.out.isascii()
    assert r"\u0448" in done.out  # the first letter of a name, as Python writes it
    lines = json.loads(run("inspect", stats, "--json", PYTHONIOENCODING="utf-8").out)
    assert "ширина" in {tensor["name"] for tensor in lines["tensors"]}


def test_demo_says_in_red_what_to_do_without_a_network(tmp_path: Path) -> None:
    done = run(
        "demo",
        "--output",
        tmp_path / "out",
        QUANTCAL_CACHE=str(tmp_path / "cache"),
        PIP_NO_INDEX="1",
        PIP_CONFIG_FILE=os.devnull,
    )
    assert (done.code, done.out) == (1, "")
    assert "error: Cannot fetch " in done.err
    assert "pip download" in done.err
    assert "Traceback" not in done.err


@pytest.mark.model
def test_demo_runs_and_prints_a_row_for_each_strategy(tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = run("demo", "--lines", 8, "--calibration", 4, "--output", out)
    assert done.code == 0, done.err
    rows = ("auto", "kl")
    assert "\nauto, strategy: " in done.out
    for row in ("FP32", *(f"INT8 {name}" for name in rows)):
        assert f"\n{row} " in done.out
    figures = json.loads((out / "demo.json").read_text())
    assert figures["calibration_lines"] == 4
    assert figures["float32"]["lines"] == 8
