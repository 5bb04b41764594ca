"""Which positions of a tensor count: padding and the first tokens of a sequence do not.

Padding follows from the attention mask among the model's inputs; attention sinks, the first
tokens, on which language models put their massive activations, from `skip_positions`.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable
from typing import Any, TypeAlias

import torch
from torch import nn

from quantcal._core import CalibrationError
from quantcal._text import shown
from quantcal.torch.forwards import Forward

Mask: TypeAlias = "str | Callable[[str, torch.Tensor], torch.Tensor | None] | None"
Parts: TypeAlias = "list[tuple[str, torch.Tensor, torch.Tensor | None]]"
"""Suffix of the name, the tensor, and which of its leading positions count; None for all."""

SKIPPED = ":skipped"


class Positions:
    """Divides a tensor into what counts, what is recorded apart, and what is left out."""

    def __init__(
        self, model: nn.Module, mask: Mask, skip: int, record_skipped: bool
    ) -> None:
        if isinstance(skip, bool) or not isinstance(skip, int) or skip < 0:
            msg = (
                f"skip_positions is {shown(skip)}, but it must be 0 or a positive whole "
                "number"
            )
            raise CalibrationError(msg)
        if mask is not None and not isinstance(mask, str) and not callable(mask):
            msg = (
                'mask must be the name of one of the model\'s inputs ("attention_mask"), or '
                f"a callable, not {type(mask).__name__}"
            )
            raise TypeError(msg)
        self._signature = inspect.signature(model.forward)
        if isinstance(mask, str) and not _takes(self._signature, mask):
            known = ", ".join(self._signature.parameters)
            msg = f'mask="{mask}", but the model\'s inputs are {known}; give a callable'
            raise CalibrationError(msg)
        self._mask = mask
        self._skip = skip
        self._record_skipped = record_skipped
        self._told = False

    @property
    def all(self) -> bool:
        """Whether everything counts."""
        return self._mask is None and not self._skip

    @property
    def by_name(self) -> bool:
        """Whether what counts depends on the tensor's name."""
        return callable(self._mask)

    def divide(self, name: str, tensor: torch.Tensor, forward: Forward | None) -> Parts:
        """Return the parts of a tensor to record.

        Raises
        ------
        CalibrationError
            If the mask does not fit the tensor.
        """
        if self.all:
            return [("", tensor, None)]
        masks = self._masks(name, tensor, forward)
        if masks is not None:
            return [(suffix, tensor, mask) for suffix, mask in masks]
        if not self._skip or tensor.ndim < 2:
            return [("", tensor, None)]
        positions = tensor.shape[-2]
        first = min(self._skip, positions)
        parts: Parts = [("", tensor.narrow(-2, first, positions - first), None)]
        if self._record_skipped:
            parts.append((SKIPPED, tensor.narrow(-2, 0, first), None))
        return parts

    def _masks(
        self, name: str, tensor: torch.Tensor, forward: Forward | None
    ) -> list[tuple[str, torch.Tensor]] | None:
        """Return the masks of a tensor's parts, of the shape of its leading axes."""
        if callable(self._mask):
            keep = self._mask(name, tensor)
            if keep is None:
                return None
            keep = _as_bool(keep, f'tensor "{name}"').to(tensor.device)
            if keep.shape != tensor.shape[: keep.ndim]:
                raise CalibrationError(_misfit(name, tensor, keep))
            return self._without_first(keep)
        if self._mask is None:
            return None
        if forward is None:
            self._tell_of_no_forward(name)
            return None
        if "masks" not in forward.notes:
            keep = self._given(forward)
            forward.notes["masks"] = keep if keep is None else self._without_first(keep)
        masks = forward.notes["masks"]
        if masks is None or _is_pooled(name, tensor, masks[0][1]):
            return None
        return [
            (
                suffix,
                mask.to(tensor.device).reshape(-1 if tensor.ndim == 2 else mask.shape),
            )
            for suffix, mask in masks
        ]

    def _tell_of_no_forward(self, name: str) -> None:
        if self._told:
            return
        self._told = True
        msg = (
            f'Tensor "{name}" was recorded whole, padding included: its module was called '
            f'outside the model\'s forward, where there is no input "{self._mask}". Call the '
            "model, or give mask= a callable."
        )
        warnings.warn(msg, UserWarning, stacklevel=2)

    def _without_first(self, keep: torch.Tensor) -> list[tuple[str, torch.Tensor]]:
        """Skip real positions: with padding on the left, the first token is further on."""
        if not self._skip:
            return [("", keep)]
        skipped = keep & (keep.cumsum(-1) <= self._skip)
        masks = [("", keep & ~skipped)]
        return [*masks, (SKIPPED, skipped)] if self._record_skipped else masks

    def _given(self, forward: Forward) -> torch.Tensor | None:
        """Look the mask up among the inputs of the forward that is running."""
        name = str(self._mask)
        bound = self._signature.bind_partial(*forward.args, **forward.kwargs).arguments
        extra: dict[str, Any] = next(
            (
                bound.get(p.name, {})
                for p in self._signature.parameters.values()
                if p.kind is p.VAR_KEYWORD
            ),
            {},
        )
        mask = bound.get(name, extra.get(name))
        if mask is None:
            return None
        keep = _as_bool(mask, f'input "{name}"')
        if keep.ndim != 2:
            msg = (
                f'Input "{name}" has the shape {list(keep.shape)}, but only masks of [batch, '
                "positions] can be used; give a callable."
            )
            raise CalibrationError(msg)
        # What torch.nn calls a padding mask is true where there is padding.
        return ~keep if name.endswith("padding_mask") else keep


def _takes(signature: inspect.Signature, name: str) -> bool:
    any_name = any(p.kind is p.VAR_KEYWORD for p in signature.parameters.values())
    return bool(any_name or name in signature.parameters)


def _as_bool(mask: Any, name: str) -> torch.Tensor:
    if (
        not isinstance(mask, torch.Tensor)
        or mask.is_floating_point()
        or mask.is_complex()
    ):
        kind = mask.dtype if isinstance(mask, torch.Tensor) else type(mask).__name__
        msg = (
            f"The mask of {name} is {kind}, but it must be a tensor of bool or whole numbers, "
            "true where a position counts; additive masks must be compared with 0 first."
        )
        raise TypeError(msg)
    return mask.detach() != 0


def _is_pooled(name: str, tensor: torch.Tensor, mask: torch.Tensor) -> bool:
    """Whether a tensor has one vector a sample; refuse one that the mask does not fit."""
    batch, positions = mask.shape
    if tensor.ndim >= 3 and tuple(tensor.shape[:2]) == (batch, positions):
        return False
    if tensor.ndim == 2 and tensor.shape[0] == batch * positions:
        return False
    if tensor.ndim == 2 and tensor.shape[0] == batch:
        return True
    raise CalibrationError(_misfit(name, tensor, mask))


def _misfit(name: str, tensor: torch.Tensor, mask: torch.Tensor) -> str:
    return (
        f'Tensor "{name}" has the shape {list(tensor.shape)}, which a mask of '
        f"{list(mask.shape)} does not fit; exclude the module, or give a callable that "
        "returns the mask of each tensor, or None."
    )
