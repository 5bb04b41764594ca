"""Which tensors have values that can be read, and how the engine reads them."""

from __future__ import annotations

from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensor
from torch.utils._python_dispatch import is_traceable_wrapper_subclass


def is_elsewhere(tensor: torch.Tensor) -> bool:
    """Whether a tensor's values are out of the engine's reach."""
    return bool(tensor.device.type != "cpu")


_NUMPY = frozenset((torch.float16, torch.float32, torch.float64))


def as_engine_reads(values: torch.Tensor, axis: int | None) -> Any:
    """Return the values of a CPU tensor so that the engine needs no conversion and no copy.

    Whole tensors are counted in the order of memory: a transposed one has no gaps then.
    """
    if axis is None and not values.is_contiguous():
        strides = values.stride()
        order = sorted(range(values.ndim), key=strides.__getitem__, reverse=True)
        values = values.permute(order)
    return values.numpy() if values.dtype in _NUMPY else values


def readable(name: str, tensor: torch.Tensor) -> torch.Tensor:
    """Return a tensor's plain values, without a copy where its memory holds them.

    Raises
    ------
    TypeError
        If it is not dense, holds no values, or holds something else than floats.
    """
    check_plain(name, tensor)
    return tensor.detach().resolve_neg()


def check_plain(name: str, tensor: torch.Tensor) -> None:
    """Refuse a tensor without plain values.

    Raises
    ------
    TypeError
        If it is not dense, or stands for values that are not there or not its own.
    """
    kind = _kind(tensor)
    if kind:
        msg = f'Tensor "{name}" is {kind}; only dense tensors of floats can be observed'
        raise TypeError(msg)


def _kind(tensor: torch.Tensor) -> str:
    """Return what a tensor is that cannot be read; nothing if it can."""
    if torch._C._functorch.is_functorch_wrapped_tensor(tensor):
        return (
            "inside a transform of torch.func (vmap, grad, jvp), which hides its values"
        )
    if isinstance(tensor, FakeTensor):
        return "a fake tensor without values, as torch.export makes them"
    return _odd_layout(tensor)


def _odd_layout(tensor: torch.Tensor) -> str:
    if tensor.is_nested:
        return "a nested tensor"
    if tensor.layout != torch.strided or tensor.is_quantized:
        return f"{tensor.layout}, {tensor.dtype}"
    if tensor.is_meta:
        return "a meta tensor"
    if tensor._is_zerotensor():
        return "a tensor of zeros without memory"
    if type(tensor) in _ORDINARY or _has_memory(tensor):
        return ""
    return f"{type(tensor).__name__}, a kind of tensor without memory of its own"


_ORDINARY = (torch.Tensor, torch.nn.Parameter)


def _has_memory(tensor: torch.Tensor) -> bool:
    """Whether a subclass is a tensor with memory of its own, and not one around others."""
    wraps = is_traceable_wrapper_subclass(tensor)
    try:
        return not wraps and (tensor.data_ptr() != 0 or not tensor.numel())
    except RuntimeError:
        return False
