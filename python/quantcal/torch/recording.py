"""What the hooks see, counted at once and added to a calibrator forward by forward."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from quantcal import Calibrator
from quantcal._decide import Stats
from quantcal.torch.forwards import Forward


class Recording:
    """Counts tensors, and adds what a complete forward saw to the calibrator."""

    def __init__(
        self, calibrator: Calibrator | None, *, axis: int | None, merge_calls: bool
    ) -> None:
        self.calibrator = Calibrator() if calibrator is None else calibrator
        self._axis = axis
        self._merge_calls = merge_calls

    def weights(self, modules: dict[str, nn.Module], axis: int | None) -> None:
        """Record the weights of modules, as far as they have any."""
        named = {
            f"{path}:weight": getattr(m, "weight", None) for path, m in modules.items()
        }
        self.calibrator.observe_many(
            {
                name: w.detach()
                for name, w in named.items()
                if isinstance(w, torch.Tensor)
            },
            axis=axis,
        )

    def of(self, name: str, tensor: torch.Tensor, keep: torch.Tensor | None) -> Stats:
        """Count one tensor, or the positions of it that are kept."""
        values = readable(name, tensor)
        if keep is not None:
            values = values[keep]
        calibrator = self.calibrator
        return calibrator._record(name, calibrator._empty(self._axis), values)

    def include(self, forward: Forward) -> None:
        """Add what a complete forward saw: all of it, or nothing after an error."""
        parts: list[tuple[str, Any]] = []
        for path, call, (suffix, record) in forward.records:
            several = forward.calls[path] > 1 and not self._merge_calls
            parts.append(
                (f"{path}#{call}{suffix}" if several else path + suffix, record)
            )
        self.calibrator._include(parts)

    def close(self) -> None:
        """Fetch what is still elsewhere."""


def readable(name: str, tensor: torch.Tensor) -> torch.Tensor:
    """Return a tensor's plain values, without a copy where its memory holds them.

    Raises
    ------
    TypeError
        If it is not dense, holds no values, or holds something else than floats.
    """
    tensor = tensor.detach()
    if tensor.layout != torch.strided or tensor.is_quantized or tensor.is_meta:
        kind = "a meta tensor" if tensor.is_meta else f"{tensor.layout}, {tensor.dtype}"
        msg = f'Tensor "{name}" is {kind}; only dense tensors of floats can be observed'
        raise TypeError(msg)
    return tensor.resolve_neg()
