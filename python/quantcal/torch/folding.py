"""Folds a scale per channel into the modules on both sides of a tensor.

Only plain parameters that nothing else uses can be scaled. A weight that is computed in each
forward pass would lose the factor: weight_norm, spectral_norm, pruning, parametrizations.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch.nn.utils import parametrize

from quantcal._core import CalibrationError
from quantcal.torch.groups import Group
from quantcal.torch.modules import did_you_mean


def check_reader(path: str, modules: Mapping[str, torch.nn.Module]) -> torch.Tensor:
    """Return the weight of a reader.

    Raises
    ------
    CalibrationError
        If there is no such module, it is no linear layer, or it computes its weight.
    """
    module = _module(path, modules)
    if not isinstance(module, torch.nn.Linear):
        msg = f'"{path}" is {type(module).__name__}, but only nn.Linear can be a reader'
        raise CalibrationError(msg)
    return _plain_parameter(path, module, "weight")


def check_source(
    path: str, modules: Mapping[str, torch.nn.Module], channels: int
) -> None:
    """Refuse a source without a plain weight, or a row of it, for each channel.

    Raises
    ------
    CalibrationError
        If there is no such module, or its weight or bias cannot be scaled.
    """
    module = _module(path, modules)
    weight = getattr(module, "weight", None)
    linear = isinstance(module, torch.nn.Linear)
    fits = (
        isinstance(weight, torch.Tensor)
        and weight.ndim == (2 if linear else 1)
        and weight.shape[0] == channels
    )
    if not fits:
        shape = tuple(weight.shape) if isinstance(weight, torch.Tensor) else None
        msg = (
            f'"{path}" has a weight of shape {shape}, but its readers have {channels} input '
            "channels; a source has a weight or a row for each"
        )
        raise CalibrationError(msg)
    for name in ("weight", "bias"):
        if getattr(module, name, None) is not None:
            _plain_parameter(path, module, name)


def _plain_parameter(path: str, module: torch.nn.Module, name: str) -> torch.Tensor:
    """Return a parameter that can be scaled in place.

    Raises
    ------
    CalibrationError
        If it is computed from others, or holds no plain floats.
    """
    parameter = module._parameters.get(name)
    if parameter is None:
        kind = "a parametrization" if parametrize.is_parametrized(module) else "a hook"
        msg = (
            f'The {name} of "{path}" is no parameter: {kind} computes it, so a factor would '
            "be lost. First make it one, with parametrize.remove_parametrizations, "
            "remove_weight_norm, remove_spectral_norm or prune.remove of torch.nn.utils."
        )
        raise CalibrationError(msg)
    plain = type(parameter.detach()) is torch.Tensor and not parameter.is_meta
    dense = parameter.layout == torch.strided and parameter.dtype.is_floating_point
    if not plain or not dense or parameter.dtype.itemsize < 2:
        kind = "on meta" if parameter.is_meta else type(parameter).__name__
        msg = (
            f'The {name} of "{path}" is {kind} of {parameter.dtype}, but only dense float '
            "parameters can be scaled"
        )
        raise CalibrationError(msg)
    return parameter


def _module(path: str, modules: Mapping[str, torch.nn.Module]) -> torch.nn.Module:
    if path not in modules:
        msg = f'The model has no module "{path}".{did_you_mean(path, modules)}'
        raise CalibrationError(msg)
    return modules[path]


def check_shared(
    chosen: Sequence[Group], modules: Mapping[str, torch.nn.Module]
) -> None:
    """Refuse memory that other modules use too, or that two groups would divide.

    Raises
    ------
    CalibrationError
        If there is any; names the modules.
    """
    owners = list(_memory(modules))
    sources = Counter(group.source for group in chosen)
    readers = Counter(path for group in chosen for path in group.readers)
    for path in dict.fromkeys((*sources, *readers)):
        own = [part for part in owners if part[0] is _module(path, modules) and part[2]]
        for module, name, (start, end) in own:
            for other, other_name, (first, last) in owners:
                same = other is module and other_name == name
                if not same and first < end and start < last:
                    sharing = next(p for p, m in modules.items() if m is other)
                    msg = (
                        f'"{path}" shares its weight with another module, "{sharing}", so it '
                        "cannot be scaled"
                    )
                    raise CalibrationError(msg)
        if sources[path] > 1 or readers[path] > 1:
            msg = f'"{path}" has the same role in two groups'
            raise CalibrationError(msg)


def _memory(
    modules: Mapping[str, torch.nn.Module],
) -> Iterator[tuple[torch.nn.Module, str, tuple[int, int]]]:
    """Return the memory ranges of the parameters and buffers of each module."""
    for module in modules.values():
        for name, tensor in (*module._parameters.items(), *module._buffers.items()):
            if tensor is None or tensor.is_meta or tensor.layout != torch.strided:
                continue
            try:
                start = tensor.data_ptr()
            except RuntimeError:
                # A subclass that wraps other tensors has no memory.
                continue
            steps = zip(tensor.shape, tensor.stride(), strict=True)
            length = sum((size - 1) * step for size, step in steps) + 1
            if tensor.numel():
                yield module, name, (start, start + length * tensor.element_size())


def foldable_parameters(module: torch.nn.Module) -> list[torch.Tensor]:
    """Return the parameters into which a division of the output is folded."""
    found = (module._parameters.get(name) for name in ("weight", "bias"))
    return [p for p in found if p is not None]


def scales_with_weight(
    module: torch.nn.Module,
    parameters: Sequence[torch.Tensor],
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
) -> bool:
    """Whether scaling a module's weight and bias scales its output channel by channel.

    The function tries scales that are powers of two, and then restores the parameters.
    """
    generator = torch.Generator().manual_seed(0)
    channels = parameters[0].shape[0]
    scale = 2.0 ** torch.randint(-1, 2, (channels,), generator=generator)
    scale = scale.to(parameters[0])
    before = module.forward(*args, **kwargs)
    with ParameterBackup(parameters):
        for p in parameters:
            _divide(p, scale)
        after = module.forward(*args, **kwargs)
    if before.shape[-1:] != scale.shape:
        return False
    wanted, found = before.double(), after.double() * scale.double()
    small = (
        1e-3 * float(wanted.nan_to_num(0, 0, 0).abs().max()) if before.numel() else 0
    )
    return bool(torch.allclose(found, wanted, rtol=1e-2, atol=small, equal_nan=True))


class ParameterBackup:
    """Restores parameters at the end of a block, unless `discard` was called."""

    def __init__(self, parameters: Sequence[torch.Tensor]) -> None:
        self._parameters = parameters
        self._discarded = False

    def __enter__(self) -> ParameterBackup:
        self._before = [p.detach().clone() for p in self._parameters]
        return self

    def discard(self) -> None:
        """Keep the current values of the parameters."""
        self._discarded = True

    def __exit__(self, *_: object) -> None:
        if self._discarded:
            return
        with torch.no_grad():
            for p, before in zip(self._parameters, self._before, strict=True):
                p.copy_(before)


def _divide(parameter: torch.Tensor, scale: torch.Tensor) -> None:
    parameter.div_(scale[:, None] if parameter.ndim == 2 else scale)


def scaled_parameters(
    chosen: Sequence[Group], modules: Mapping[str, torch.nn.Module]
) -> list[torch.Tensor]:
    """Return each parameter that `fold` changes, once."""
    found = [p for group in chosen for p in foldable_parameters(modules[group.source])]
    weights: list[Any] = [
        modules[path].weight for group in chosen for path in group.readers
    ]
    return list({id(p): p for p in (*found, *weights)}.values())


def fold(
    group: Group, scale: torch.Tensor, modules: Mapping[str, torch.nn.Module]
) -> None:
    """Divide a source's output by a scale per channel, and multiply its readers' columns."""
    for parameter in foldable_parameters(modules[group.source]):
        _divide(parameter, scale.to(parameter))
    for path in group.readers:
        weight: Any = modules[path].weight
        weight.mul_(scale.to(weight))
