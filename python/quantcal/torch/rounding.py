"""What a tensor becomes when it is quantised and dequantised."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from quantcal.formats import QuantFormat
from quantcal.params import QuantParams
from quantcal.torch.readable import is_elsewhere, readable


def fake(params: QuantParams, tensor: torch.Tensor, name: str) -> torch.Tensor:
    """Return what `QuantParams.fake_quantize` makes of a tensor, in its type and place."""
    values = readable(name, tensor)
    if not values.is_floating_point():
        msg = f'Tensor "{name}" is of {tensor.dtype}; only floats can be quantized'
        raise TypeError(msg)
    if is_elsewhere(values) and not QuantFormat(params.format).is_float:
        real = fake_in_place(params, values)
    else:
        real = torch.from_numpy(params.fake_quantize(values))
    return real.to(device=tensor.device, dtype=tensor.dtype)


def fake_in_place(params: QuantParams, values: torch.Tensor) -> torch.Tensor:
    """Return the same as float32, computed where the values are; of integer formats only."""
    bits, signed = QuantFormat(params.format).bits, params.format.startswith("int")
    lowest = -(1 << (bits - 1)) if signed else 0
    highest = lowest + (1 << bits) - 1

    def spread(field: Any, kind: Any) -> torch.Tensor:
        numbers = torch.from_numpy(np.array(field, dtype=kind)).to(values.device)
        if params.axis is None:
            return numbers
        after = values.ndim - 1 - params.axis % values.ndim
        return numbers.reshape(-1, *[1] * after)

    scale = spread(params.scale, np.float32)
    zero_point = spread(params.zero_point, np.float32)
    codes = (values.to(torch.float32) / scale).round() + zero_point
    codes = codes.nan_to_num(lowest).clamp(lowest, highest)
    return (codes - zero_point) * scale


def fake_per_token(
    params: QuantParams, tensor: torch.Tensor, name: str
) -> torch.Tensor:
    """Quantise each vector along the last axis in the range of its own extremes."""
    values = readable(name, tensor).to("cpu", torch.float32)
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
