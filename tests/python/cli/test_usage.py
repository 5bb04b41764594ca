"""Options without effect are refused, and wrong usage says what would work."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import onnx_models as models
import quantcal as qc
from checkpoint_runs import failing
from cli_runs import call, run, save_model, save_samples, unboxed
from quantcal.onnx._options.names import near

OF_SAMPLES = [
    ["--observer", "outputs"],
    ["--max-memory", "5"],
    ["--check-stability"],
    ["--no-check-stability"],
    ["--mantissa-bits", "5"],
    ["--on-nonfinite", "raise"],
]


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    """Return a model, its samples, histograms and table."""
    model, data = save_model(tmp_path), save_samples(tmp_path)
    found = {"model": model, "samples": data}
    found |= {"stats": tmp_path / "s.qcal", "table": tmp_path / "t.json"}
    calibrator = qc.onnx.observe(model, data)
    calibrator.save(found["stats"])
    calibrator.compute("mse").save(found["table"])
    return found


@pytest.mark.parametrize("source", ["stats", "table"])
@pytest.mark.parametrize("flags", OF_SAMPLES, ids=" ".join)
def test_flags_of_samples_are_refused_beside_histograms_and_tables(
    source: str, flags: list[str], files: dict[str, Path], tmp_path: Path
) -> None:
    made = tmp_path / "q.onnx"
    start = ["quantize", files["model"], "-o", made, "--from", files[source]]
    done = call(*start, *flags)
    assert done.code == 2
    assert "made earlier. Leave it out." in unboxed(done.err)
    assert f"'{flags[0].replace('--no-', '--')}" in unboxed(done.err)
    assert not made.exists()


@pytest.mark.parametrize(
    "flags",
    [
        ["--samples", "samples"],
        ["--from", "stats"],
        ["--from", "table"],
        ["--resume", "stats"],
        ["--save-stats", "new"],
        ["--save-table", "new"],
        ["-s", "kl"],
        *OF_SAMPLES,
    ],
    ids=" ".join,
)
@pytest.mark.parametrize("filed", [False, True])
def test_flags_of_activations_are_refused_where_these_stay_in_float(
    filed: bool, flags: list[str], files: dict[str, Path], tmp_path: Path
) -> None:
    config, made = tmp_path / "c.toml", tmp_path / "q.onnx"
    config.write_text('activation_type = "none"')
    how = ["--config", config] if filed else ["--activation-type", "none"]
    given = [files.get(text, text) for text in flags]
    done = call("quantize", files["model"], "-o", made, *how, *given)
    assert done.code == 2
    assert "activations stay in float, so that no sample runs" in unboxed(done.err)
    assert not made.exists()
    assert call("quantize", files["model"], "-o", made, *how).code == 0


def test_a_table_gives_a_configuration_that_repeats_the_run(
    files: dict[str, Path], tmp_path: Path
) -> None:
    first, again = tmp_path / "q.onnx", tmp_path / "again.onnx"
    start = ["quantize", files["model"], "--from", files["table"]]
    chosen = ["--weight-type", "node:Conv_0=uint8", "--cpu", "no-vnni"]
    done = call(*start, "-o", first, *chosen)
    config = tmp_path / "q.quantcal.toml"
    assert done.facts["also written"] == str(config)
    text = config.read_text()
    assert "-o OUT --from TABLE --config THIS" in text
    assert "strategy = " not in text.replace("weight_strategy = ", "")
    assert 'reduce_range = true  # asked for: "auto"; chosen: ' in text
    call(*start, "-o", again, "--config", config)
    assert again.read_bytes() == first.read_bytes()
    written = qc.onnx.read_config(config)
    assert written["cpu"] == "no-vnni"
    assert written["weight_formats"] == {"node:Conv_0": "uint8"}
    call(*start, "-o", tmp_path / "none.onnx", "--no-save-config")
    assert not (tmp_path / "none.quantcal.toml").exists()


def test_observing_nothing_is_refused_before_a_sample_runs(tmp_path: Path) -> None:
    def never() -> Any:
        pytest.fail("a sample was read")
        yield

    gather = [onnx.helper.make_node("Gather", ["w", "x"], ["y"], "g")]
    x = models.value("x", ["n"], onnx.TensorProto.INT64)
    table = models.build(
        gather, [x], [models.value("y", ["n", 4])], {"w": models.random(8, 4)}
    )
    for model, options, message in (
        (models.conv_net(), {"activation_type": "none"}, "leaves them in float"),
        (models.conv_net(), {"tensors": []}, "tensors is empty"),
        (models.conv_net(), {"tensors": iter(())}, "tensors is empty"),
        (models.conv_net(), {"tensors": 3}, "tensors is 3. Give a list of names"),
        (table, {"op_types": ["Gather"]}, "only have their weights quantized"),
    ):
        with pytest.raises(qc.CalibrationError, match=message):
            qc.onnx.observe(model, never(), **options)  # type: ignore[arg-type]
    model, made = save_model(tmp_path), tmp_path / "s.qcal"
    start = ["observe", model, "-o", made, "--samples", save_samples(tmp_path)]
    none = ["--activation-type", "none"]
    assert "--activation-type none" in call(*start, *none).error_text()
    assert not made.exists()
    assert call(*start, *none, "--tensor", "x").code == 0  # that one is named


@pytest.mark.parametrize("command", ["compute", "stability"])
def test_rules_for_nodes_are_explained_where_there_is_a_model(
    command: str, files: dict[str, Path], tmp_path: Path
) -> None:
    assert "node:" not in run(command, "--help", COLUMNS="200").out
    assert "node:" in run("quantize", "--help", COLUMNS="200").out
    other = tmp_path / "other.qcal"
    qc.load(files["stats"]).save(other)
    how = {"compute": ["--json"], "stability": [other]}[command]
    for rules in (["-s", "node:Conv*=kl"], ["-s", "node:Conv*=kl", "-s", "mse"]):
        message = call(command, files["stats"], *how, *rules).error_text()
        assert message.startswith('The rule "node:Conv*" is for nodes')
        assert "quantcal quantize" in message
    odd = qc.Calibrator()
    odd.observe("node:a", np.ones(9, np.float32))  # a name may begin so
    assert odd.compute({"node:*": "minmax"})["node:a"].strategy == "minmax"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (
            ["compute", "s", "--format", "int8"],
            "No such option: --format. It is --activation-type here.",
        ),
        (
            ["compare", "s", "--format", "int8"],
            "It is --activation-type here.",
        ),
        (["stability", "a", "b", "--format", "u"], "It is --activation-type here."),
        (
            ["quantize", "m", "--format", "int8"],
            "It is --activation-type here.",
        ),
        (
            ["observe", "m", "--format", "int8"],
            "It is --activation-type here.",
        ),
        (
            ["inspect", "s", "--activation-type", "u"],
            "No such option: --activation-type",
        ),
        (
            ["quantize", "m", "--target", "zz"],
            "'zz' is not one of 'onnxruntime', 'tensorrt'",
        ),
        (["inspect", "s", "--sort", "zz"], "'zz' is not one of 'name', 'max'"),
        (["export", "t", "--to", "zz"], "'zz' is not one of 'onnxruntime'"),
        (["observe", "m", "--observer", "z"], "'z' is not one of 'auto'"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_wrong_usage_says_what_would_work(arguments: list[str], words: str) -> None:
    done = call(*arguments)
    assert done.code == 2
    assert words in unboxed(done.err)
    assert "Value error" not in done.err


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('activation_type = "int9"', "activation_type='int9' is not known"),
        ('weight_strategy = "zz"', "weight_strategy='zz' is not known"),
        ("mantissa_bits = 99", "mantissa_bits is 99"),
        ("block_size = 3", "block_size is 3"),
        ('strategy = "kll"', '"kll" is not known'),
        ('reduce_range = "maybe"', "reduce_range is 'maybe'"),
        ("op_types = []", "op_types is empty"),
        ('[weight_formats]\nw = "int9"', "weight_formats['w']='int9' is not known"),
        ('observer = "outputs"', '"observer" is an option of a call'),
        ("max_memory = 5", "by max_memory= of the call (--max-memory)"),
        ("check_stability = true", '"check_stability" is an option of a call'),
        ('providers = ["x"]', "by providers= of the call."),
        # Only with the model.
        ('include = ["zz"]', "include='zz' matches no node"),
        ('exclude = ["zz"]', "exclude='zz' matches no node"),
        ('[weight_formats]\nzz = "int8"', "weight_formats: 'zz' matches no"),
        ('[activation_formats]\nzz = "int8"', "activation_formats: 'zz' matches no"),
        (
            '[[rules]]\npattern = "node:z"\nstrategy = "kl"',
            "strategy: 'node:z' matches",
        ),
    ],
)
def test_a_wrong_value_in_a_file_names_the_file(
    text: str, message: str, tmp_path: Path
) -> None:
    model, data = save_model(tmp_path), save_samples(tmp_path)
    config = tmp_path / "c.toml"
    config.write_text(text)
    start = ["quantize", model, "-o", tmp_path / "q.onnx", "--samples", data]
    found = call(*start, "--config", config).error_text()
    assert found.startswith(f"{config}: ")
    assert message in found


def test_a_flag_is_not_blamed_on_the_file(tmp_path: Path) -> None:
    model, config = save_model(tmp_path), tmp_path / "c.toml"
    config.write_text('include = ["Conv_0"]')
    start = ["quantize", model, "-o", tmp_path / "q.onnx", "--config", config]
    done = call(*start, "--samples", save_samples(tmp_path), "--include", "zz")
    assert done.error_text().startswith("include='zz' matches no node")


def test_a_flag_of_formats_replaces_the_rules_of_the_file(
    files: dict[str, Path], tmp_path: Path
) -> None:
    config = tmp_path / "c.toml"
    config.write_text('weight_type = "uint8"\n[weight_formats]\nw0 = "int7"\n')
    start = ["quantize", files["model"], "--from", files["stats"], "--config", config]
    for flags, wanted in (
        (["--weight-type", "int8"], {"weight_type": "int8"}),
        (
            ["--weight-type", "node:Conv_0=int7"],
            {"weight_formats": {"node:Conv_0": "int7"}},
        ),
    ):
        made, expected = tmp_path / "q.onnx", tmp_path / "expected.onnx"
        assert call(*start, "-o", made, *flags).code == 0
        options: dict[str, Any] = {"calibrator": qc.load(files["stats"]), **wanted}
        qc.onnx.quantize(files["model"], expected, **options)
        assert made.read_bytes() == expected.read_bytes()


def test_python_names_no_flag_and_the_command_does(tmp_path: Path) -> None:
    model, output = save_model(tmp_path), tmp_path / "out.qcal"
    keep = qc.onnx.Checkpoint(output)
    with pytest.raises(qc.CalibrationError) as caught:
        qc.onnx.observe(model, failing(2, qc.CalibrationError("no")), checkpoint=keep)
    kept = keep.path(2)
    assert "--" not in str(caught.value)
    call_of_python = f"Checkpoint.resume({str(kept)!r}, {str(output)!r})"
    assert call_of_python in str(caught.value)
    found, again = eval(f"qc.onnx.{call_of_python}", {"qc": qc})  # it can be copied
    assert (len(found), again.samples) == (3, 2)
    kept.unlink()
    data = save_samples(tmp_path)
    (data / "3.npz").write_bytes(b"nonsense")
    message = call("observe", model, "-o", output, "--samples", data).error_text()
    assert f"--resume {output}.first-3.qcal continues after them" in message
    assert "Checkpoint" not in message


def test_the_help_explains_each_choice_of_reduced_weights_and_the_memory() -> None:
    shown = unboxed(run("quantize", "--help", COLUMNS="200").out)
    for words in (
        "'nodes' takes them in the nodes",
        "'auto' does the same",
        "'yes' takes them in all nodes",
        "'no' in none",
        "For --observer outputs: megabytes",
    ):
        assert words in shown


def test_empty_lists_of_names_are_said_to_be_empty(tmp_path: Path) -> None:
    assert near("a", []) == near("a", [], lead="Known") == "There are none."
    output = tmp_path / "q.onnx"
    with pytest.raises(qc.CalibrationError, match="op_types is empty, so nothing"):
        qc.onnx.quantize(models.conv_net(), output, [], op_types=[])
    x = models.value("x", [1, 3, 8, 8])
    with pytest.raises(qc.CalibrationError, match="the model has no nodes"):
        qc.onnx.quantize(models.build([], [x], [x], {}), output, [])
    with pytest.raises(qc.CalibrationError, match=r"no tensor 'zz'. It has: c1, "):
        qc.onnx.observe(models.conv_net(), [], tensors=["zz"])


@pytest.mark.parametrize(
    "arguments",
    [
        ["inspect", "model"],
        ["compute", "model", "--json"],
        ["compare", "model"],
        ["stability", "model", "stats"],
        ["merge", "stats", "model", "-o", "new"],
        ["export", "model", "--to", "csv", "-o", "new"],
        ["quantize", "model", "-o", "new", "--from", "model"],
    ],
    ids=" ".join,
)
def test_a_model_in_place_of_histograms_says_how_to_make_them(
    arguments: list[str], files: dict[str, Path], tmp_path: Path
) -> None:
    known = {**files, "new": tmp_path / "new"}
    message = call(*[known.get(text, text) for text in arguments]).error_text()
    assert f"{files['model']} is a model, not a file of histograms" in message
    assert f"`quantcal observe {files['model']} -o stats.qcal" in message


def test_the_summary_of_weights_alone_has_no_word_of_activations(
    files: dict[str, Path], tmp_path: Path
) -> None:
    made = tmp_path / "q.onnx"
    done = call("quantize", files["model"], "-o", made, "--activation-type", "none")
    assert done.facts["samples"] == "none needed"
    assert "tensors observed" not in done.facts
    assert "clipped" not in done.out


def test_only_the_flag_data_is_read_as_samples(tmp_path: Path) -> None:
    model, data = save_model(tmp_path), save_samples(tmp_path)
    done = call("quantize", model, "-o", tmp_path / "q--data", "--data", data)
    assert done.code == 0, done
    assert (tmp_path / "q--data").is_file()
