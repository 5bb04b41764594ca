"""Calibrators keep the formats that tensors were observed for, in files and through merging."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import pytest

import onnx_models as models
import quantcal as qc
from samples import f32

KINDS: dict[str, dict[str, Any]] = {
    "onnxruntime": {},
    "int8": {"activation_type": "int8"},
    "tensorrt": {"target": "tensorrt"},
    "uint16": {"activation_type": "uint16"},
    "float8": {"activation_type": "float8_e4m3fn"},
    "tensorrt float8": {"target": "tensorrt", "activation_type": "float8_e4m3fn"},
    "by tensor": {"activation_formats": {"r1": "uint16"}},
}
"""Options of observing and quantizing, with those that fix formats."""


def calibrator(**formats: str) -> qc.Calibrator:
    cal = qc.Calibrator()
    for name in "abc":
        cal.observe(name, f32([-1.0, 0.5, 2.0]))
    cal.add_formats({name: [given] for name, given in formats.items()})
    return cal


def images() -> list[dict[str, Any]]:
    return [{"x": models.random(1, 3, 9, 12, seed=seed)} for seed in range(3)]


def test_a_calibrator_without_formats_has_the_bytes_it_always_had() -> None:
    settings = '{"mantissa_bits": null, "on_nonfinite": "ignore"}'
    plain = calibrator()
    tensors = sorted(plain._tensors.items())
    assert plain.to_bytes() == qc._core.write_archive(settings, tensors)
    assert plain.formats == {}
    assert {p.format for p in plain.compute("mse").values()} == {"int8"}


@pytest.mark.parametrize(
    "formats",
    [
        {"a": "uint8", "b": "uint8", "c": "uint8"},
        {"a": "uint8", "b": "int8", "c": "uint8"},
        {"b": "float8_e4m3fn"},
        {"a": "uint8", "c": "int16"},
    ],
)
def test_formats_survive_files_and_pickles(
    formats: dict[str, str], tmp_path: Path
) -> None:
    cal = calibrator(**formats)
    cal.save(tmp_path / "stats.qcal")
    loaded = qc.load(tmp_path / "stats.qcal")
    assert loaded.formats == {name: (given,) for name, given in formats.items()}
    assert loaded.to_bytes() == cal.to_bytes()
    table = loaded.compute("mse")
    assert {n: p.format for n, p in table.items()} == {
        name: formats.get(name, "int8") for name in "abc"
    }
    assert table == cal.compute("mse")


def test_every_order_of_merging_gives_the_same_bytes() -> None:
    parts = [
        calibrator(a="uint8", b="uint8"),
        calibrator(a="int8", c="uint16"),
        calibrator(),
        calibrator(a="uint8", b="uint8", c="uint8"),
    ]
    made = {
        sum(order, qc.Calibrator()).to_bytes()
        for order in itertools.permutations(parts)
    }
    made.add(((parts[0] + parts[1]) + (parts[2] + parts[3])).to_bytes())
    assert len(made) == 1
    both = qc.Calibrator.from_bytes(made.pop())
    assert both.formats == {
        "a": ("int8", "uint8"),
        "b": ("uint8",),
        "c": ("uint16", "uint8"),
    }


def test_a_tensor_of_several_formats_must_be_given_one() -> None:
    both = calibrator(a="int8") + calibrator(a="uint8", b="uint8")
    for call in (both.compute, lambda: qc.compare(both)):
        with pytest.raises(
            qc.CalibrationError,
            match=r'"a" was observed for int8 and for uint8; give the format \(format=',
        ):
            call()
    assert {p.format for p in both.compute(format="int4").values()} == {"int4"}
    assert qc.compare(both, tensors=["b"]).format.name == "uint8"


def test_a_given_format_goes_before_what_was_noted() -> None:
    cal = calibrator(a="uint8", b="uint8", c="uint8")
    table = cal.compute("mse", format="int8")
    assert table == calibrator().compute("mse", format="int8")
    scaled = cal.compute("mse", symmetric=True, power_of_two=True)
    assert {(p.format, p.symmetric) for p in scaled.values()} == {("uint8", True)}
    assert scaled == calibrator().compute(
        "mse", format="uint8", symmetric=True, power_of_two=True
    )


def test_comparisons_and_stability_take_the_noted_formats() -> None:
    cal = calibrator(a="uint8", b="uint8", c="int4")
    comparison = qc.compare(cal, strategies=["minmax", "mse"])
    assert comparison.title.endswith("uint8 (affine) and int4 (symmetric)")
    assert {row.tensor: row.params.format for row in comparison if row.params} == {
        "a": "uint8",
        "b": "uint8",
        "c": "int4",
    }
    assert comparison["c"].format == qc.QuantFormat("int4")
    assert comparison["a"].title.endswith("uint8 (affine)")
    for name in "ac":
        alone = qc.compare(cal[name], comparison[name].format, strategies="mse")
        assert comparison[name].best("mse").params == alone.best().params
    steady = qc.check_stability(cal, calibrator(a="uint8"))
    found = {each.name: each.first.format for each in steady if each.first}
    assert found == {"a": "uint8", "b": "uint8", "c": "int4"}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"format": "uint8"}, "'uint8', but it must be a list of known formats"),
        ({"format": ["int99"]}, "must be a list of known formats"),
        ({"format": [["int8"]]}, "must be a list of known formats"),
        ({"format": ["uint8"], "formats": ["a"]}, "must be a mapping of tensors"),
        ({"formats": {"a": 3}}, '"a" has 3'),
        ({"formats": {"z": ["int8"]}}, 'names "z", of which there is no histogram'),
        (3, "not a JSON object"),
    ],
)
def test_formats_that_no_calibrator_writes_are_refused(
    settings: Any, message: str
) -> None:
    tensors = sorted(calibrator()._tensors.items())
    data = qc._core.write_archive(json.dumps(settings), tensors)
    with pytest.raises(qc.CalibrationError, match=message):
        qc.Calibrator.from_bytes(data)


@pytest.mark.parametrize("kind", KINDS)
def test_a_table_without_a_format_writes_the_model_that_was_observed(
    kind: str, tmp_path: Path
) -> None:
    model, options = models.conv_net(), KINDS[kind]
    cal = qc.onnx.observe(model, images(), **options)
    target = {name: options[name] for name in options if name == "target"}
    table = cal.compute("mse")
    qc.onnx.write(model, tmp_path / "table.onnx", table, reduce_range=False, **target)
    options = {**options, "strategy": "mse", "reduce_range": False}
    result = qc.onnx.quantize(model, tmp_path / "run.onnx", images(), **options)
    assert table == result.table
    made = (tmp_path / "table.onnx").read_bytes()
    assert made == (tmp_path / "run.onnx").read_bytes()


@pytest.mark.parametrize("kind", KINDS)
def test_histograms_are_written_in_the_formats_that_they_were_observed_for(
    kind: str, tmp_path: Path
) -> None:
    model, options = models.conv_net(), KINDS[kind]
    cal = qc.onnx.observe(model, images(), **options)
    target = {name: options[name] for name in options if name == "target"}
    later = qc.onnx.quantize(model, tmp_path / "later.onnx", calibrator=cal, **target)
    run = {**options, "strategy": "mse"}  # as histograms alone take
    qc.onnx.quantize(model, tmp_path / "run.onnx", images(), **run)
    made = (tmp_path / "later.onnx").read_bytes()
    assert made == (tmp_path / "run.onnx").read_bytes()
    # The file of choices repeats it from the samples.
    (tmp_path / "choices.toml").write_text(later.config or "")
    chosen = qc.onnx.read_config(tmp_path / "choices.toml")
    qc.onnx.quantize(model, tmp_path / "again.onnx", images(), **chosen)
    assert (tmp_path / "again.onnx").read_bytes() == made


def test_an_activation_that_is_given_goes_before_that_of_the_histograms(
    tmp_path: Path,
) -> None:
    model = models.conv_net()
    cal = qc.onnx.observe(model, images(), tensors="all", activation_type="uint16")
    assert set(cal.formats.values()) == {("uint16",)}
    for given in ("int8", "uint8"):
        done = qc.onnx.quantize(
            model, tmp_path / "q.onnx", calibrator=cal, activation_type=given
        )
        assert {p.format for p in done.table.values()} == {given}
    # TensorRT has no such format: its own default counts.
    done = qc.onnx.quantize(
        model, tmp_path / "q.onnx", calibrator=cal, target="tensorrt"
    )
    assert {p.format for p in done.table.values()} == {"int8"}


def test_named_tensors_are_noted_by_the_rules_for_their_names() -> None:
    cal = qc.onnx.observe(
        models.conv_net(),
        images(),
        tensors=["x", "r1"],
        activation_formats={"r*": "int16"},
    )
    assert cal.formats == {"x": ("uint8",), "r1": ("int16",)}
    cal = qc.onnx.observe(
        models.conv_net(), images(), tensors=["x"], activation_type="none"
    )
    assert cal.formats == {}


def test_a_missing_range_is_reported_with_the_options_that_would_do(
    tmp_path: Path,
) -> None:
    model, out = models.conv_net(), tmp_path / "q.onnx"
    plain = qc.onnx.observe(model, images())
    with pytest.raises(
        qc.CalibrationError,
        match=r"no range for 1 of the 4 .* The given tensors suffice for "
        r'format="uint8" \(quantcal compute --activation-type uint8\)',
    ):
        qc.onnx.write(model, out, plain.compute(format="int8"))
    inputs = qc.onnx.observe(model, images(), activation_type="float8_e4m3fn")
    with pytest.raises(
        qc.CalibrationError,
        match=r"no histogram for 1 of the 3 .*The given tensors suffice for "
        r'activation_type="float8_e4m3fn" \(--activation-type float8_e4m3fn\)',
    ):
        qc.onnx.quantize(model, out, calibrator=inputs, activation_type="uint8")
    other = qc.onnx.observe(model, images(), target="tensorrt")
    with pytest.raises(
        qc.CalibrationError,
        match=r'The given tensors suffice for target="tensorrt" \(--target tensorrt\)',
    ):
        qc.onnx.write(model, out, other.compute())
    some = qc.onnx.observe(model, images(), tensors=["x"])
    with pytest.raises(qc.CalibrationError) as error:
        qc.onnx.quantize(model, out, calibrator=some)
    assert "The given tensors suffice" not in str(error.value)
    assert "(--target, --activation-type, --op-type, --include" in str(error.value)
    assert not out.exists()


@pytest.mark.parametrize("target", ["onnxruntime", "tensorrt"])
def test_ranges_of_another_format_are_reported_with_the_one_to_take(
    target: str, tmp_path: Path
) -> None:
    model, out = models.conv_net(), tmp_path / "q.onnx"
    cal = qc.onnx.observe(model, images(), target=target)
    usual = "uint8" if target == "onnxruntime" else "int8"
    hint = rf'with format="{usual}" \(quantcal compute --activation-type {usual}\)'
    with pytest.raises(
        qc.CalibrationError, match=rf"table's ranges are for int4; .*{hint}"
    ):
        qc.onnx.write(model, out, cal.compute(format="int4"), target=target)
    right, odd = cal.compute(), cal.compute(format="uint4")
    last = list(right)[-1]  # most are still in the right one
    mixed = {**right, last: odd[last]}
    with pytest.raises(
        qc.CalibrationError, match=rf"range of '{last}' is for uint4; .*{hint}"
    ):
        qc.onnx.write(model, out, mixed, target=target)
    assert not out.exists()
