"""Formats by the names of other libraries: dtypes of numpy and torch, "fp8"."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest

import quantcal as qc
from quantcal.formats import FORMATS
from quantcal.onnx import QuantizeOptions
from samples import f32

SPELLINGS: list[tuple[Any, str]] = [
    ("INT8", "int8"),
    ("UInt4", "uint4"),
    ("uint_8", "uint8"),
    ("QInt8", "int8"),
    ("quint8", "uint8"),
    ("fp8", "float8_e4m3fn"),
    ("FP8", "float8_e4m3fn"),
    ("float8", "float8_e4m3fn"),
    ("fp8_e4m3", "float8_e4m3fn"),
    ("fp8-e5m2", "float8_e5m2"),
    ("e5m2", "float8_e5m2"),
    ("FLOAT8E4M3FN", "float8_e4m3fn"),
    ("float8e5m2", "float8_e5m2"),
    ("fp4", "float4_e2m1fn"),
    ("e2m1", "float4_e2m1fn"),
    ("torch.int8", "int8"),
    ("TensorProto.UINT8", "uint8"),
    (np.int8, "int8"),
    (np.dtype("uint16"), "uint16"),
    (np.dtype(">i2"), "int16"),
    (ml_dtypes.int4, "int4"),
    (ml_dtypes.float8_e4m3fn, "float8_e4m3fn"),
    (np.dtype(ml_dtypes.float8_e5m2), "float8_e5m2"),
]


@pytest.mark.parametrize(("given", "name"), SPELLINGS, ids=str)
def test_other_spellings_are_understood(given: Any, name: str) -> None:
    assert qc.QuantFormat.of(given) == qc.QuantFormat(name)
    assert qc.QuantFormat(given).name == name


@pytest.mark.parametrize("name", FORMATS)
def test_each_name_is_understood_in_any_case_and_as_its_dtype(name: str) -> None:
    assert qc.QuantFormat(name.upper()).name == name
    assert qc.QuantFormat(name.replace("_", "")).name == name
    dtype = qc.QuantFormat(name).dtype
    if dtype.name == name:  # formats of odd widths have no dtype
        assert qc.QuantFormat.of(dtype).name == name
        assert qc.QuantFormat.of(dtype.type).name == name


def test_numbers_of_onnx_are_refused_with_their_names() -> None:
    onnx = pytest.importorskip("onnx")
    known = 0
    for text, number in onnx.TensorProto.DataType.items():
        name = {"FLOAT8E4M3FN": "float8_e4m3fn", "FLOAT8E5M2": "float8_e5m2"}.get(
            text, {"FLOAT4E2M1": "float4_e2m1fn"}.get(text, text.lower())
        )
        given: Any = number
        with pytest.raises(
            TypeError, match="must be a name or a QuantFormat"
        ) as caught:
            qc.QuantFormat.of(given)
        hint = f'For number {number} of onnx.TensorProto give "{name}"'
        assert (hint in str(caught.value)) == (name in FORMATS)
        known += name in FORMATS
    assert known >= 9


def test_four_is_not_sixteen_bits() -> None:
    given: Any = 4
    words = r'For 4 bits give "int4" or "uint4"\. For number 4 .* give "uint16"'
    for name in (qc.QuantFormat, qc.QuantFormat.of):
        with pytest.raises((TypeError, qc.CalibrationError), match=words):
            name(given)
    with pytest.raises(qc.CalibrationError, match="weight_type=4 is not"):
        QuantizeOptions(weight_type=given)


def test_quant_types_of_onnxruntime_are_understood() -> None:
    quantization = pytest.importorskip("onnxruntime.quantization")
    for kind in quantization.QuantType:
        text = str(kind)
        name = text.replace("QU", "u").replace("Q", "").lower()
        name = name.replace("float8e4m3fn", "float8_e4m3fn")
        assert qc.QuantFormat.of(kind).name == name


def test_dtypes_of_torch_are_understood() -> None:
    torch = pytest.importorskip("torch")
    for dtype, name in (
        (torch.int8, "int8"),
        (torch.uint8, "uint8"),
        (torch.qint8, "int8"),
        (torch.quint8, "uint8"),
        (torch.float8_e4m3fn, "float8_e4m3fn"),
    ):
        assert qc.QuantFormat.of(dtype).name == name
    with pytest.raises(TypeError, match="must be a name or a QuantFormat"):
        qc.QuantFormat.of(torch.float32)


@pytest.mark.parametrize(
    "wrong", [float, int, np.float32, np.dtype("f4"), True, 1, None, 2.0, [], object()]
)
def test_what_is_no_format_is_refused(wrong: Any) -> None:
    with pytest.raises(TypeError, match="it must be a name or a QuantFormat"):
        qc.QuantFormat.of(wrong)


@pytest.mark.parametrize("bits", [8, "8", "16"])
def test_a_number_of_bits_is_answered_with_the_names(bits: Any) -> None:
    with pytest.raises((TypeError, qc.CalibrationError)) as caught:
        qc.QuantFormat.of(bits)
    assert f'For {bits} bits give "int{bits}" or "uint{bits}"' in str(caught.value)


@pytest.mark.parametrize(
    "text",
    ["", "int1", "int17", "float32", "fp16", "q", "8bit", "fp8_e2m1", "fp4_e4m3", "f8"],
)
def test_unknown_names_are_refused(text: str) -> None:
    with pytest.raises(qc.CalibrationError, match=f'Format "{text}" is not known'):
        qc.QuantFormat(text)


def test_they_are_understood_wherever_a_format_is_named() -> None:
    x = f32([-1, 0, 2])
    cal = qc.Calibrator()
    cal.observe("x", x)
    given: Any = np.uint8
    usual = qc.calibrate(x, format="uint8")
    assert qc.calibrate(x, format=given) == usual
    assert cal.compute(format=given)["x"] == usual
    assert qc.compare(x, given).format.name == "uint8"
    assert qc.check_stability(cal, cal, format=given)[0].first == usual
    params = qc.QuantParams.from_range(-1, 1, format=given)
    assert params == qc.QuantParams(
        params.scale, params.zero_point, params.low, params.high, given, False
    )
    assert params.format == "uint8"
    mx: Any = ml_dtypes.float8_e5m2
    assert qc.blocks.MXFP8(mx) == qc.blocks.MXFP8("float8_e5m2")


def test_they_are_understood_in_options_of_models() -> None:
    given: Any = np.int8
    other: Any = "FP8"
    options = QuantizeOptions(
        activation_type=given,
        weight_type="INT8",
        weight_formats={"*": given},
        activation_formats={"*head*": other},
    )
    assert options == QuantizeOptions(
        activation_type="int8",
        weight_type="int8",
        weight_formats={"*": "int8"},
        activation_formats={"*head*": "float8_e4m3fn"},
    )
    with pytest.raises(qc.CalibrationError, match="activation_type='int9' is not"):
        QuantizeOptions(activation_type="int9")
