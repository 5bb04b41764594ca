"""Which tensors have readable values, and the form in which the engine reads them."""

from __future__ import annotations

from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensor
from torch.utils._python_dispatch import is_traceable_wrapper_subclass


def is_off_cpu(tensor: torch.Tensor) -> bool:
    """Whether a tensor is on a device whose memory the engine cannot read."""
    return bool(tensor.device.type != "cpu")


_NUMPY_TYPES = frozenset((torch.float16, torch.float32, torch.float64))


def as_engine_input(values: torch.Tensor, axis: int | None) -> Any:
    """Return the values of a CPU tensor so that the engine converts and copies nothing.

    Whole tensors are counted in memory order, in which a transposed tensor has no gaps.
    """
    if axis is None and not values.is_contiguous():
        strides = values.stride()
        order = sorted(range(values.ndim), key=strides.__getitem__, reverse=True)
        values = values.permute(order)
    return values.numpy() if values.dtype in _NUMPY_TYPES else values


def plain_values(name: str, tensor: torch.Tensor) -> torch.Tensor:
    """Return a tensor's plain values, without a copy if its memory holds them.

    Raises
    ------
    TypeError
        If it is not dense, or its memory does not hold its values.
    """
    check_readable(name, tensor)
    return tensor.detach().resolve_neg()


def check_readable(name: str, tensor: torch.Tensor) -> None:
    """Refuse a tensor without readable values.

    Raises
    ------
    TypeError
        If it is not dense, or its memory does not hold its values.
    """
    kind = _unreadable_kind(tensor)
    if kind:
        msg = f'Tensor "{name}" is {kind}; only dense tensors of floats can be observed'
        raise TypeError(msg)


def _unreadable_kind(tensor: torch.Tensor) -> str:
    """Return the kind of an unreadable tensor, or an empty string."""
    if torch._C._functorch.is_functorch_wrapped_tensor(tensor):
        return (
            "inside a transform of torch.func (vmap, grad, jvp), which hides its values"
        )
    if isinstance(tensor, FakeTensor):
        return "a fake tensor without values, as torch.export makes them"
    return _unreadable_layout(tensor)


def _unreadable_layout(tensor: torch.Tensor) -> str:
    if tensor.is_nested:
        return "a nested tensor"
    if tensor.layout != torch.strided or tensor.is_quantized:
        return f"{tensor.layout}, {tensor.dtype}"
    if tensor.is_meta:
        return "a meta tensor"
    if tensor._is_zerotensor():
        return "a tensor of zeros without memory"
    if type(tensor) in _ORDINARY_TYPES or _has_memory(tensor):
        return ""
    return f"{type(tensor).__name__}, a tensor subclass without memory"


_ORDINARY_TYPES = (torch.Tensor, torch.nn.Parameter)


def _has_memory(tensor: torch.Tensor) -> bool:
    """Whether a subclass holds its values, rather than wrapping other tensors."""
    wraps = is_traceable_wrapper_subclass(tensor)
    try:
        return not wraps and (tensor.data_ptr() != 0 or not tensor.numel())
    except RuntimeError:
        return False
