"""`quantcal times`: its table, its file and its refusals."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import quantcal as qc
from cli_runs import call, run_in_terminal, save_model, save_samples


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    """The float model, its quantized copy, and the samples."""
    model, samples = save_model(tmp_path), save_samples(tmp_path)
    quantized = tmp_path / "q.onnx"
    qc.onnx.quantize(model, quantized, samples, progress=False, strategy="mse")
    return [model, quantized, samples]


def test_the_table_has_the_quantized_nodes_by_gain(
    files: list[Path], tmp_path: Path
) -> None:
    model, quantized, samples = files
    output = tmp_path / "times.json"
    options = ["--samples", samples, "--rounds", "3", "-o", output]
    done = call("times", model, quantized, *options)
    assert done.code == 0
    assert done.facts["runs"].startswith("3 rounds of ")
    assert done.facts["written"] == str(output)
    saved = qc.onnx.NodeTimes.load(output)
    rows = [line.split() for line in done.out.split("\n\n")[1].splitlines()[2:]]
    names = [n for n, t in saved.nodes.items() if t.quantized]
    assert [row[0] for row in rows] == sorted(
        names, key=lambda name: -saved.nodes[name].gain_ms
    )
    for row in rows:
        node = saved.nodes[row[0]]
        assert row[1:4] == [
            node.op_type,
            f"{node.float_ms:.3f}",
            f"{node.integer_ms:.3f}",
        ]
        assert row[-1] == node.kernel
    free = done.facts["free accuracy"]
    assert all(name in free for name in saved.not_faster())
    assert free.startswith("none") == (not saved.not_faster())
    for warning in saved.warnings():
        assert f"warning: {warning}" in done.err


def test_json_has_all_figures(files: list[Path]) -> None:
    model, quantized, samples = files
    done = call(
        "times", model, quantized, "--samples", samples, "--rounds", 3, "--json"
    )
    content = json.loads(done.out)
    assert set(content["nodes"]) >= {"Conv_0", "Conv_2"}
    assert content["rounds"] == 3


def test_a_limit_shows_both_ends(files: list[Path]) -> None:
    model, quantized, samples = files
    options = ["--samples", samples, "--rounds", 3, "--limit"]
    both = call("times", model, quantized, *options, 2).out.split("\n\n")[1]
    assert "Conv_0" in both
    assert "Conv_2" in both
    one = call("times", model, quantized, *options, 1).out.split("\n\n")[1]
    assert ("Conv_0" in one) != ("Conv_2" in one)
    assert "1 of 2 quantized nodes" in one


def test_a_narrow_terminal_keeps_the_gain(files: list[Path]) -> None:
    model, quantized, samples = files
    options = ["--samples", samples, "--rounds", 3]
    lines = run_in_terminal(60, "times", model, quantized, *options)
    heads = [line for line in lines if line.startswith("node")]
    assert len(heads) == 1
    assert "gain ms" in heads[0]
    assert "multiply-adds" not in heads[0]


@pytest.mark.parametrize("place", [0, 1, 2])
def test_no_input_is_replaced(place: int, files: list[Path]) -> None:
    model, quantized, samples = files
    target = next(samples.iterdir()) if place == 2 else files[place]
    before = target.read_bytes()
    done = call("times", model, quantized, "--samples", samples, "-o", target)
    assert f"The output {target} is " in done.error_text()
    assert target.read_bytes() == before


def test_swapped_models_are_refused(files: list[Path]) -> None:
    model, quantized, samples = files
    done = call("times", quantized, model, "--samples", samples)
    assert "Give the float model first" in done.error_text()
