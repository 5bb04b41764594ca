"""Finds the tensors that cost accuracy, and the few to leave in float, with few runs.

A loss is measured with some tensors quantized and all others in float. First the tensors that
cost most alone are found: groups are measured, and the worst group is halved again and again.
Then the joint set is chosen step by step, each time with everything else quantized. One half
of the samples proposes a step, and the other half must confirm it.
"""

from __future__ import annotations

import heapq
import math
import re
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

TRIES = 4
"""Candidates that are measured for each step at least, and at most twice as many. Errors add
up or cancel, so the tensor that costs most alone is not always the best to leave in float."""

CANDIDATES = 12
"""Tensors that are sought at least; more if more may stay in float."""

CUT = 0.01
"""A group that alone makes less than a hundredth of the whole loss is not divided further, as
no step may gain less (`MIN_GAIN`)."""

MIN_GAIN = 0.01
"""A step must remove a hundredth of the loss on the confirming samples."""

REJECTIONS = 2
"""Proposals that the confirming samples may reject before the search ends."""

SEARCH = 0.5
"""The share of the time limit for the search of single tensors; the rest is for joint sets."""

_BLOCK = re.compile(r".*?\d+(?![^./])")


class OutOfTimeError(Exception):
    """The time limit has passed."""


class LossMeter:
    """Measures losses, each combination and sample once.

    Parameters
    ----------
    run
        Gets the tensors to quantize, all others being in float, and the number of a sample.
        Returns the loss, 0 or more.
    time_limit
        Seconds after which no run starts, from now; None for no limit.
    on_run
        Called after each run, for a progress bar.
    """

    def __init__(
        self,
        run: Callable[[frozenset[str], int], float],
        *,
        time_limit: float | None = None,
        on_run: Callable[[], object] | None = None,
    ) -> None:
        self._run = run
        self._start = time.monotonic()
        self._limit = math.inf if time_limit is None else time_limit
        self._on_run = on_run
        self._known: dict[tuple[frozenset[str], int], float] = {}

    @property
    def runs(self) -> int:
        """The number of runs so far."""
        return len(self._known)

    def __call__(
        self, quantized: Iterable[str], samples: Sequence[int], *, within: float = 1.0
    ) -> float:
        """Return the mean loss of samples with these tensors quantized.

        Parameters
        ----------
        quantized
            The tensors to quantize.
        samples
            Numbers of samples, at least one.
        within
            The share of the time limit in which runs may start. Infinity runs in any case.

        Raises
        ------
        OutOfTimeError
            If that time has passed, and a run would be needed.
        """
        names = frozenset(quantized)
        end = math.inf if math.isinf(within) else within * self._limit
        for sample in samples:
            if (names, sample) in self._known:
                continue
            if time.monotonic() - self._start >= end:
                raise OutOfTimeError
            self._known[names, sample] = self._run(names, sample)
            if self._on_run is not None:
                self._on_run()
        return math.fsum(self._known[names, s] for s in samples) / len(samples)


@dataclass(frozen=True)
class Halves:
    """The numbers of the samples that propose, and of those that confirm."""

    proposing: tuple[int, ...]
    confirming: tuple[int, ...]

    @property
    def screening(self) -> tuple[int, ...]:
        """Half of those that propose: enough to rank tensors that are measured again later."""
        return self.proposing[: max(1, len(self.proposing) // 2)]

    @classmethod
    def of(cls, samples: int) -> Halves:
        """Divide samples by turns, so that both halves are alike; needs 2 or more."""
        return cls(tuple(range(0, samples, 2)), tuple(range(1, samples, 2)))


@dataclass
class FloatChoice:
    """The tensors to leave in float, and the losses on the confirming samples.

    Parameters
    ----------
    loss, loss_after
        With everything quantized, and with `kept` in float.
    kept
        In the order in which they were chosen.
    alone
        The losses of single tensors on the screening samples, the largest first.
    loss_screened
        The loss with everything quantized on the same samples.
    finished
        Whether the search ended by itself, not by the time limit.
    """

    loss: float
    loss_after: float
    kept: tuple[str, ...] = ()
    alone: dict[str, float] = field(default_factory=dict)
    loss_screened: float = 0.0
    finished: bool = True


def group_by_block(names: Sequence[str]) -> list[list[str]]:
    """Return the names in groups: by the first number in them, such as that of a block.

    Flat models have too many of these. Their names are divided into groups of neighbors, as
    many as there are names in each.
    """
    blocks: dict[str, list[str]] = {}
    for name in names:
        found = _BLOCK.match(name)
        blocks.setdefault(found[0] if found else "", []).append(name)
    root = math.isqrt(len(names))
    if root < 1 or len(blocks) <= 4 * root:
        return list(blocks.values())
    return [list(names[i : i + root]) for i in range(0, len(names), root)]


def find_guilty(
    meter: LossMeter,
    groups: Iterable[Sequence[str]],
    samples: Sequence[int],
    *,
    wanted: int,
    cut: float,
) -> tuple[dict[str, float], bool]:
    """Return the tensors that cost most alone, and whether the search finished.

    The group with the largest loss is halved until it is a single tensor.

    Parameters
    ----------
    meter
        Measures losses.
    groups
        All tensors, in groups.
    samples
        The samples to measure on.
    wanted
        How many tensors to find.
    cut
        Groups with a smaller loss are not divided.
    """
    waiting: list[tuple[float, int, tuple[str, ...]]] = []
    alone: dict[str, float] = {}
    number = 0
    try:
        todo = [tuple(group) for group in groups]
        while True:
            for group in todo:
                heapq.heappush(
                    waiting, (-meter(group, samples, within=SEARCH), number, group)
                )
                number += 1
            todo = []
            while waiting and len(waiting[0][2]) == 1 and len(alone) < wanted:
                loss, _, (name,) = heapq.heappop(waiting)
                alone[name] = -loss
            if not waiting or len(alone) >= wanted or -waiting[0][0] < cut:
                return alone, True
            _, _, worst = heapq.heappop(waiting)
            middle = len(worst) // 2
            todo = [worst[:middle], worst[middle:]]
    except OutOfTimeError:
        single = sorted(entry for entry in waiting if len(entry[2]) == 1)
        alone |= {names[0]: -loss for loss, _, names in single}
        return alone, False


def choose_float(
    meter: LossMeter,
    names: Sequence[str],
    halves: Halves,
    *,
    keep: int,
    allowed: Callable[[Sequence[str]], bool] = lambda _: True,
) -> FloatChoice:
    """Choose tensors to leave in float, step by step.

    The loss with everything quantized is always measured. After the time limit the best
    set so far is returned.

    Parameters
    ----------
    meter
        Measures losses.
    names
        All tensors, in the order of the model.
    halves
        The samples.
    keep
        How many tensors may stay in float.
    allowed
        Whether a set may stay in float, such as by its size.
    """
    proposed = meter(names, halves.proposing, within=math.inf)
    loss = meter(names, halves.confirming, within=math.inf)
    groups = group_by_block(names)
    wanted = min(max(CANDIDATES, 2 * keep), len(names))
    screened = meter(names, halves.screening, within=math.inf)
    alone, finished = find_guilty(
        meter, groups, halves.screening, wanted=wanted, cut=CUT * screened
    )
    choice = FloatChoice(loss, loss, (), alone, screened, finished)
    gains = dict(alone)
    rejected = 0
    while len(choice.kept) < keep and rejected <= REJECTIONS:
        fitting = [n for n in gains if allowed([*choice.kept, n])]
        try:
            name, proposed_loss = _best_step(
                meter, names, choice.kept, fitting, gains, halves.proposing, proposed
            )
            if name is None:
                break
            left = [n for n in names if n not in (*choice.kept, name)]
            confirmed = meter(left, halves.confirming)
        except OutOfTimeError:
            choice.finished = False
            break
        del gains[name]
        limit = (1 - MIN_GAIN) * choice.loss_after
        if confirmed < choice.loss_after and confirmed <= limit:
            choice.kept = (*choice.kept, name)
            choice.loss_after, proposed = confirmed, proposed_loss
        else:
            rejected += 1
    return choice


def _best_step(
    meter: LossMeter,
    names: Sequence[str],
    kept: Sequence[str],
    candidates: Sequence[str],
    gains: dict[str, float],
    samples: Sequence[int],
    loss: float,
) -> tuple[str | None, float]:
    """Return the tensor whose return to float lowers the loss most, and the loss then.

    Candidates are measured by falling gains of earlier steps, and those are replaced. None
    if nothing lowers the loss.
    """
    best, lowest = None, loss
    order = sorted(candidates, key=lambda n: -gains[n])
    for tried, name in enumerate(order):
        # An earlier gain is rarely exceeded by a later one: these cannot be better.
        settled = best is not None and gains[name] <= loss - lowest
        if tried >= 2 * TRIES or (tried >= TRIES and settled):
            break
        left = [n for n in names if n not in (*kept, name)]
        found = meter(left, samples)
        gains[name] = loss - found if math.isfinite(found) else 0.0
        if found < lowest:
            best, lowest = name, found
    return best, lowest
