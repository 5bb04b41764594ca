"""`quantcal advise` and `quantcal tune`: their files, figures, codes and refusals."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
import typer

import planted_models as planted
import quantcal as qc
from cli_runs import call, save_model
from quantcal.cli.parsing.quantities import parse_seconds


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    """A model with a guilty node, and 15 samples."""
    data = tmp_path / "samples"
    data.mkdir()
    for number, feed in enumerate(planted.feeds(15)):
        np.savez(data / f"{number:02}.npz", **feed)
    return save_model(tmp_path, planted.mlp(guilty=2)), data


def quantized(path: Path) -> int:
    graph = onnx.load(path).graph
    coded = {n.output[0] for n in graph.node if n.op_type == "DequantizeLinear"}
    return sum(n.op_type == "MatMul" and n.input[0] in coded for n in graph.node)


def test_the_advised_options_serve_quantize(
    files: tuple[Path, Path], tmp_path: Path
) -> None:
    model, data = files
    keep, made = tmp_path / "keep.toml", tmp_path / "q.onnx"
    options = ["-s", "mse", "--no-times"]
    done = call("advise", model, "--samples", data, *options, "-o", keep)
    assert done.code == 0
    assert done.out.startswith("leave this node in float: −")
    assert "layer3" in done.out.splitlines()[0]
    assert done.out.rstrip().endswith(f"written: {keep}")
    known = qc.onnx.read_config(keep)
    assert (known["exclude"], known["strategy"]) == (["layer3"], "mse")
    again = call("quantize", model, "-o", made, "--samples", data, "--config", keep)
    assert again.code == 0
    assert quantized(made) == 5


def test_advice_as_json(files: tuple[Path, Path]) -> None:
    model, data = files
    options = ["--keep-float", 1, "--time-limit", "10m", "--no-times", "--json"]
    done = call("advise", model, "--samples", data, *options)
    found = json.loads(done.out)
    assert found["exclude"] == ["layer3"]
    assert found["loss_after"] < 0.05 * found["loss"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--budget", "much"], "'much' is no share"),
        (["--budget-of", "bytes"], "budget_of is 'bytes'"),
        (["--metric", "mytask:is_right"], "not of the form python:module:callable"),
        (["--activation-type", "none"], "looks at activations"),
    ],
)
def test_advise_refuses(
    options: list[str], message: str, files: tuple[Path, Path]
) -> None:
    model, data = files
    done = call("advise", model, "--samples", data, *options)
    assert message in done.error_text()


def test_advise_measures_times_where_the_model_is_for_this_machine(
    files: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    model, data = files
    asked = []
    slow = planted.times(onnx.load(model), slow=("layer1",))

    def measured(*_: object) -> object:
        asked.append(1)
        return slow

    monkeypatch.setattr("quantcal.onnx.advisor.times_here", measured)
    stored = tmp_path / "times.json"
    slow.save(stored)
    quick = ["advise", model, "--samples", data, "-s", "mse", "--no-remedies"]
    for more, count, named in (
        ([], 1, True),
        (["--no-times"], 0, False),
        (["--cpu", "arm"], 0, False),
        (["--target", "tensorrt"], 0, False),
        (["--times", stored], 0, True),
    ):
        asked.clear()
        done = call(*quick, *more)
        assert done.code == 0
        assert len(asked) == count
        assert ("so in float they cost no time: layer1" in done.out) == named
    done = call(*quick, "--times", stored, "--no-times")
    assert done.code == 2
    assert "Give --times or --no-times, not both." in done.err


def test_advise_and_tune_take_corrections(
    files: tuple[Path, Path], tmp_path: Path
) -> None:
    model, data = files
    made, keep = tmp_path / "t.onnx", tmp_path / "keep.toml"
    rest = ["--samples", data, "-s", "mse", "--correct", "bias"]
    done = call("advise", model, *rest, "--no-times", "-o", keep)
    assert done.code == 0
    assert "tried equalize on all: loss " in done.out
    assert "tried bias" not in done.out
    assert qc.onnx.read_config(keep)["corrections"] == ["bias"]
    done = call("tune", model, "-o", made, *rest, "--max-drop", "5%")
    assert done.code == 0
    assert done.facts["corrected"].startswith("bias: ")


def test_no_input_is_replaced(files: tuple[Path, Path]) -> None:
    model, data = files
    before = model.read_bytes()
    done = call("advise", model, "--samples", data, "-o", model)
    assert f"The output {model} is " in done.error_text()
    for flag in ("-o", "--plot"):
        rest = [] if flag == "-o" else ["-o", model.with_name("t.onnx")]
        done = call("tune", model, "--samples", data, flag, model, *rest)
        assert f"The output {model} is " in done.error_text()
    assert model.read_bytes() == before


def test_tune_keeps_a_promise(files: tuple[Path, Path], tmp_path: Path) -> None:
    model, data = files
    made, times = tmp_path / "t.onnx", tmp_path / "times.json"
    picture = tmp_path / "tried.png"
    planted.times(onnx.load(model)).save(times)
    options = ["-s", "mse", "--max-drop", "5%", "--times", times, "--plot", picture]
    done = call("tune", model, "-o", made, "--samples", data, *options)
    assert done.code == 0
    assert done.facts["promise"].startswith("kept: drop ")
    assert done.facts["in float"] == "1 node: layer3"
    assert done.facts["samples"] == "12"
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert quantized(made) == 5


def test_a_broken_promise_is_exit_code_3(
    files: tuple[Path, Path], tmp_path: Path
) -> None:
    model, data = files
    made = tmp_path / "t.onnx"
    options = ["--samples", data, "--max-drop", "0", "--time-limit", "0s", "--json"]
    done = call("tune", model, "-o", made, *options)
    assert done.code == 3
    found = json.loads(done.out)
    assert (found["kept"], found["max_drop"]) == (False, 0)
    assert made.exists()


def test_a_picture_of_no_kind_is_refused_before_the_work(
    files: tuple[Path, Path], tmp_path: Path
) -> None:
    model, data = files
    made, picture = tmp_path / "t.onnx", tmp_path / "tried.xyz"
    done = call("tune", model, "-o", made, "--samples", data, "--plot", picture)
    assert 'a picture cannot end in ".xyz"' in done.error_text()
    assert not made.exists()


@pytest.mark.parametrize(
    ("text", "seconds"),
    [(None, None), ("90", 90), ("1.5s", 1.5), ("10m", 600), (" 2h ", 7200), ("0", 0)],
)
def test_durations(text: str | None, seconds: float | None) -> None:
    assert parse_seconds(text, "--time-limit") == seconds


@pytest.mark.parametrize("text", ["", "-1", "1d", "m", "1 m", "1e3", "nan", "1.s"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(typer.BadParameter, match="is no duration"):
        parse_seconds(text, "--time-limit")
