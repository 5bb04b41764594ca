"""The configuration file of a run: its options apply, and it repeats the run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import onnx_models as models
import quantcal as qc
from cli_runs import call, save_model, save_samples
from quantcal.onnx._options.config import KEYS

EVERYTHING = """\
target = "onnxruntime"
activation_type = "uint8"
weight_type = "int8"
weight_strategy = "mse"
block_size = 0
per_channel = false
reduce_range = ["Conv_2"]
placement = "stock"
cpu = "no-vnni"
op_types = ["Conv"]
include = ["Conv_*"]
exclude = []
corrections = ["bias"]
mantissa_bits = 6
on_nonfinite = "raise"

[activation_formats]
x = "int8"

[weight_formats]
"node:Conv_0" = "uint8"

[[rules]]
pattern = "node:Conv_2"
strategy = "kl"
num_bins = 1024

[[rules]]
pattern = "*"
strategy = "minmax"
"""


def feeds() -> list[dict[str, Any]]:
    return [{"x": models.random(1, 3, 9, w, seed=w)} for w in (8, 12)]


def run(folder: Path, name: str, **options: Any) -> Any:
    path = folder / f"{name}.onnx"
    return qc.onnx.quantize(models.conv_net(), path, feeds(), progress=False, **options)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"target": "tensorrt", "strategy": "percentile_99.9"},
        {"activation_type": "none", "weight_type": "int4", "block_size": 16},
        {"reduce_range": "nodes", "cpu": "no-vnni"},
        {"strategy": {"node:Conv_2": qc.KL(1024), "*": "mse"}, "mantissa_bits": 5},
        {"activation_formats": {"re:^x$": "int8"}, "weight_formats": {'["w]2': "int4"}},
    ],
    ids=["defaults", "tensorrt", "weights", "nodes", "rules", "formats"],
)
def test_the_same_file_and_data_give_the_same_bytes(
    tmp_path: Path, options: dict[str, Any]
) -> None:
    first = run(tmp_path, "first", **options)
    saved = tmp_path / "run.toml"
    saved.write_text(first.config, "utf-8")
    again = run(tmp_path, "again", **qc.onnx.read_config(saved))
    assert first.output.read_bytes() == again.output.read_bytes()
    assert first.table == again.table


def test_a_file_can_hold_every_option(tmp_path: Path) -> None:
    path = tmp_path / "all.toml"
    path.write_text(EVERYTHING, "utf-8")
    chosen = qc.onnx.read_config(path)
    assert set(KEYS) - {"rules"} == set(chosen)
    result = run(tmp_path, "q", **chosen)
    found = {name: (p.format, p.strategy) for name, p in result.table.items()}
    kl = str(qc.KL(1024))
    assert found == {"x": ("int8", "minmax"), "r1": ("uint8", kl), "y": ("uint8", kl)}
    assert result.weight_formats == {"uint8": 1, "int7": 1}
    # Reading and writing it gives the same text.
    saved = tmp_path / "run.toml"
    saved.write_text(result.config, "utf-8")
    written = qc.onnx.read_config(saved)
    assert written == chosen


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            'wieght_type = "int8"',
            'key "wieght_type" is not known. Near names: weight_type',
        ),
        ("[format]\nx = 1", 'key "format" is not known. Near names: '),
        ("weight_type = 8", "weight_type must be text, not 8"),
        ("per_channel = 1", "per_channel must be true or false, not 1"),
        ("block_size = true", "block_size must be a whole number"),
        ('op_types = "Conv"', "op_types must be a list of text"),
        ("[weight_formats]\nx = 8", "weight_formats must be a table of text"),
        ('strategy = "mse"\n[[rules]]\npattern = "*"\nstrategy = "kl"', "Give one"),
        ('[[rules]]\npattern = "*"\nstrategy = "kll"', '"kll" is not known'),
        ("weight_type = ", "is not valid TOML"),
    ],
)
def test_mistakes_in_a_file_are_reported(
    tmp_path: Path, text: str, message: str
) -> None:
    path = tmp_path / "bad.toml"
    path.write_text(text, "utf-8")
    with pytest.raises(qc.CalibrationError) as caught:
        qc.onnx.read_config(path)
    assert message in str(caught.value)
    assert str(path) in str(caught.value)


def test_a_custom_strategy_cannot_be_written_to_a_file(tmp_path: Path) -> None:
    class Own:
        def range(self, histogram: qc.Histogram, _format: Any) -> tuple[float, float]:
            return histogram.min or 0, histogram.max or 0

    assert run(tmp_path, "q", strategy=Own()).config is None


def test_the_command_writes_the_file_beside_its_output_and_repeats_the_run(
    tmp_path: Path,
) -> None:
    model, data = save_model(tmp_path), save_samples(tmp_path)
    first, again = tmp_path / "m.int8.onnx", tmp_path / "again.onnx"
    start = ["quantize", model, "--samples", data]
    rules = ["-s", "minmax", "-s", "node:Conv_2=kl", "--activation-type", "x=int8"]
    done = call(*start, "-o", first, *rules, "--weight-type", "node:Conv_0=uint8")
    assert done.code == 0
    config = tmp_path / "m.int8.quantcal.toml"
    assert str(config) in done.facts["also written"]
    repeated = call(*start, "-o", again, "--config", config, "--no-save-config")
    assert (repeated.code, repeated.err) == (0, "")
    assert again.read_bytes() == first.read_bytes()
    assert not (tmp_path / "again.quantcal.toml").exists()
    # Options of the command line replace those of the file, with their rules.
    call(
        *start,
        "-o",
        again,
        "--config",
        config,
        "-s",
        "mse",
        "--activation-type",
        "uint8",
    )
    expected = tmp_path / "expected.onnx"
    qc.onnx.quantize(
        model,
        expected,
        data,
        strategy="mse",
        weight_formats={"node:Conv_0": "uint8"},
        progress=False,
    )
    assert again.read_bytes() == expected.read_bytes()


def test_wrong_rules_on_the_command_line_are_reported(tmp_path: Path) -> None:
    model = save_model(tmp_path)
    start = ["quantize", model, "-o", tmp_path / "m.onnx"]
    for given, message in (
        (
            ["--activation-type", "int8", "--activation-type", "uint8"],
            "There are 2 plain formats (int8, uint8)",
        ),
        (["--weight-type", "=int8"], "not of the form PATTERN=FORMAT"),
        (
            ["--weight-type", "a=int8", "--weight-type", "a=int4"],
            "two rules for the pattern",
        ),
        ([], "Give the calibration samples, or --activation-type none"),
    ):
        done = call(*start, *given)
        assert done.code == 2
        assert message in " ".join(done.err.replace("│", " ").split())


def test_weights_alone_need_no_samples(tmp_path: Path) -> None:
    made = tmp_path / "m.onnx"
    model = save_model(tmp_path)
    done = call("quantize", model, "-o", made, "--activation-type", "none")
    assert done.code == 0
    assert done.facts["quantized"] == "2 Conv"
    feed = feeds()[0]
    (want,) = models.session(models.conv_net()).run(None, feed)
    (got,) = models.session(onnx.load(made)).run(None, feed)
    assert models.signal_to_noise(want, got) > 30
    assert np.isfinite(got).all()
