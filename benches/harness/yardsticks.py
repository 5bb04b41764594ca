"""Yardsticks: simple work timed in the same rounds, to compare figures of two runs."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from benches.harness.figures import Sheet
from benches.harness.timing import Seconds

READING = "numpy max"
"""One vectorized pass over the data."""

ARITHMETIC = "log of 2^18 values"
"""Arithmetic in the cache, for work that is not bound by memory."""


def logs() -> Callable[[], Any]:
    """Return the work called `ARITHMETIC`."""
    x = np.linspace(1, 2, 1 << 18)
    out = np.empty_like(x)
    return lambda: np.log(x, out=out)


ONE_THREAD = "arithmetic, 1 thread"
TWO_THREADS = "arithmetic, 2 threads that share nothing"
"""The limit for any speed-up by a second thread: a virtual processor may be half a real one."""


def two_threads() -> dict[str, Callable[[], Any]]:
    """Return the same arithmetic on one thread and on two independent threads."""
    one, other = logs(), logs()
    pool = ThreadPoolExecutor(1)

    def repeat(work: Callable[[], Any]) -> None:
        for _ in range(8):
            work()

    def together() -> None:
        done = pool.submit(repeat, other)
        repeat(one)
        done.result()

    return {ONE_THREAD: lambda: (repeat(one), repeat(other)), TWO_THREADS: together}


def add_speedup_limit(sheet: Sheet, seconds: Seconds) -> None:
    """Add the speed-up of two independent threads."""
    sheet.ratio(TWO_THREADS, "speed-up", seconds[ONE_THREAD], seconds[TWO_THREADS])
