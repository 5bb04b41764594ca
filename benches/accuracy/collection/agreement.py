"""How decisions of a quantized network are compared with labels or with the float model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from benches.accuracy.collection.case import Array, Rate


def with_labels(labels: Sequence[Any]) -> Rate:
    """Return a rate that compares with true answers, one for each sample."""
    return lambda _, found: [float(a == b) for a, b in zip(found, labels, strict=True)]


def same(expected: list[Any], found: list[Any]) -> list[float]:
    """Return 1 for each decision that is the float model's."""
    return [float(a == b) for a, b in zip(expected, found, strict=True)]


def within(tolerance: float) -> Rate:
    """Return a rate that accepts numbers within `tolerance` of the float model's."""
    return lambda expected, found: [
        float(np.all(np.abs(a - b) <= tolerance))
        for a, b in zip(expected, found, strict=True)
    ]


def overlap(expected: list[Array], found: list[Array]) -> list[float]:
    """Return the F1 score (Dice) of boolean arrays; 1 where both are empty."""
    rates = []
    for a, b in zip(expected, found, strict=True):
        both = a.sum() + b.sum()
        rates.append(float(2 * (a & b).sum() / both) if both else 1.0)
    return rates


def same_neighbor(expected: list[Array], found: list[Array]) -> list[float]:
    """Return 1 for each vector whose nearest other vector is that of the float model."""

    def nearest(vectors: list[Array]) -> Array:
        stacked = np.stack([v.ravel() for v in vectors]).astype(np.float64)
        stacked /= np.maximum(np.linalg.norm(stacked, axis=1, keepdims=True), 1e-30)
        likeness = stacked @ stacked.T
        np.fill_diagonal(likeness, -np.inf)
        best: Array = likeness.argmax(axis=1)
        return best

    return (nearest(expected) == nearest(found)).astype(float).tolist()


def frames(matches: Callable[[Any, Any], Array]) -> Rate:
    """Return a rate that is the share of a sample's frames that match."""
    return lambda expected, found: [
        float(matches(a, b).mean()) for a, b in zip(expected, found, strict=True)
    ]
