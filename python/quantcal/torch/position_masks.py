"""Selects the positions of a tensor that are recorded: no padding, no first tokens.

Padding follows from the attention mask among the model's inputs. Language models put their
massive activations on the first tokens, the attention sinks; `skip_positions` leaves them out.
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
from quantcal.torch.forward_passes import ForwardPass

Mask: TypeAlias = "str | Callable[[str, torch.Tensor], torch.Tensor | None] | None"
Parts: TypeAlias = "list[tuple[str, torch.Tensor, torch.Tensor | None]]"
"""Name suffix, tensor, and mask of its leading axes; None records all positions."""

SKIPPED = ":skipped"


class PositionMasks:
    """Divides a tensor into its recorded part and its skipped part.

    Parameters
    ----------
    model
        The model that is observed, for the names of its inputs.
    mask, skip, record_skipped
        `mask`, `skip_positions` and `record_skipped` of `observe`.

    Raises
    ------
    TypeError
        If `mask` is neither a name nor a callable.
    CalibrationError
        If `skip` is negative, or the model has no input of the name.
    """

    def __init__(
        self, model: nn.Module, mask: Mask, skip: int, record_skipped: bool
    ) -> None:
        if isinstance(skip, bool) or not isinstance(skip, int) or skip < 0:
            msg = f"skip_positions is {shown(skip)}, but it must be 0 or a positive integer"
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
        self._warned = False

    @property
    def by_name(self) -> bool:
        """Whether the mask depends on the tensor's name."""
        return callable(self._mask)

    def divide(
        self, name: str, tensor: torch.Tensor, forward: ForwardPass | None
    ) -> Parts:
        """Return the parts of a tensor to record.

        Raises
        ------
        CalibrationError
            If the mask does not fit the tensor.
        """
        if self._mask is None and not self._skip:
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
        self, name: str, tensor: torch.Tensor, forward: ForwardPass | None
    ) -> list[tuple[str, torch.Tensor]] | None:
        """Return a mask for each part, in the shape of the tensor's leading axes."""
        if callable(self._mask):
            keep = self._mask(name, tensor)
            if keep is None:
                return None
            keep = _as_bool(keep, f'tensor "{name}"').to(tensor.device)
            if keep.shape != tensor.shape[: keep.ndim]:
                raise CalibrationError(_mismatch(name, tensor, keep))
            return self._split_mask(keep)
        if self._mask is None:
            return None
        if forward is None:
            self._warn_of_no_forward(name)
            return None
        if "masks" not in forward.notes:
            keep = self._input_mask(forward)
            forward.notes["masks"] = keep if keep is None else self._split_mask(keep)
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

    def _warn_of_no_forward(self, name: str) -> None:
        if self._warned:
            return
        self._warned = True
        msg = (
            f'Tensor "{name}" was recorded whole, padding included: its module was called '
            f'outside the model\'s forward, where there is no input "{self._mask}". Call the '
            "model, or give mask= a callable."
        )
        warnings.warn(msg, UserWarning, stacklevel=2)

    def _split_mask(self, keep: torch.Tensor) -> list[tuple[str, torch.Tensor]]:
        """Split a mask into recorded and skipped positions; padding is never skipped."""
        if not self._skip:
            return [("", keep)]
        skipped = keep & (keep.cumsum(-1) <= self._skip)
        masks = [("", keep & ~skipped)]
        return [*masks, (SKIPPED, skipped)] if self._record_skipped else masks

    def _input_mask(self, forward: ForwardPass) -> torch.Tensor | None:
        """Return the mask among the inputs of the forward pass that is running."""
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
        # A padding mask of torch.nn is true at the padding.
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
            f"The mask of {name} is {kind}, but it must be a tensor of bools or integers, "
            "true at the positions to record. Compare an additive mask with 0 first."
        )
        raise TypeError(msg)
    return mask.detach() != 0


def _is_pooled(name: str, tensor: torch.Tensor, mask: torch.Tensor) -> bool:
    """Whether a tensor has one vector per sample; refuse one that the mask does not fit."""
    batch, positions = mask.shape
    if tensor.ndim >= 3 and tuple(tensor.shape[:2]) == (batch, positions):
        return False
    if tensor.ndim == 2 and tensor.shape[0] == batch * positions:
        return False
    if tensor.ndim == 2 and tensor.shape[0] == batch:
        return True
    raise CalibrationError(_mismatch(name, tensor, mask))


def _mismatch(name: str, tensor: torch.Tensor, mask: torch.Tensor) -> str:
    return (
        f'Tensor "{name}" has the shape {list(tensor.shape)}, which a mask of '
        f"{list(mask.shape)} does not fit. Exclude the module, or give a callable that "
        "returns the mask of each tensor, or None."
    )
