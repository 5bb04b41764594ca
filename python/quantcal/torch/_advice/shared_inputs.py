"""Which modules read the same tensor, and how much they compute.

The projections of attention read one tensor, and so do those of a gated layer. Such modules
are quantized together or not at all.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import nn

from quantcal.torch.containers import entries, find_tensors
from quantcal.torch.modules import OBSERVED_TYPES


@dataclass(frozen=True)
class SharedInput:
    """The modules that read one tensor.

    Parameters
    ----------
    paths
        Their paths, in the order of their calls.
    weights
        The number of their weights.
    multiply_adds
        The number in one forward pass of linear and convolution layers; 0 for others.
    """

    paths: tuple[str, ...]
    weights: int
    multiply_adds: int

    @property
    def name(self) -> str:
        """The path of the first module."""
        return self.paths[0]


class _Trace:
    """What the hooks note in one forward pass."""

    def __init__(self) -> None:
        self.group: dict[str, int] = {}
        self.multiply_adds: dict[str, int] = {}
        self._last: tuple[torch.Tensor, int | None, str] | None = None

    def before(
        self, path: str, _: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> None:
        """Put the module into the group of the one before, if both read the same tensor."""
        group = self.group.setdefault(path, len(self.group))
        tensors, _direct = find_tensors([*args, *kwargs.values()])
        if not tensors:
            self._last = None
            return
        tensor = tensors[0]
        version = None if tensor.is_inference() else tensor._version
        if self._last is not None:
            last, last_version, last_path = self._last
            if last is tensor and last_version == version:
                other = self.group[last_path]
                first, second = sorted((group, other))
                for name, number in self.group.items():
                    if number == second:
                        self.group[name] = first
        self._last = tensor, version, path

    def after(self, path: str, module: nn.Module, _: Any, output: Any) -> None:
        """Count the multiply-adds of a call."""
        weight = getattr(module, "weight", None)
        tensors, _direct = find_tensors(entries(output))
        if isinstance(module, OBSERVED_TYPES) and weight is not None and tensors:
            each = weight.numel() // max(weight.shape[0], 1)
            made = tensors[0].numel() * each
            self.multiply_adds[path] = self.multiply_adds.get(path, 0) + made


def find_shared_inputs(
    modules: Mapping[str, nn.Module], run: Callable[[], object]
) -> list[SharedInput]:
    """Return the modules that a forward pass calls, grouped by the tensor that they read.

    Only modules that are called one after the other can share a tensor. Its version shows
    whether it has changed since.

    Parameters
    ----------
    modules
        The modules by path.
    run
        Runs the model once.
    """
    trace = _Trace()
    handles = []
    try:
        for path, module in modules.items():
            before, after = partial(trace.before, path), partial(trace.after, path)
            handles += [
                module.register_forward_pre_hook(before, with_kwargs=True),
                module.register_forward_hook(after),
            ]
        run()
    finally:
        for handle in handles:
            handle.remove()
    groups: dict[int, list[str]] = {}
    for path, number in trace.group.items():
        groups.setdefault(number, []).append(path)
    return [
        SharedInput(
            tuple(paths),
            sum(p.numel() for path in paths for p in modules[path].parameters()),
            sum(trace.multiply_adds.get(path, 0) for path in paths),
        )
        for paths in groups.values()
    ]
