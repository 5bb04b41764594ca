"""`quantcal quantize`: the written model is the library's, and the summary is true."""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path
from typing import Any

import onnx
import pytest
from onnx import helper

import onnx_models as models
import quantcal as qc
from cli_runs import call, run_in_terminal, save_model, save_samples
from quantcal.onnx._options.cpu import weight_bits


@pytest.mark.parametrize(
    ("arguments", "options"),
    [
        ([], {}),
        (["-s", "kl"], {"strategy": "kl"}),
        (
            ["-s", "minmax", "-s", "r*=percentile_99"],
            {"strategy": {"r*": "percentile_99", "*": "minmax"}},
        ),
        (["--activation-type", "int8"], {"activation_type": "int8"}),
        (["--weight-type", "uint8"], {"weight_type": "uint8"}),
        (["--per-tensor"], {"per_channel": False}),
        (["--reduce-range", "yes"], {"reduce_range": True}),
        (["--reduce-range", "no"], {"reduce_range": False}),
        (["--exclude", "*0"], {"exclude": ["*0"]}),
        (["--op-type", "Conv", "--op-type", "Relu"], {"op_types": ["Conv", "Relu"]}),
        (["--mantissa-bits", "4"], {"mantissa_bits": 4}),
        (["--max-memory", "1"], {"max_memory": 1_000_000}),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
@pytest.mark.parametrize("keep", [False, True], ids=["", "keeping stats"])
def test_the_model_is_the_librarys(
    arguments: list[str], options: dict[str, Any], keep: bool, tmp_path: Path
) -> None:
    model, data = save_model(tmp_path), save_samples(tmp_path)
    expected, made = tmp_path / "expected.onnx", tmp_path / "made.onnx"
    result = qc.onnx.quantize(model, expected, data, progress=False, **options)
    stats = tmp_path / "stats.qcal"
    kept = ["--save-stats", stats] if keep else []
    done = call("quantize", model, "-o", made, "--samples", data, *arguments, *kept)
    assert (done.code, done.err) == (0, "")
    assert made.read_bytes() == expected.read_bytes()
    facts = done.facts
    assert facts["samples"] == "3"
    assert facts["tensors observed"] == str(result.tensors_observed)
    q_dq = f"{result.quantize_nodes} / {result.dequantize_nodes}"
    assert facts["Q / DQ nodes"] == q_dq
    assert facts["weights"].endswith(f": {result.reduce_range_reason}")
    if keep:
        # The histograms give the same ranges again.
        strategy = options.get("strategy")
        if strategy is None:
            assert result.choice is not None
            strategy = result.choice.policy
        activation = options.get("activation_type", "uint8")
        assert qc.load(stats).compute(strategy, format=activation) == result.table


def test_the_summary_tells_what_is_in_the_file(tmp_path: Path) -> None:
    model, data = save_model(tmp_path), save_samples(tmp_path)
    made = tmp_path / "made.onnx"
    done = call("quantize", model, "-o", made, "--samples", data, "--exclude", "Conv_0")
    kinds = Counter(node.op_type for node in onnx.load(made).graph.node)
    facts = done.facts
    q_dq = f"{kinds['QuantizeLinear']} / {kinds['DequantizeLinear']}"
    assert facts["Q / DQ nodes"] == q_dq
    assert facts["quantized"] == "1 Conv"
    assert facts["left in float"] == "1 excluded"
    assert facts["weights"].endswith(weight_bits().reason)
    assert facts["written"].startswith(f"{made} (")
    amount, unit = facts["peak memory"].split()
    assert float(amount) * {"MB": 1, "GB": 1000}[unit] > 10
    assert facts["time"].endswith(" s")


def test_tables_and_histograms_are_kept_on_request(tmp_path: Path) -> None:
    model, data = save_model(tmp_path), save_samples(tmp_path)
    made = [tmp_path / name for name in ("m.onnx", "s.qcal", "t.json")]
    keep = ["-s", "mse", "--save-stats", made[1], "--save-table", made[2]]
    done = call("quantize", model, "-o", made[0], "--samples", data, *keep)
    config = tmp_path / "m.quantcal.toml"
    assert done.facts["also written"] == f"{config}, {made[1]}, {made[2]}"
    table = qc.CalibrationTable.load(made[2])
    assert table == qc.load(made[1]).compute("mse", format="uint8")
    assert set(table.report) == set(table)
    alone = tmp_path / "alone.json"
    keep = ["-s", "mse", "--save-table", alone]
    call("quantize", model, "-o", made[0], "--samples", data, *keep)
    assert alone.read_bytes() == made[2].read_bytes()


def test_histograms_survive_when_writing_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The long part is over then; the ranges can be computed from what was saved."""
    from quantcal.onnx import quantizer

    def no_room(*_args: object, **_options: object) -> None:
        raise qc.CalibrationError("No space left on the disk.")

    model, data = save_model(tmp_path), save_samples(tmp_path)
    made, stats = tmp_path / "m.onnx", tmp_path / "s.qcal"
    monkeypatch.setattr(quantizer, "write_prepared", no_room)
    asked = ["quantize", model, "-o", made, "--samples", data, "--save-stats", stats]
    assert "No space left" in call(*asked).error_text()
    assert len(qc.load(stats)) == 3
    assert not made.exists()


def test_mistakes_are_told_before_any_sample_runs(tmp_path: Path) -> None:
    """The data do not exist; only a mistake that is seen first is reported."""
    model = save_model(tmp_path)
    made = tmp_path / "m.onnx"
    start = ["quantize", model, "--samples", "/nonexistent", "-o", made]
    assert '"mean"' in call(*start, "-s", "mean").error_text()
    rule = ["-s", "mse", "-s", "r2=kl"]
    assert '"r2" was never observed' in call(*start, *rule).error_text()
    assert (
        str(tmp_path / "no")
        in call(*start, "--save-stats", tmp_path / "no/s").error_text()
    )
    assert str(tmp_path) in call(*start, "--save-table", tmp_path).error_text()
    assert "is the model itself" in call(*start, "--save-table", model).error_text()
    twice = call(*start, "--save-table", tmp_path / "x", "--save-stats", tmp_path / "x")
    assert twice.code == 2
    assert "written twice" in " ".join(twice.err.replace("│", " ").split())


def test_a_failure_leaves_the_old_output_and_the_model_alone(tmp_path: Path) -> None:
    model, data = save_model(tmp_path), save_samples(tmp_path, bad=math.nan)
    before = model.read_bytes()
    made = tmp_path / "made.onnx"
    made.write_bytes(b"old")
    strict = ["--on-nonfinite", "raise"]
    message = call(
        "quantize", model, "-o", made, "--samples", data, *strict
    ).error_text()
    assert "sample 1" in message
    assert (made.read_bytes(), model.read_bytes()) == (b"old", before)
    done = call("quantize", model, "-o", made, "--samples", data)
    assert done.code == 0
    assert done.err.startswith("warning: ")
    assert "NaN or infinite" in done.err
    assert model.read_bytes() == before


def test_a_model_with_nothing_to_quantize_is_an_error_that_says_why(
    tmp_path: Path,
) -> None:
    node = helper.make_node("Relu", ["x"], ["y"])
    x, y = models.value("x", [1, 3, "h", "w"]), models.value("y", [1, 3, "h", "w"])
    relu = models.build([node], [x], [y], {})
    model, data = save_model(tmp_path, relu), save_samples(tmp_path)
    made = tmp_path / "made.onnx"
    message = call("quantize", model, "-o", made, "--samples", data).error_text()
    assert "it has no Conv/MatMul/Gemm node" in message
    assert not made.exists()


def test_a_terminal_shows_a_bar_and_then_the_summary(tmp_path: Path) -> None:
    pytest.importorskip("pty", reason="there are no such terminals on Windows")
    model, data = save_model(tmp_path), save_samples(tmp_path)
    made = tmp_path / "m.onnx"
    lines = run_in_terminal(80, "quantize", model, "-o", made, "--samples", data)
    shown = "\n".join(lines)
    assert "Observing" in shown
    assert "3/3" in shown
    assert shown.index("Observing") < shown.index("tensors observed")
