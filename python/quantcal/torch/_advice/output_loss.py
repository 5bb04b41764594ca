"""How far a quantized model's outputs are from the float model's, as one number."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import torch
from torch import nn

from quantcal._core import CalibrationError
from quantcal._text import shown

Outputs: TypeAlias = "list[torch.Tensor]"
Loss: TypeAlias = "str | Callable[[Outputs, Outputs], float]"

METHODS = {
    "kl": "KL divergence from the float model per token, in nats",
    "error": "squared error of the outputs over their variance",
}

_ROWS = 64
"""Tokens whose probabilities are computed at once: with 50,000 words they take 13 MB."""


def choose_loss(
    loss: Loss, model: nn.Module, inputs: Sequence[torch.Tensor], outputs: Outputs
) -> str | Callable[[Outputs, Outputs], float]:
    """Return the loss that "auto" means for a model, or the one that was given.

    It is "kl" for a language model: it gets integers of shape [batch, tokens], and returns
    floats of shape [batch, tokens, words], with as many words as an embedding has rows.

    Raises
    ------
    CalibrationError
        If there is no such loss, or the outputs have no tensor for it.
    """
    if callable(loss):
        return loss
    if loss not in ("auto", *METHODS):
        allowed = ", ".join(f'"{name}"' for name in ("auto", *METHODS))
        msg = f"loss is {shown(loss)}, but it must be one of {allowed}, or a callable"
        raise CalibrationError(msg)
    floats = [t for t in outputs if t.is_floating_point()]
    if not floats:
        msg = (
            "The model's outputs hold no tensor of floats, so no error can be computed. "
            "Give loss= a callable that gets both models' outputs."
        )
        raise CalibrationError(msg)
    if loss == "auto":
        words = {m.num_embeddings for m in model.modules() if _is_embedding(m)}
        tokens = {t.shape for t in inputs if not t.is_floating_point() and t.ndim == 2}
        first = floats[0]
        is_text = (
            first.ndim == 3 and first.shape[:2] in tokens and first.shape[2] in words
        )
        return "kl" if is_text else "error"
    return loss


def _is_embedding(module: nn.Module) -> bool:
    return isinstance(module, nn.Embedding)


def measure_loss(
    loss: str | Callable[[Outputs, Outputs], float],
    wanted: Outputs,
    found: Outputs,
    sample: int,
) -> float:
    """Return the loss of one sample's outputs, 0 or more.

    Raises
    ------
    CalibrationError
        If the outputs differ in number or shape, or a caller's loss is no such number.
    """
    if callable(loss):
        value: Any = loss(wanted, found)
        try:
            number = float(value)
        except (TypeError, ValueError):
            number = math.nan
        if math.isnan(number) or number < 0:
            msg = (
                f"loss returned {shown(value, 40)} for sample {sample}; it must return a "
                "number that is not negative, 0 for equal outputs"
            )
            raise CalibrationError(msg)
        return number
    pairs = [
        (w, f) for w, f in zip(wanted, found, strict=False) if w.is_floating_point()
    ]
    if len(wanted) != len(found) or any(w.shape != f.shape for w, f in pairs):
        msg = (
            f"The outputs of sample {sample} change their number or shape when tensors are "
            "quantized. Give loss= a callable that compares them."
        )
        raise CalibrationError(msg)
    if loss == "kl":
        return divergence(*pairs[0])
    errors = [relative_variance_error(w, f) for w, f in pairs]
    return math.fsum(errors) / len(errors)


def divergence(wanted: torch.Tensor, found: torch.Tensor) -> float:
    """Return the Kullback-Leibler divergence of the found distributions from the wanted.

    Parameters
    ----------
    wanted, found
        Logits [..., words].

    Returns
    -------
    The mean over all tokens, in nats; infinite if the found logits are not finite.
    """
    words = wanted.shape[-1]
    total, tokens = 0.0, 0
    pairs = zip(
        wanted.reshape(-1, words).split(_ROWS),
        found.reshape(-1, words).split(_ROWS),
        strict=True,
    )
    for want, got in pairs:
        log_p = want.float().log_softmax(dim=-1)
        log_q = got.float().log_softmax(dim=-1)
        p = log_p.exp()
        # A word of probability 0 has no part, though its logarithms may be infinite.
        parts = torch.where(p > 0, p * (log_p - log_q), 0.0)
        total += float(parts.double().sum())
        tokens += len(want)
    mean = total / max(tokens, 1)
    return math.inf if math.isnan(mean) else max(mean, 0.0)


def relative_variance_error(wanted: torch.Tensor, found: torch.Tensor) -> float:
    """Return the squared error of a tensor over the variance of the wanted values.

    Places where the wanted values are not finite do not count. It is infinite where only the
    found ones are not.
    """
    finite = wanted.isfinite()
    a, b = wanted[finite].double(), found[finite].double()
    error = float((a - b).square().sum())
    if error == 0:
        return 0.0
    # A constant output has no variance; its square is the next best measure.
    size = float((a - a.mean()).square().sum()) or float(a.square().sum()) or 1.0
    return math.inf if math.isnan(error) else error / size
