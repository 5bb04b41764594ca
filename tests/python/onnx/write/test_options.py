"""Signatures, files and flags of options follow from the fields of one class."""

from __future__ import annotations

import inspect
from dataclasses import FrozenInstanceError, fields, replace
from pathlib import Path
from typing import Any

import pytest

import onnx_models as models
import quantcal as qc
from quantcal.onnx import QuantizeOptions
from quantcal.onnx._options.config import KEYS
from quantcal.onnx._options.keywords import names
from quantcal.onnx._options.quantize_options import (
    ObserveKeywords,
    QuantizeKeywords,
    WriteKeywords,
)

FUNCTIONS = {
    qc.onnx.quantize: QuantizeKeywords,
    qc.onnx.observe: ObserveKeywords,
    qc.onnx.write: WriteKeywords,
    qc.onnx.find_saturation: WriteKeywords,
}


def samples() -> list[dict[str, Any]]:
    return [{"x": models.random(1, 3, 8, 8, seed=seed)} for seed in range(2)]


def test_keywords_have_the_names_and_types_of_the_fields() -> None:
    types = {each.name: each.type for each in fields(QuantizeOptions)}
    written = QuantizeKeywords.__annotations__
    found = {name: kind.__forward_arg__ for name, kind in written.items()}
    assert found == types
    for keywords in (ObserveKeywords, WriteKeywords):
        assert names(keywords) < names(QuantizeKeywords)


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda f: f.__name__)
def test_signature_and_docstring_show_each_option(function: Any) -> None:
    known = QuantizeOptions.describe()
    parameters = inspect.signature(function).parameters
    text = " ".join(inspect.getdoc(function).split())
    assert names(FUNCTIONS[function]) <= parameters.keys()
    assert "changes" not in parameters
    assert "<options>" not in text
    for each in fields(QuantizeOptions):
        if each.name in parameters:
            assert parameters[each.name].default == each.default
            assert f" {each.name} {known[each.name].doc}" in text


def test_a_bar_is_shown_by_default_wherever_samples_run() -> None:
    for function in (qc.onnx.quantize, qc.onnx.observe, qc.onnx.evaluate):
        assert inspect.signature(function).parameters["progress"].default is True


def test_an_unknown_keyword_is_a_type_error(tmp_path: Path) -> None:
    message = "quantize.. got an unexpected keyword argument 'weight_typ'"
    options: Any = {"weight_typ": "int4"}
    with pytest.raises(TypeError, match=message):
        qc.onnx.quantize(models.conv_net(), tmp_path / "q.onnx", samples(), **options)
    with pytest.raises(TypeError, match=r"observe.. got an unexpected keyword"):
        qc.onnx.observe(models.conv_net(), samples(), weight_type="int4")  # type: ignore[call-arg]


def test_an_object_and_keywords_give_the_same_model(tmp_path: Path) -> None:
    options = QuantizeOptions(strategy="minmax", placement="stock", cpu="no-vnni")
    calls: list[Any] = [
        {"options": options},
        {"strategy": "minmax", "placement": "stock", "cpu": "no-vnni"},
        {"options": replace(options, strategy="kl"), "strategy": "minmax"},
    ]
    made = []
    for number, call in enumerate(calls):
        path = tmp_path / f"{number}.onnx"
        qc.onnx.quantize(models.conv_net(), path, samples(), progress=False, **call)
        made.append(path.read_bytes())
    assert made[0] == made[1] == made[2]


def test_one_object_serves_all_three_functions(tmp_path: Path) -> None:
    options = QuantizeOptions(
        strategy="mse", activation_type="int8", weight_type="uint8", max_memory=9
    )
    model, whole, steps = models.conv_net(), tmp_path / "a.onnx", tmp_path / "b.onnx"
    qc.onnx.quantize(model, whole, samples(), progress=False, options=options)
    calibrator = qc.onnx.observe(model, samples(), options=options)
    qc.onnx.write(model, steps, calibrator.compute("mse"), options=options)
    assert whole.read_bytes() == steps.read_bytes()


def test_options_are_checked_when_they_are_made_and_cannot_change() -> None:
    wrong: list[tuple[str, dict[str, Any]]] = [
        ("target='tensorflow' is not known", {"target": "tensorflow"}),
        ("observer='outside' is not known", {"observer": "outside"}),
        ("max_memory is 0", {"max_memory": 0}),
        ("include is the string 'Conv_0'", {"include": "Conv_0"}),
        ("have one placement", {"target": "tensorrt", "placement": "stock"}),
        ("int4 weights with float", {"target": "tensorrt", "weight_type": "int4"}),
        (r"activation_formats\['x'\]", {"activation_formats": {"x": "none"}}),
    ]
    for message, values in wrong:
        with pytest.raises(qc.CalibrationError, match=message):
            QuantizeOptions(**values)
    with pytest.raises(FrozenInstanceError):
        QuantizeOptions().target = "tensorrt"  # type: ignore[misc]


def test_a_file_holds_the_options_that_change_the_result() -> None:
    left_out = {"check_stability", "observer", "max_memory", "providers"}
    assert set(QuantizeOptions.describe()) - left_out == set(KEYS) - {"rules"}
    assert list(KEYS)[-3:] == ["activation_formats", "weight_formats", "rules"]


def test_all_choices_are_accepted_and_described() -> None:
    for name, info in QuantizeOptions.describe().items():
        assert info.doc.endswith((".", ")")), name
        for choice in info.choices:
            several = info.flag is not None and info.flag.repeated
            value = (choice,) if several else choice
            made = QuantizeOptions(**{name: value})  # type: ignore[arg-type]
            assert getattr(made, name) == value


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"per_channel": "no"}, "per_channel is 'no'. Give True or False"),
    ({"check_stability": 0}, "check_stability is 0. Give True or False"),
    ({"activation_formats": "int8"}, "activation_formats is 'int8'. Give a mapping"),
    ({"weight_formats": ["int8"]}, "weight_formats is .*Give a mapping"),
    ({"max_memory": "1GB"}, "max_memory is '1GB'. Give a number of bytes"),
    ({"max_memory": 0}, "max_memory is 0. Give a number of bytes"),
    ({"reduce_range": None}, "reduce_range is None. Give a list of names"),
    ({"reduce_range": [3]}, "reduce_range holds 3. Give names as text"),
    ({"reduce_range": "maybe"}, "reduce_range is 'maybe'"),
    ({"cpu": "zz"}, "cpu='zz' is not known"),
    ({"include": None}, "include is None. Give a list of names"),
    ({"corrections": ["x"]}, "corrections='x' is not known.*equalize, smooth, bias"),
    ({"op_types": "Conv"}, "op_types is the string 'Conv'. Give a list"),
    ({"providers": "CPUExecutionProvider"}, "providers is the string .*Give a list"),
    ({"mantissa_bits": 99}, "mantissa_bits"),
    ({"on_nonfinite": "stop"}, "on_nonfinite is 'stop'"),
]


@pytest.mark.parametrize(("changes", "message"), WRONG)
def test_a_value_of_another_kind_is_refused_when_the_options_are_made(
    changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(qc.CalibrationError, match=message):
        QuantizeOptions(**changes)


def test_what_is_no_options_calibrator_checkpoint_or_table_is_refused(
    tmp_path: Path,
) -> None:
    model, output = models.conv_net(), tmp_path / "q.onnx"
    quantize: Any = qc.onnx.quantize
    for name in ("options", "calibrator", "checkpoint"):
        with pytest.raises(qc.CalibrationError, match=f"{name} is 'x'. Give a"):
            quantize(model, output, samples(), progress=False, **{name: "x"})
    with pytest.raises(qc.CalibrationError, match="checkpoint is 1"):
        qc.onnx.observe(model, samples(), checkpoint=1)  # type: ignore[arg-type]
    with pytest.raises(qc.CalibrationError, match="table is 1"):
        qc.onnx.write(model, output, 1)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="Did you mean activation_t"):
        quantize(model, output, samples(), activation_typ="int8")
    assert list(tmp_path.iterdir()) == []


def test_a_checkpoint_takes_its_path_as_text(tmp_path: Path) -> None:
    def some() -> Any:
        yield from samples()
        raise ValueError("boom")

    kept = qc.onnx.Checkpoint(str(tmp_path / "s.qcal"))  # type: ignore[arg-type]
    with (
        pytest.raises(ValueError, match="boom"),
        pytest.warns(UserWarning, match="first 2 samples"),
    ):
        qc.onnx.observe(models.conv_net(), some(), checkpoint=kept)
    (file,) = tmp_path.iterdir()
    assert file.name == "s.qcal.first-2.qcal"
    found, _ = qc.onnx.Checkpoint.resume(str(file), str(tmp_path / "s.qcal"))
    assert len(found) > 0
