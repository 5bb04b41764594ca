"""A word about a loss: squared error over variance."""

from __future__ import annotations

SMALL_LOSS = 0.01
LARGE_LOSS = 0.1
"""The limits of 20 and 10 dB as squared error over variance. Layers are judged by it: a large
mean that a later normalization removes hides errors from the SQNR."""


def judge_loss(loss: float) -> str:
    """Return "small", "noticeable" or "large"."""
    if loss <= SMALL_LOSS:
        return "small"
    return "noticeable" if loss <= LARGE_LOSS else "large"
