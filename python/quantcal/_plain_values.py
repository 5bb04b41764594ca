"""Options of strategies as plain Python values, so that equal options print and save alike."""

from __future__ import annotations

import numbers
from typing import Any


def as_whole(value: Any) -> int | None:
    """Return a whole number as an int; None for anything else, True and 2.0 included."""
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        return None
    return int(value)


def as_real(value: Any) -> int | float | None:
    """Return a number as an int or a float; None for anything else, True included."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        return None
    return as_whole(value) if isinstance(value, numbers.Integral) else float(value)


def as_flag(value: Any) -> bool | None:
    """Return True or False; None for anything else, 0 and 1 included."""
    if isinstance(value, bool):
        return value
    import numpy as np

    return bool(value) if isinstance(value, np.bool_) else None
