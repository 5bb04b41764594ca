"""Losses of a language model, stored window by window; perplexity with intervals."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

WINDOW = 512
"""Tokens read at once. The first one is given, the other 511 are predicted."""

BLOCK = (
    73  # 511 = 7 * 73: the bootstrap draws blocks, as neighboring losses are similar
)


def windows(tokens: list[int], number: int) -> Tensor:
    """Return the first `number` windows of a text, [number, WINDOW]."""
    needed = number * WINDOW
    if len(tokens) < needed:
        raise ValueError(
            f"{number} windows need {needed} tokens, but the text has {len(tokens)}. "
            "Ask for fewer windows."
        )
    return torch.tensor(tokens[:needed]).view(number, WINDOW)


@dataclass(frozen=True)
class Perplexity:
    """Perplexity, and its ratio to the float model's with a 95 % interval."""

    value: float
    ratio: float
    low: float
    high: float
    tokens: int


def perplexity(
    measured: NDArray[np.float32], reference: NDArray[np.float32], *, draws: int = 4000
) -> Perplexity:
    """Compare losses with the float model's on the same tokens.

    The interval of the ratio is a bootstrap of blocks of 73 tokens. Both models read the same
    text, so differences between its parts cancel. The reference may have more windows; these
    are not used.
    """
    flat = measured.ravel()
    other = reference.ravel()[: flat.size]
    more = (flat.astype(np.float64) - other).reshape(-1, BLOCK).mean(axis=1)
    drawn = np.random.default_rng(0).integers(len(more), size=(draws, len(more)))
    low, high = np.percentile(more[drawn].mean(axis=1), [2.5, 97.5])
    return Perplexity(
        value=_exp(flat.mean(dtype=np.float64)),
        ratio=_exp(more.mean()),
        low=_exp(low),
        high=_exp(high),
        tokens=flat.size,
    )


def _exp(x: float) -> float:
    return float(np.exp(min(x, 700.0)))


class Results:
    """Losses by configuration and window in a folder, so that a run can be continued.

    The key is a digest of the configuration's content (ranges, formats), not its name. So equal
    configurations are computed once, and changed ones again.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def has(self, digest: str, window: Tensor) -> bool:
        """Return whether the losses of a window are stored."""
        return self._path(digest, window).is_file()

    def load(self, digest: str, window: Tensor) -> NDArray[np.float32]:
        """Return the losses of a window."""
        losses: NDArray[np.float32] = np.load(self._path(digest, window))
        return losses

    def save(self, digest: str, window: Tensor, losses: NDArray[np.float32]) -> None:
        """Store the losses of a window atomically."""
        path = self._path(digest, window)
        part = path.with_suffix(".part")
        with part.open("wb") as file:
            np.save(file, losses)
        part.replace(path)

    def _path(self, digest: str, window: Tensor) -> Path:
        key = digest.encode() + window.numpy().tobytes()
        return self._folder / f"{hashlib.sha256(key).hexdigest()[:32]}.npy"


def digest_of(content: object) -> str:
    """Return a digest of plain data."""
    text = json.dumps(content, sort_keys=True).encode()
    return hashlib.sha256(text).hexdigest()
