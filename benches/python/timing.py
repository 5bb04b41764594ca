"""Timing side by side: the competitors take turns, so that a noisy machine is fair to all."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable


def interleave(
    work: dict[str, Callable[[], object]], *, rounds: int
) -> dict[str, list[float]]:
    """Return the seconds of each piece of work, `rounds` times each, in turns.

    Everything runs once beforehand, uncounted.
    """
    for run in work.values():
        run()
    seconds: dict[str, list[float]] = {name: [] for name in work}
    for _ in range(rounds):
        for name, run in work.items():
            start = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - start)
    return seconds


def show(
    title: str, seconds: dict[str, list[float]], *, per: float, unit: str, ours: str
) -> None:
    """Print medians (with extremes) and how often ours fits into each."""
    print(f"\n{title}")
    base = statistics.median(seconds[ours])
    for name, times in sorted(seconds.items(), key=lambda item: min(item[1])):
        median, low, high = statistics.median(times), min(times), max(times)
        print(
            f"  {name:<42} {median / per:9.3f} {unit}"
            f"  [{low / per:.3f} … {high / per:.3f}]  {median / base:8.2f} ×"
        )
