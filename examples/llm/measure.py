"""Losses of a language model, window by window, kept on disk; perplexity with intervals."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .smollm2 import LlamaForCausalLM

WINDOW = 512
"""Tokens read at once; the first of them is given, the other 511 are predicted."""

PIECE = 1024  # words of the vocabulary whose logits are made at once

BLOCK = 73  # 511 = 7 * 73: what the bootstrap draws; neighbouring losses are alike


def windows(tokens: list[int], number: int) -> Tensor:
    """Return the first `number` windows of a text, [number, WINDOW]."""
    needed = number * WINDOW
    if len(tokens) < needed:
        raise ValueError(f"{needed} tokens are wanted, but the text has {len(tokens)}.")
    return torch.tensor(tokens[:needed]).view(number, WINDOW)


@torch.no_grad()  # inference mode has no versions, by which layers share what they read
def losses(model: LlamaForCausalLM, window: Tensor) -> NDArray[np.float32]:
    """Return the negative log-likelihood of each predicted token of one window, in nats.

    All logits of a window are 100 MB: they are summed by pieces of the vocabulary, which
    stay in the cache. The head itself is never quantised here.
    """
    states, words = model.model(window[None])[0, :-1], model.lm_head.weight
    sums = [torch.logsumexp(states @ some.T, dim=1) for some in words.split(PIECE)]
    likely = (states * words[window[1:]]).sum(dim=1)
    return (torch.logsumexp(torch.stack(sums), dim=0) - likely).numpy()


@dataclass(frozen=True)
class Perplexity:
    """Perplexity, and how many times the float model's it is, with a 95 % interval."""

    value: float
    ratio: float
    low: float
    high: float
    tokens: int


def perplexity(
    measured: NDArray[np.float32], reference: NDArray[np.float32], *, draws: int = 4000
) -> Perplexity:
    """Compare losses with the float model's on the same tokens.

    The interval is that of the ratio, by a bootstrap of blocks of 73 tokens: both models
    read the same text, so the differences between its parts cancel. Losses of all windows
    of the reference beyond those measured are left out.
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
    """Losses by configuration and text in a folder, so that a run can be continued.

    A configuration is known by a digest of what it is (ranges, formats, texts), not by its
    name: what is equal is computed once, and what has changed is computed again.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def losses(
        self,
        content: object,
        text: Tensor,
        model: LlamaForCausalLM,
        context: Callable[[], AbstractContextManager[object]],
    ) -> list[NDArray[np.float32]]:
        """Return the losses of each window of a text; enter the context if one is missing."""
        paths = [self._folder / f"{_digest(content, window)}.npy" for window in text]
        missing = [i for i, path in enumerate(paths) if not path.is_file()]
        if missing:
            start = time.perf_counter()
            with context():
                for i in missing:
                    part = paths[i].with_suffix(".part")
                    with part.open("wb") as file:
                        np.save(file, losses(model, text[i]))
                    part.replace(paths[i])
                    self._log(time.perf_counter() - start)
                    start = time.perf_counter()
        return [np.load(path) for path in paths]

    def _log(self, seconds: float) -> None:
        with (self._folder / "seconds.txt").open("a", encoding="utf-8") as file:
            file.write(f"{seconds:.3f}\n")

    def told(self) -> str:
        """Return how many windows were read, and how long it took: now and in runs before."""
        path = self._folder / "seconds.txt"
        took = path.read_text("utf-8").split() if path.is_file() else []
        return f"{len(took)} in {sum(map(float, took)) / 60:.1f}"


def _digest(content: object, window: Tensor) -> str:
    told = json.dumps(content, sort_keys=True).encode() + window.numpy().tobytes()
    return hashlib.sha256(told).hexdigest()[:32]
