"""The README's steps, one command after another, without a word on formats."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest

import onnx_models as models
import quantcal as qc
from cli_runs import call, save_model, save_samples, save_stats
from paths import ROOT

ACTIVATIONS = {
    "onnxruntime": [],
    "int8": ["--activation-type", "int8"],
    "uint16": ["--activation-type", "uint16"],
    "float8": ["--activation-type", "float8_e4m3fn"],
    "by tensor": ["--activation-type", "r1=uint16", "--activation-type", "uint8"],
    "by node": ["--activation-type", "node:Conv_2=int8"],
}
TENSORRT = ["--target", "tensorrt"]


@pytest.mark.parametrize(
    ("observing", "target"),
    [(given, []) for given in ACTIVATIONS.values()]
    + [(TENSORRT, TENSORRT), ([*TENSORRT, *ACTIVATIONS["float8"]], TENSORRT)],
    ids=[*ACTIVATIONS, "tensorrt", "tensorrt float8"],
)
def test_observe_compute_quantize_is_quantize(
    observing: list[str], target: list[str], tmp_path: Path
) -> None:
    model, data = save_model(tmp_path), save_samples(tmp_path)
    stats, table = tmp_path / "m.qcal", tmp_path / "t.json"
    # Histograms alone take "mse" where samples could choose.
    run = ["-s", "mse", "-o", tmp_path / "run.onnx", *observing]
    for command in (
        ("observe", model, "-o", stats, "--samples", data, *observing),
        ("compute", stats, "-o", table),
        ("quantize", model, "--from", table, "-o", tmp_path / "table.onnx", *target),
        ("quantize", model, "--from", stats, "-o", tmp_path / "stats.onnx", *target),
        ("quantize", model, "--samples", data, *run),
        ("compare", stats, "-s", "mse", "-s", "kl"),
    ):
        done = call(*command)
        assert (done.code, done.err) == (0, ""), command
    done = call("stability", stats, _copy(stats))
    assert (done.code, done.err) == (0, "")
    made = (tmp_path / "run.onnx").read_bytes()
    assert (tmp_path / "stats.onnx").read_bytes() == made
    # 7-bit weights are chosen by histograms, which a table does not have.
    ranges = [
        _activation_scales(tmp_path / name) for name in ("run.onnx", "table.onnx")
    ]
    assert ranges[0] == ranges[1]


def _copy(stats: Path) -> Path:
    copied = stats.with_name("other.qcal")
    copied.write_bytes(stats.read_bytes())
    return copied


def _activation_scales(path: Path) -> dict[str, bytes]:
    graph = onnx.load(path).graph
    made = {tensor.name: tensor for tensor in graph.initializer}
    return {
        node.input[0]: made[node.input[1]].raw_data
        for node in graph.node
        if node.op_type == "QuantizeLinear"
    }


def test_a_calibrated_model_of_the_steps_computes_what_the_float_model_does(
    tmp_path: Path,
) -> None:
    model, data = save_model(tmp_path), save_samples(tmp_path)
    stats, table, made = (tmp_path / name for name in ("m.qcal", "t.json", "q.onnx"))
    assert call("observe", model, "-o", stats, "--samples", data).code == 0
    assert call("compute", stats, "-o", table).code == 0
    assert call("quantize", model, "--from", table, "-o", made).code == 0
    feed = {"x": models.random(1, 3, 9, 8, seed=0)}
    want, got = (
        ort.InferenceSession(path, providers=["CPUExecutionProvider"]).run(None, feed)[
            0
        ]
        for path in (model, made)
    )
    noise = np.mean((want - got) ** 2) / np.mean(want**2)
    assert noise < 1e-2  # 20 dB: 8-bit weights and activations through two layers


def test_compute_says_the_formats_it_chose(tmp_path: Path) -> None:
    model, data = save_model(tmp_path), save_samples(tmp_path)
    stats, table = tmp_path / "m.qcal", tmp_path / "t.json"
    given = ACTIVATIONS["by tensor"]
    assert call("observe", model, "-o", stats, "--samples", data, *given).code == 0
    done = call("compute", stats, "-o", table)
    assert done.facts["format"] == "uint16 (affine), uint8 (affine)"
    done = call("compare", stats, "-s", "mse")
    assert done.facts["format"] == "uint16 (affine) and uint8 (affine)"
    done = call("compute", stats, "-o", table, "--activation-type", "int8")
    assert done.facts["format"] == "int8 (symmetric)"


def test_quantizing_from_another_targets_files_says_which_option_to_give(
    tmp_path: Path,
) -> None:
    model, data = save_model(tmp_path), save_samples(tmp_path)
    stats, table, out = tmp_path / "m.qcal", tmp_path / "t.json", tmp_path / "q.onnx"
    assert call("observe", model, "-o", stats, "--samples", data, *TENSORRT).code == 0
    assert call("compute", stats, "-o", table).code == 0
    for source in (stats, table):
        message = call("quantize", model, "--from", source, "-o", out).error_text()
        assert "--target tensorrt" in message
    assert call("observe", model, "-o", stats, "--samples", data).code == 0
    assert call("compute", stats, "-o", table, "--activation-type", "int8").code == 0
    message = call("quantize", model, "--from", table, "-o", out).error_text()
    assert "quantcal compute --activation-type uint8" in message
    message = call("quantize", model, "--from", table, "-o", out, *TENSORRT)
    assert message.code == 0  # symmetric ranges of all that TensorRT rounds
    assert call("compute", stats, "-o", table).code == 0
    message = call(
        "quantize", model, "--from", table, "-o", out, *TENSORRT
    ).error_text()
    assert "quantcal compute --activation-type int8" in message


def test_histograms_of_two_formats_ask_for_one(tmp_path: Path) -> None:
    model, data = save_model(tmp_path), save_samples(tmp_path)
    one, other, both = (tmp_path / f"{name}.qcal" for name in ("one", "other", "both"))
    assert call("observe", model, "-o", one, "--samples", data).code == 0
    given = ["--activation-type", "int8"]
    assert call("observe", model, "-o", other, "--samples", data, *given).code == 0
    merged = call("merge", one, other, "-o", both)
    assert merged.code == 0
    assert "3 tensors were observed for several formats" in merged.err
    assert "; observed for int8, uint8; " in call("inspect", both).out
    assert "; observed for uint8; " in call("inspect", one).out
    table = tmp_path / "t.json"
    message = call("compute", both, "-o", table).error_text()
    assert "was observed for int8 and for uint8" in message
    assert "--activation-type" in message
    assert not table.exists()
    assert call("compute", both, "-o", table, "--activation-type", "uint8").code == 0


def test_what_stability_cannot_tell_is_said_in_one_line(tmp_path: Path) -> None:
    stats = save_stats(tmp_path)
    done = call("stability", stats, _copy(stats))
    assert done.code == 0
    assert done.err.startswith("warning: 2 tensors have no finite value")
    assert done.err.count("\n") == 1


def test_the_tolerance_of_stability_is_in_its_json(tmp_path: Path) -> None:
    stats = []
    for number, end in enumerate((1, 1.05)):
        cal = qc.Calibrator()
        cal.observe("x", np.float32([-end, end]))
        stats.append(tmp_path / f"{number}.qcal")
        cal.save(stats[-1])
    for tolerance, beyond in ((0.01, ["x"]), (0.5, [])):
        done = call("stability", *stats, "--tolerance", tolerance, "--json")
        content = json.loads(done.out)
        assert (content["tolerance"], content["beyond"]) == (tolerance, beyond)


def test_exports_of_int8_files_warn_of_ranges_for_other_codes(tmp_path: Path) -> None:
    model, data = save_model(tmp_path), save_samples(tmp_path)
    stats, table, out = tmp_path / "m.qcal", tmp_path / "t.json", tmp_path / "c.cache"
    assert call("observe", model, "-o", stats, "--samples", data).code == 0
    for given, message in (
        ([], "3 ranges were not chosen for symmetric int8"),
        (
            ["--activation-type", "int8"],
            "",
        ),
    ):
        assert call("compute", stats, "-o", table, *given).code == 0
        done = call("export", table, "--to", "tensorrt", "-o", out)
        assert done.code == 0
        assert message in done.err
        assert bool(message) == bool(done.err)
    assert call("compute", stats, "-o", table).code == 0
    assert call("export", table, "--to", "csv", "-o", tmp_path / "r.csv").err == ""


def test_first_examples_do_not_lead_into_kl() -> None:
    """Divergence is the worst choice on the demo's model; least squares is the default."""
    for command in ("", "compute", "quantize", "compare", "stability", "export"):
        shown = call(*filter(None, [command, "--help"])).out
        examples = re.findall(r"^.*\$ quantcal .*$", shown, re.MULTILINE)
        assert examples, command
        for line in examples:
            assert not re.search(r"(-s|--strategy) kl\b", line), line
    readme = (ROOT / "README.md").read_text("utf-8")
    blocks = "".join(re.findall(r"```\w*[^\n]*\n(.*?)```", readme, re.DOTALL))
    assert '"kl", format' not in blocks
    assert not re.search(r"(-s|--strategy) kl\b", blocks)


def test_the_default_strategy_of_the_steps_is_least_squares(tmp_path: Path) -> None:
    stats, table = save_stats(tmp_path), tmp_path / "t.json"
    assert call("compute", stats, "-o", table).code == 0
    loaded = qc.CalibrationTable.load(table)
    assert {p.strategy for p in loaded.values()} == {"mse"}
