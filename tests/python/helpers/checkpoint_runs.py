"""Samples and checkpoints of runs that end early."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

import onnx_models as models
import quantcal as qc


def samples(count: int, *, bad: int | None = None) -> list[dict[str, Any]]:
    """Samples of several sizes; one may hold an infinity, which can stop the run."""
    made = [{"x": models.random(1, 3, 6, 5 + n, seed=n)} for n in range(count)]
    if bad is not None:
        made[bad]["x"][0, 0, 0, 0] = np.inf
    return made


def save(folder: Path, feeds: list[dict[str, Any]]) -> Path:
    data = folder / "data"
    data.mkdir(exist_ok=True)
    for number, feed in enumerate(feeds):
        np.savez(data / f"{number}.npz", **feed)
    return data


def failing(count: int, error: BaseException) -> Iterator[dict[str, Any]]:
    yield from samples(count)
    raise error


class Often(qc.onnx.Checkpoint):
    """Writes a checkpoint after each sample."""

    def __init__(self, output: Path, samples: int = 0) -> None:
        super().__init__(output, samples, seconds=0)
