"""Folding a scale for each channel into the modules on both sides of a tensor."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from quantcal import CalibrationError
from quantcal.torch.groups import Group
from quantcal.torch.modules import near


def weight_of(path: str, modules: Mapping[str, torch.nn.Module]) -> torch.Tensor:
    """Return the weight of a reader.

    Raises
    ------
    CalibrationError
        If there is no such module, or it is no linear layer.
    """
    module = _module(path, modules)
    if not isinstance(module, torch.nn.Linear):
        msg = f'"{path}" is {type(module).__name__}, but only nn.Linear can be a reader'
        raise CalibrationError(msg)
    weight: torch.Tensor = module.weight
    return weight


def _module(path: str, modules: Mapping[str, torch.nn.Module]) -> torch.nn.Module:
    if path not in modules:
        msg = f'The model has no module "{path}".{near(path, modules)}'
        raise CalibrationError(msg)
    return modules[path]


def check_source(
    path: str, modules: Mapping[str, torch.nn.Module], channels: int
) -> None:
    """Refuse a source whose output does not scale as its weight (and bias) does.

    Tried on random numbers, with scales that are powers of two.
    """
    module = _module(path, modules)
    parameters = _foldable(path, module, channels)
    like = parameters[0]
    generator = torch.Generator().manual_seed(0)
    width = like.shape[-1] if like.ndim == 2 else channels
    x = torch.randn(4, width, generator=generator).to(like)
    scale = 2.0 ** torch.randint(-2, 3, (channels,), generator=generator).to(like)
    hooks, module._forward_pre_hooks = (
        module._forward_pre_hooks,
        type(module._forward_pre_hooks)(),
    )
    before = module(x)
    saved = [p.clone() for p in parameters]
    try:
        for p in parameters:
            _divide(p, scale)
        after = module(x)
    finally:
        for p, old in zip(parameters, saved, strict=True):
            p.copy_(old)
        module._forward_pre_hooks = hooks
    if not torch.allclose(after * scale, before, rtol=1e-2, atol=1e-3):
        msg = (
            f'"{path}" ({type(module).__name__}) does not scale its output as its weight is '
            "scaled, so nothing can be folded into it"
        )
        raise CalibrationError(msg)


def check_shared(
    chosen: Sequence[Group], modules: Mapping[str, torch.nn.Module]
) -> None:
    """Refuse weights that other modules use too, or that two groups would divide."""
    owners = Counter(
        id(p) for m in modules.values() for p in m.parameters(recurse=False)
    )
    sources = Counter(group.source for group in chosen)
    readers = Counter(path for group in chosen for path in group.readers)
    for path in (*sources, *readers):
        own = _module(path, modules).parameters(recurse=False)
        if any(owners[id(p)] > 1 for p in own):
            msg = f'"{path}" shares its weight with another module, so it cannot be scaled'
            raise CalibrationError(msg)
        if sources[path] > 1 or readers[path] > 1:
            msg = f'"{path}" has the same part in two groups'
            raise CalibrationError(msg)


def _foldable(
    path: str, module: torch.nn.Module, channels: int
) -> Sequence[torch.Tensor]:
    """Return the parameters that a division of the output is folded into."""
    weight, bias = getattr(module, "weight", None), getattr(module, "bias", None)
    if not isinstance(weight, torch.Tensor) or weight.shape[0] != channels:
        shape = None if weight is None else tuple(weight.shape)
        msg = (
            f'"{path}" has a weight of shape {shape}, but its readers have {channels} input '
            "channels; a source has a weight or a row for each"
        )
        raise CalibrationError(msg)
    return [weight] if bias is None else [weight, bias]


def _divide(parameter: torch.Tensor, scale: torch.Tensor) -> None:
    parameter.div_(scale[:, None] if parameter.ndim == 2 else scale)


def fold(
    group: Group, scale: torch.Tensor, modules: Mapping[str, torch.nn.Module]
) -> None:
    """Divide a source's output by a scale for each channel; multiply its readers' columns."""
    source = modules[group.source]
    for parameter in _foldable(group.source, source, len(scale)):
        _divide(parameter, scale.to(parameter))
    for path in group.readers:
        weight: Any = modules[path].weight
        weight.mul_(scale.to(weight))
