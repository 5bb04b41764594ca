"""Which tensors lose most when each is rounded alone, found by groups first.

Losses of single tensors add up nearly, as their errors are nearly independent. So a group
whose joint loss is small has no guilty tensor in it, and one run clears it as a whole. All
other tensors stay in float: what a tensor costs then does not depend on its neighbors, and
a ranking is right even where the whole quantized model has collapsed.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from quantcal.onnx._choose.time_limit import is_late
from quantcal.onnx._trial.trial_session import Grids, only
from quantcal.onnx._trial.trials import Trials

_SMALL = 0.02  # of the largest loss: a group below is not divided further


@dataclass(frozen=True, slots=True)
class Suspects:
    """A group of rows, and the loss when only they are rounded."""

    rows: tuple[int, ...]
    loss: float


def find_suspects(
    trials: Trials,
    grids: Sequence[Grids],
    indices: Sequence[int],
    *,
    runs: int,
    rows: Sequence[int] | None = None,
    until: float | None = None,
) -> list[Suspects]:
    """Return single tensors, and groups that were not worth dividing, worst first.

    The worst group is divided next, until all that is left is small or ``runs`` are used.

    Parameters
    ----------
    trials : Trials
        With weights in float.
    grids : sequence of float32 array
        For each fold.
    indices : sequence of int
        The samples.
    runs : int
        The number of samples to run at most; one measurement takes ``len(indices)``.
    rows : sequence of int, optional
        The tensors to look at, by default all.
    until : float, optional
        The time of ``time.monotonic`` after which no group is measured.
    """
    every = tuple(range(len(trials.session.tensors)) if rows is None else rows)
    measured = 0

    def measure(group: tuple[int, ...]) -> float:
        nonlocal measured
        measured += 1
        return trials.loss([only(each, group) for each in grids], indices)

    waiting: list[tuple[float, tuple[int, ...]]] = []
    for group in _parts(every, max(2, round(len(every) ** 0.5))):
        if is_late(until):
            break
        heapq.heappush(waiting, (-measure(group), group))
    done: list[Suspects] = []
    largest = max((-loss for loss, _ in waiting), default=0.0)
    while waiting:
        loss, group = heapq.heappop(waiting)
        room = (measured + 2) * len(indices) <= runs
        if len(group) == 1 or -loss <= _SMALL * largest or not room or is_late(until):
            done.append(Suspects(group, -loss))
            continue
        for part in _parts(group, 2):
            heapq.heappush(waiting, (-measure(part), part))
    return sorted(done, key=lambda each: (-each.loss, each.rows))


def with_partners(
    suspects: Sequence[Suspects],
    names: Sequence[str],
    sources: Mapping[str, tuple[str, ...]],
) -> list[Suspects]:
    """Add the tensors that share a range with each; one strategy decides for all of them.

    Parameters
    ----------
    suspects : sequence of Suspects
    names : sequence of str
        The tensor of each row.
    sources : mapping of str to tuple of str
        Tensor → the tensors from whose values its range is computed.
    """
    groups: dict[tuple[str, ...], list[int]] = {}
    for row, name in enumerate(names):
        groups.setdefault(sources[name], []).append(row)
    found: dict[tuple[int, ...], Suspects] = {}
    for each in suspects:
        whole = {row for one in each.rows for row in groups[sources[names[one]]]}
        rows = tuple(sorted(whole))
        found.setdefault(rows, Suspects(rows, each.loss))
    return list(found.values())


def _parts(rows: tuple[int, ...], count: int) -> list[tuple[int, ...]]:
    """Divide rows into neighbors of the graph."""
    count = min(count, len(rows))
    ends = [len(rows) * part // count for part in range(count + 1)] if count else []
    return [rows[a:b] for a, b in itertools.pairwise(ends)]
