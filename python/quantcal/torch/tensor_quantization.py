"""Quantizes and dequantizes one tensor, on the CPU or on its device."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from quantcal.formats import QuantFormat
from quantcal.params import QuantParams
from quantcal.torch.tensor_values import is_off_cpu, plain_values


def fake_quantize_tensor(
    params: QuantParams, tensor: torch.Tensor, name: str
) -> torch.Tensor:
    """Return `QuantParams.fake_quantize` of a tensor, in its type and on its device.

    Raises
    ------
    TypeError
        If the tensor does not hold plain floats; names the tensor.
    """
    values = plain_values(name, tensor)
    if not values.is_floating_point():
        msg = f'Tensor "{name}" is of {tensor.dtype}; only floats can be quantized'
        raise TypeError(msg)
    if is_off_cpu(values) and not QuantFormat(params.format).is_float:
        real = fake_quantize_on_device(params, values)
    else:
        real = torch.from_numpy(params.fake_quantize(values))
    return real.to(device=tensor.device, dtype=tensor.dtype)


def fake_quantize_on_device(params: QuantParams, values: torch.Tensor) -> torch.Tensor:
    """Return the same values in float32, computed on the device; integer formats only."""
    bits, signed = QuantFormat(params.format).bits, params.format.startswith("int")
    lowest = -(1 << (bits - 1)) if signed else 0
    highest = lowest + (1 << bits) - 1

    def broadcast(field: Any) -> torch.Tensor:
        numbers = torch.from_numpy(np.array(field, dtype=np.float32)).to(values.device)
        if params.axis is None:
            return numbers
        after = values.ndim - 1 - params.axis % values.ndim
        return numbers.reshape(-1, *[1] * after)

    scale, zero_point = broadcast(params.scale), broadcast(params.zero_point)
    codes = (values.to(torch.float32) / scale).round() + zero_point
    codes = codes.nan_to_num(lowest).clamp(lowest, highest)
    return (codes - zero_point) * scale


def fake_quantize_per_token(
    params: QuantParams, tensor: torch.Tensor, name: str
) -> torch.Tensor:
    """Quantize each vector along the last axis in the range of its extremes.

    Raises
    ------
    TypeError
        If the tensor does not hold plain floats; names the tensor.
    """
    values = plain_values(name, tensor).to("cpu", torch.float32)
    if not values.numel():
        return tensor
    rows = values.reshape(-1, values.shape[-1] if values.ndim else 1).numpy()
    finite = np.where(np.isfinite(rows), rows, np.float32(0))
    of_rows = QuantParams.from_range(
        finite.min(axis=1),
        finite.max(axis=1),
        format=params.format,
        symmetric=params.symmetric,
        axis=0,
    )
    real = torch.from_numpy(of_rows.fake_quantize(rows)).reshape(values.shape)
    return real.to(device=tensor.device, dtype=tensor.dtype)
