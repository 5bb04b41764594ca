"""Simple work that is measured in the same rounds, so that figures of two runs compare."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from figures import Sheet
from timing import Seconds

READING = "numpy max"
"""Reading the data once, in vector operations."""

ARITHMETIC = "log of 2^18 values"
"""Arithmetic that stays in the cache: searching is not bound by memory."""


def logs() -> Callable[[], Any]:
    """Return the work called `ARITHMETIC`."""
    x = np.linspace(1, 2, 1 << 18)
    out = np.empty_like(x)
    return lambda: np.log(x, out=out)


APART = "arithmetic, 1 thread"
TOGETHER = "arithmetic, 2 threads that share nothing"
"""What a second processor gives at the moment: a virtual one may be half of a real one."""


def beside() -> dict[str, Callable[[], Any]]:
    """Return the same arithmetic in the cache one after the other, and on two threads."""
    one, other = logs(), logs()
    pool = ThreadPoolExecutor(1)

    def repeat(work: Callable[[], Any]) -> None:
        for _ in range(8):
            work()

    def together() -> None:
        done = pool.submit(repeat, other)
        repeat(one)
        done.result()

    return {APART: lambda: (repeat(one), repeat(other)), TOGETHER: together}


def add_beside(sheet: Sheet, seconds: Seconds) -> None:
    """Add how much faster two threads were that share nothing."""
    sheet.ratio(TOGETHER, "faster", seconds[APART], seconds[TOGETHER])
