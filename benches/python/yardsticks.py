"""Simple work that is measured in the same rounds, so that figures of two runs compare."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

READING = "numpy max"
"""Reading the data once, in vector operations."""

ARITHMETIC = "log of 2^18 values"
"""Arithmetic that stays in the cache: searching is not bound by memory."""


def logs() -> Callable[[], Any]:
    """Return the work called `ARITHMETIC`."""
    x = np.linspace(1, 2, 1 << 18)
    out = np.empty_like(x)
    return lambda: np.log(x, out=out)
