"""Fewer samples that still come from everywhere."""

from __future__ import annotations

from collections.abc import Sequence


def spread(samples: Sequence[int], most: int) -> list[int]:
    """Return at most so many of the samples, spread evenly over all."""
    count = len(samples)
    if count <= most:
        return list(samples)
    return [samples[place * count // most] for place in range(most)]
