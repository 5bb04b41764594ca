"""Timing side by side: the competitors take turns, so that a noisy machine is fair to all."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping

from machine import Others

import quantcal as qc

SETTLING = 0.2
"""Seconds that new threads are given to spread over the processors."""

Seconds = dict[str, list[float]]
"""The seconds of each piece of work, in the order in which they were measured."""

BUSY = 0.05
"""The share of the processors beyond which other programs spoil a round."""

PATIENCE = 3
"""How many times as many rounds are made, at most, until enough of them were quiet."""


def interleave(
    work: Mapping[str, Callable[[], object]],
    *,
    rounds: int,
    threads: Mapping[str, int] | None = None,
) -> Seconds:
    """Return the seconds of each piece of work, `rounds` times each, in turns.

    Everything runs once beforehand, uncounted. quantcal has one thread, or as many as
    `threads` says for a piece of work. When the number changes, that piece of work runs for a
    while outside the measured time: new threads start on one processor, and part after tens of
    milliseconds. A program's threads live long, and other libraries keep theirs from round to
    round.

    While other programs are busy, more rounds are made, and those count in which they took
    least of the processors: what is kept is chosen by what others did, never by the times.
    """
    before = qc.get_num_threads()
    _round(work, threads or {})
    made: list[tuple[float, dict[str, float]]] = []
    quiet = 0
    while quiet < rounds and len(made) < PATIENCE * rounds:
        others = Others()
        seconds = _round(work, threads or {})
        share = others.share() or 0.0
        made.append((share, seconds))
        quiet += share <= BUSY
    qc.set_num_threads(before)
    calm = sorted(range(len(made)), key=lambda i: made[i][0])[:rounds]
    return {name: [made[i][1][name] for i in sorted(calm)] for name in work}


def _round(
    work: Mapping[str, Callable[[], object]], threads: Mapping[str, int]
) -> dict[str, float]:
    seconds = {}
    for name, run in work.items():
        wanted = threads.get(name, 1)
        if wanted != qc.get_num_threads():
            qc.set_num_threads(wanted)
            if wanted > 1:
                settled = time.perf_counter() + SETTLING
                while time.perf_counter() < settled:
                    run()
        start = time.perf_counter()
        run()
        seconds[name] = time.perf_counter() - start
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
