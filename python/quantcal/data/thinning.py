"""Fewer items that still come from everywhere."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

_T = TypeVar("_T")


def spread(items: Sequence[_T], most: int | None) -> Sequence[_T]:
    """Return at most so many of the items, spread evenly over all; None for all.

    Items that are not chosen are not touched: reading one may decode an image.
    """
    count = len(items)
    if most is None or count <= most:
        return items
    return [items[place * count // most] for place in range(most)]
