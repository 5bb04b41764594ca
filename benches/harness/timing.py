"""Timing in turns: all competitors see the same noise of the machine."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping

import quantcal as qc
from benches.harness.machine import OtherLoad

SETTLING = 0.2
"""Seconds for which new threads run before they are timed.

They start on one processor and take tens of milliseconds to spread."""

Seconds = dict[str, list[float]]
"""The seconds of each piece of work, round by round."""

BUSY = 0.05
"""A round is disturbed if other programs use more than this share of the processors."""

MAX_ROUNDS = 3
"""At most this many times the wanted rounds are made to get enough undisturbed ones."""


def interleave(
    work: Mapping[str, Callable[[], object]],
    *,
    rounds: int,
    threads: Mapping[str, int] | None = None,
) -> Seconds:
    """Return the seconds of each piece of work, `rounds` times each, in turns.

    A first round is not counted. quantcal uses one thread, or the number in `threads`. After
    that number changes, the work runs for `SETTLING` seconds before it is timed.

    If other programs are busy, more rounds are made, and the least disturbed ones are kept.
    The choice depends on the load of others only, never on the measured times.
    """
    before = qc.get_num_threads()
    _round(work, threads or {})
    made: list[tuple[float, dict[str, float]]] = []
    quiet = 0
    while quiet < rounds and len(made) < MAX_ROUNDS * rounds:
        load = OtherLoad()
        seconds = _round(work, threads or {})
        share = load.share() or 0.0
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
    """Print medians with minimum and maximum, and each median as a multiple of ours."""
    print(f"\n{title}")
    base = statistics.median(seconds[ours])
    for name, times in sorted(seconds.items(), key=lambda item: min(item[1])):
        median, low, high = statistics.median(times), min(times), max(times)
        print(
            f"  {name:<42} {median / per:9.3f} {unit}"
            f"  [{low / per:.3f} … {high / per:.3f}]  {median / base:8.2f} ×"
        )
