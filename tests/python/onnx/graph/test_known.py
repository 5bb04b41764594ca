"""Models written from existing histograms and tables, without samples."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper

import onnx_models as models
import quantcal as qc
from cli_runs import Done, call, save_model, save_samples

SAMPLES = {
    "residual": [{"x": models.random(1, 4, 9, w, seed=w)} for w in (8, 12, 20)],
    "conv": [{"x": models.random(1, 3, 9, w, seed=w)} for w in (8, 12)],
    "joined": [{"x": models.random(9, 16, seed=n)} for n in range(3)],
    "if": [{"x": models.random(4, 6, seed=n), "c": np.array(True)} for n in range(3)],
}


def joined() -> onnx.ModelProto:
    """Two MatMul, a Concat of their outputs, and a third MatMul: one range for all."""
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["a"], "first"),
        helper.make_node("MatMul", ["x", "v"], ["b"], "second"),
        helper.make_node("Concat", ["a", "b"], ["c"], "join", axis=0),
        helper.make_node("MatMul", ["c", "w"], ["y"], "third"),
    ]
    data = {"w": models.random(16, 16), "v": 3 * models.random(16, 16, seed=5)}
    x, y = models.value("x", ["n", 16]), models.value("y", ["m", 16])
    return models.build(nodes, [x], [y], data)


def network(name: str) -> onnx.ModelProto:
    made = {"conv": models.conv_net, "joined": joined, "if": models.if_net}
    return made.get(name, models.residual)()


@pytest.mark.parametrize("name", SAMPLES)
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"activation_type": "int8", "strategy": "minmax"},
        {"cpu": "no-vnni", "strategy": "kl"},
        {"target": "tensorrt"},
    ],
    ids=["default", "symmetric", "overflowing", "tensorrt"],
)
def test_histograms_give_the_bytes_of_a_direct_run(
    name: str, options: dict[str, Any], tmp_path: Path
) -> None:
    """Histograms of needed tensors, of all tensors, merged ones, and ones from a file."""
    model, samples = network(name), SAMPLES[name]
    options = {"strategy": "mse", **options}
    direct, again = tmp_path / "direct.onnx", tmp_path / "again.onnx"
    wanted = qc.onnx.quantize(model, direct, samples, progress=False, **options)
    seeing = {k: v for k, v in options.items() if k in ("activation_type", "target")}
    needed = qc.onnx.observe(model, samples, **seeing)
    needed.save(tmp_path / "stats.qcal")
    for known in (
        needed,
        qc.onnx.observe(model, samples, tensors="all"),
        sum(qc.onnx.observe(model, [sample], **seeing) for sample in samples),
        qc.load(tmp_path / "stats.qcal"),
    ):
        before = known.to_bytes()
        found = qc.onnx.quantize(model, again, calibrator=known, **options)
        assert again.read_bytes() == direct.read_bytes()
        assert (found.table, found.config) == (wanted.table, wanted.config)
        assert found.left_in_float == wanted.left_in_float
        assert found.samples == 0
        assert known.to_bytes() == before


@pytest.mark.parametrize("name", SAMPLES)
def test_a_table_gives_the_bytes_of_its_run(name: str, tmp_path: Path) -> None:
    """Formats that differ between tensors come from the table."""
    model = network(name)
    direct, again = tmp_path / "direct.onnx", tmp_path / "again.onnx"
    first = {"residual": "conv0", "conv": "Conv_0", "if": "a_matmul"}.get(name, "first")
    options: dict[str, Any] = {"reduce_range": True, "placement": "stock"}
    formats = {"x": "int8", f"node:{first}": "uint16"}
    if name == "if":
        del formats["x"]
    result = qc.onnx.quantize(
        model,
        direct,
        SAMPLES[name],
        activation_formats=formats,
        strategy="mse",  # "auto" may also correct biases, which no table holds
        progress=False,
        **options,
    )
    assert len({params.format for params in result.table.values()}) > 1 or name == "if"
    result.table.save(tmp_path / "table.json")
    table = qc.CalibrationTable.load(tmp_path / "table.json")
    written = qc.onnx.write(model, again, table, **options)
    assert again.read_bytes() == direct.read_bytes()
    assert written.left_in_float == result.left_in_float


def test_tensors_without_a_match_are_named(tmp_path: Path) -> None:
    model, output = models.residual(), tmp_path / "q.onnx"
    known = qc.onnx.observe(model, SAMPLES["residual"])
    other = qc.onnx.observe(network("conv"), SAMPLES["conv"])
    lacking = qc.onnx.observe(model, SAMPLES["residual"], tensors=["x", "r", "c"])
    with pytest.raises(
        qc.CalibrationError,
        match=r"histogram for 1 of the 4 tensors .* need: s\. Known",
    ):
        qc.onnx.quantize(model, output, calibrator=lacking)
    with pytest.raises(qc.CalibrationError, match=r"3 of the 4 .* need: r, s, c\."):
        qc.onnx.quantize(model, output, calibrator=other)
    for nothing in (None, qc.Calibrator()):
        with pytest.raises(qc.CalibrationError, match="no samples and no histograms"):
            qc.onnx.quantize(model, output, calibrator=nothing)
    by_channel = qc.Calibrator()
    for name in known:
        by_channel.observe(name, models.random(4, 9), axis=0)
    with pytest.raises(qc.CalibrationError, match="'x' is by channel"):
        qc.onnx.quantize(model, output, calibrator=by_channel, reduce_range=False)
    with pytest.raises(qc.CalibrationError, match='"q" was never observed'):
        qc.onnx.quantize(
            model, output, calibrator=known, strategy={"q": "kl", "*": "mse"}
        )
    assert not output.exists()


def quantize(model: Path, output: Path, *arguments: object) -> Done:
    return call("quantize", model, "-o", output, *arguments)


def test_the_command_writes_the_same_model_from_saved_files(
    tmp_path: Path,
) -> None:
    model, data = save_model(tmp_path), save_samples(tmp_path)
    direct, stats, table = (tmp_path / f for f in ("d.onnx", "s.qcal", "t.json"))
    options = ["-s", "percentile_99.9", "--cpu", "no-vnni"]
    keep = ["--save-stats", stats, "--save-table", table]
    run = quantize(model, direct, "--samples", data, *options, *keep)
    again, third = tmp_path / "again.onnx", tmp_path / "third.onnx"
    message = quantize(model, again, "--from", stats, *options)
    assert message.code == 0
    assert message.err.startswith("warning: the CPU has no VNNI")
    assert message.err.count("warning") == 1
    assert again.read_bytes() == direct.read_bytes()
    config = tmp_path / "d.quantcal.toml"
    assert (tmp_path / "again.quantcal.toml").read_bytes() == config.read_bytes()
    assert message.facts["histograms"] == str(stats)
    assert "samples" not in message.facts
    message = quantize(model, third, "--from", table, "--config", config)
    assert third.read_bytes() == direct.read_bytes()
    assert message.facts["ranges"] == str(table)
    for fact in ("quantized", "left in float", "Q / DQ nodes"):
        assert message.facts[fact] == run.facts[fact]


def test_the_command_refuses_options_without_effect_and_wrong_files(
    tmp_path: Path,
) -> None:
    model, data = save_model(tmp_path), save_samples(tmp_path)
    output, stats, table = (tmp_path / f for f in ("q.onnx", "s.qcal", "t.json"))
    call("observe", model, "-o", stats, "--samples", data)
    call("compute", stats, "-o", table, "--activation-type", "uint8")
    for arguments, words in (
        (["--from", stats, "--samples", data], "not both"),
        ([], "--from FILE"),
        (["--from", stats, "--mantissa-bits", 5], "made earlier"),
        (["--from", stats, "--save-stats", tmp_path / "x"], "made earlier"),
        (["--from", table, "-s", "kl"], "has its ranges"),
        (["--from", table, "--activation-type", "int8"], "has its ranges"),
        (["--from", table, "--reduce-range", "nodes"], "does not say"),
    ):
        done = quantize(model, output, *arguments)
        assert done.code == 2
        assert words in " ".join(done.err.replace("│", " ").split())
    lost = tmp_path / "no.qcal"
    assert str(lost) in quantize(model, output, "--from", lost).error_text()
    assert str(model) in quantize(model, output, "--from", model).error_text()
    assert "--from" in quantize(model, output, "--samples", stats).error_text()
    assert "is an input" in quantize(model, stats, "--from", stats).error_text()
    other = tmp_path / "other.onnx"
    onnx.save(models.residual(), other)
    for source in (stats, table):
        assert (
            "need: r, s, c." in quantize(other, output, "--from", source).error_text()
        )
    assert not output.exists()
