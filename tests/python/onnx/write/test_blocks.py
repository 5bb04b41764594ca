"""Weights in blocks: the compiled search equals a search in numpy, bit for bit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import quantcal as qc
from quantcal import _core
from quantcal.onnx._write.weight_quantization import quantize_blocks

Array = np.ndarray[Any, Any]
SHARES = np.linspace(1, 0.6, 21, dtype=np.float32)


def row_of_blocks(part: Array, format: str, strategy: str) -> qc.QuantParams:
    """The oracle: the parameters of each column, from trying every share.

    It is the definition itself: a grid, its error on every value, and the
    sum down the column. ``accumulate`` adds in that order; ``sum`` may add in another.
    """
    finite = np.nan_to_num(part, nan=0.0, posinf=0.0, neginf=0.0)
    low, high = finite.min(axis=0), finite.max(axis=0)
    best_low, best_high = low.copy(), high.copy()
    least = np.full(low.shape, np.inf)
    for share in SHARES if strategy == "mse" else SHARES[:1]:
        ends = low * share, high * share
        params = qc.QuantParams.from_range(*ends, format=format, axis=1)
        error = np.square(params.fake_quantize(finite) - finite, dtype=np.float64)
        total = np.add.accumulate(error, axis=0)[-1]
        better = total < least
        least[better] = total[better]
        best_low[better], best_high[better] = ends[0][better], ends[1][better]
    return qc.QuantParams.from_range(best_low, best_high, format=format, axis=1)


def in_numpy(
    weight: Array, format: str, strategy: str, axis: int, size: int
) -> tuple[Array, Array, Array]:
    """The oracle: codes, scales and zero points, one row of blocks at a time."""
    rows = weight if axis == 0 else weight.T
    codes, scale, zero = [], [], []
    for first in range(0, rows.shape[0], size):
        part = np.ascontiguousarray(rows[first : first + size])
        params = row_of_blocks(part, format, strategy)
        codes.append(params.quantize(part).view(qc.QuantFormat(format).storage))
        scale.append(params.scale)
        zero.append(params.zero_point)
    found = np.concatenate(codes), np.stack(scale), np.stack(zero)
    return found if axis == 0 else tuple(a.T for a in found)  # type: ignore[return-value]


def weights(shape: tuple[int, int], axis: int) -> Array:
    """Heavy tails, rows of different sizes, and the special values in the comments."""
    r = np.random.default_rng(5)
    w = r.standard_t(3, shape) * np.exp(r.standard_normal((shape[0], 1)))
    w = w.astype(np.float32)
    w[:, 0] = 0
    if shape[1] > 4:
        w[:, 1] = -np.abs(w[:, 1])  # of one sign
        w[:, 2] *= np.float32(1e-38)  # subnormal
        w[:, 3] = np.float32(3e38) * np.sign(
            w[:, 3]
        )  # whose range is infinite in float32
        w.flat[::97] = np.nan
        w.flat[5::331] = np.inf
        w.flat[7::331] = -np.inf
        w[-1] = 0.25  # ties between shares
    return w if axis == 0 else np.ascontiguousarray(w.T)


def compiled(
    weight: Array, format: str, strategy: str, axis: int, size: int
) -> tuple[Array, Array, Array]:
    """The result of the extension, which unlike ``quantize_blocks`` accepts NaN."""
    shares = SHARES if strategy == "mse" else SHARES[:1]
    kind = qc.QuantFormat(format)
    codes, scale, zero = _core.code_blocks(weight, kind, axis, size, shares)
    return codes, scale, zero


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize(
    "shape", [(64, 33), (72, 5), (31, 200), (100, 2), (100, 4), (7, 1), (513, 70)]
)
def test_codes_and_scales_are_those_of_numpy_to_the_bit(
    shape: tuple[int, int], axis: int
) -> None:
    weight = weights(shape, axis)
    for format in ("int4", "uint4", "int8", "uint3"):
        for strategy in ("mse", "minmax"):
            for size in (16, 32, 128):
                how = weight, format, strategy, axis, size
                found_codes, found_scale, found_zero = compiled(*how)
                codes, scale, zero = in_numpy(*how)
                message = f"{format} {strategy} {size}"
                np.testing.assert_array_equal(found_codes, codes, message)
                assert found_codes.dtype == codes.dtype
                np.testing.assert_array_equal(
                    found_scale.view(np.uint32), scale.view(np.uint32), message
                )
                np.testing.assert_array_equal(found_zero, zero, message)
                if not np.isfinite(weight).all():
                    continue
                whole = quantize_blocks(*how)
                np.testing.assert_array_equal(whole.codes, codes, message)
                np.testing.assert_array_equal(whole.scale, scale, message)
                if whole.zero_point is None:
                    assert not zero.any()
                else:
                    np.testing.assert_array_equal(whole.zero_point, zero, message)


def test_a_view_is_quantized_like_its_copy() -> None:
    weight = np.nan_to_num(weights((96, 40), 0), posinf=0, neginf=0)
    turned = quantize_blocks(weight.T, "int4", "mse", 1, 32)
    copied = quantize_blocks(np.ascontiguousarray(weight.T), "int4", "mse", 1, 32)
    straight = quantize_blocks(weight, "int4", "mse", 0, 32)
    np.testing.assert_array_equal(turned.codes, copied.codes)
    np.testing.assert_array_equal(turned.codes, straight.codes.T)
    np.testing.assert_array_equal(turned.scale, straight.scale.T)


def test_invalid_blocks_are_refused() -> None:
    weight = np.ones((4, 4), np.float32)
    int4 = qc.QuantFormat("int4")
    with pytest.raises(qc.CalibrationError, match=r"block size is 0.*at least 1"):
        _core.code_blocks(weight, int4, 0, 0, SHARES)
    with pytest.raises(qc.CalibrationError, match="block size is -3"):
        _core.code_blocks(weight, int4, 0, -3, SHARES)
    with pytest.raises(qc.CalibrationError, match="axis is 2"):
        _core.code_blocks(weight, int4, 2, 32, SHARES)
    floating = qc.QuantFormat("float8_e4m3fn")
    with pytest.raises(qc.CalibrationError, match=r"float8_e4m3fn.*no evenly spaced"):
        _core.code_blocks(weight, floating, 0, 32, SHARES)
