"""`out=` of quantizing and dequantizing: the same results, in existing memory."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import quantcal as qc
import samples
from samples import Array

FORMATS = ["int8", "uint8", "int4", "int16", "uint16", "float8_e4m3fn", "float4_e2m1fn"]


def channels() -> Array:
    return samples.shape("gaussian", 600, seed=0).reshape(5, 4, 30)


@pytest.mark.parametrize("axis", [None, 1])
@pytest.mark.parametrize("format", FORMATS)
def test_out_holds_what_a_new_array_would(format: str, axis: int | None) -> None:
    x = channels()
    params = qc.calibrate(x, "minmax", format=format, axis=axis)
    codes, real = params.quantize(x), params.dequantize(params.quantize(x))
    into, back = np.full_like(codes, 1), np.full_like(real, np.nan)
    assert params.quantize(x, out=into) is into
    assert into.tobytes() == codes.tobytes()
    assert params.dequantize(into, out=back) is back
    assert back.tobytes() == real.tobytes()


def test_out_may_be_part_of_a_larger_array() -> None:
    x = channels()
    params = qc.calibrate(x, "minmax")
    whole = np.zeros((7, *x.shape[1:]), np.int8)
    params.quantize(x, out=whole[1:6])
    np.testing.assert_array_equal(whole[1:6], params.quantize(x))
    assert not whole[0].any()
    assert not whole[6].any()


def read_only() -> Array:
    out = np.zeros((5, 4, 30), np.int8)
    out.flags.writeable = False
    return out


@pytest.mark.parametrize("axis", [None, 1])
@pytest.mark.parametrize(
    ("out", "message"),
    [
        ([0], "out must be a numpy array, int8 of shape (5, 4, 30), not list"),
        (np.zeros((5, 4, 30), np.uint8), "out is uint8 of shape (5, 4, 30), but the"),
        (np.zeros((5, 120), np.int8), "out is int8 of shape (5, 120), but the result"),
        (np.zeros((5, 4, 60), np.int8)[..., ::2], "out is read-only or has gaps"),
        (read_only(), "out is read-only or has gaps"),
    ],
)
def test_other_arrays_are_refused(out: Any, message: str, axis: int | None) -> None:
    x = channels()
    params = qc.calibrate(x, "minmax", axis=axis)
    with pytest.raises(qc.CalibrationError) as caught:
        params.quantize(x, out=out)
    assert str(caught.value).startswith(message)


def test_memory_that_is_read_is_refused() -> None:
    codes = np.zeros(12, np.int8)
    params = qc.calibrate(np.ones(3, np.float32), "minmax")
    shared = np.zeros(3, np.float32)
    with pytest.raises(qc.CalibrationError, match="shares memory"):
        params.dequantize(shared.view(np.int8)[:3], out=shared)
    assert params.dequantize(codes[:3], out=shared) is shared


def test_nothing_is_written_where_the_channels_do_not_match() -> None:
    params = qc.calibrate(channels(), "minmax", axis=1)
    out = np.full((2, 3), 7, np.int8)
    with pytest.raises(qc.CalibrationError):
        params.quantize(np.ones((2, 3), np.float32), out=out)
    assert (out == 7).all()
