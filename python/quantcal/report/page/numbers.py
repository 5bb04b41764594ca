"""Numbers for the page: short, so that the file is small, and always valid JSON."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np

Number = float | int | str | None


def short(value: Any, digits: int = 4) -> Number:
    """Return a number with few digits; None for NaN, and a text for infinities.

    JSON has neither. The page reads "inf" and "-inf" as numbers.
    """
    if value is None or isinstance(value, bool):
        return None
    if isinstance(value, (int, np.integer)):
        return int(value)
    real = float(value)
    if math.isnan(real):
        return None
    if math.isinf(real):
        return "inf" if real > 0 else "-inf"
    rounded = float(f"{real:.{digits}g}")
    return int(rounded) if rounded.is_integer() and abs(rounded) < 1e6 else rounded


def shorts(values: Iterable[Any], digits: int = 4) -> list[Number]:
    """Return several numbers, each as :func:`short` does."""
    return [short(value, digits) for value in values]
