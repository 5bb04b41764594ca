"""Timing side by side: the competitors take turns, so that a noisy machine is fair to all."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping

import quantcal as qc

Seconds = dict[str, list[float]]
"""The seconds of each piece of work, in the order in which they were measured."""


def interleave(
    work: Mapping[str, Callable[[], object]],
    *,
    rounds: int,
    threads: Mapping[str, int] | None = None,
) -> Seconds:
    """Return the seconds of each piece of work, `rounds` times each, in turns.

    Everything runs once beforehand, uncounted. quantcal has one thread, or as many as
    `threads` says for a piece of work; they are started outside the measured time.
    """
    before = qc.get_num_threads()
    seconds: Seconds = {name: [] for name in work}
    for turn in range(rounds + 1):
        for name, run in work.items():
            wanted = (threads or {}).get(name, 1)
            if wanted != qc.get_num_threads():
                qc.set_num_threads(wanted)
            start = time.perf_counter()
            run()
            elapsed = time.perf_counter() - start
            if turn:
                seconds[name].append(elapsed)
    qc.set_num_threads(before)
    return seconds


def show(title: str, seconds: Seconds, *, per: float, unit: str, ours: str) -> None:
    """Print medians (with extremes) and how often ours fits into each."""
    print(f"\n{title}")
    base = statistics.median(seconds[ours])
    for name, times in sorted(seconds.items(), key=lambda item: min(item[1])):
        median, low, high = statistics.median(times), min(times), max(times)
        print(
            f"  {name:<42} {median / per:9.3f} {unit}"
            f"  [{low / per:.3f} … {high / per:.3f}]  {median / base:8.2f} ×"
        )
