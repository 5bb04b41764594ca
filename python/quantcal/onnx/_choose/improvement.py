"""Other strategies for the tensors that lose most, each change confirmed on other samples."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from quantcal.data.thinning import spread
from quantcal.onnx._choose.loss_gains import gains
from quantcal.onnx._choose.sensitivity import Suspects
from quantcal.onnx._trial.trial_session import Grids
from quantcal.onnx._trial.trials import Trials

_GAIN = 0.01  # smaller gains are noise
_UNITS = 12  # tensors or groups that are tried, worst first
_WORTH = 0.02  # of the loss of the worst: what is below cannot gain enough
_SCREEN = 8  # samples that sort out what helps nothing


@dataclass(frozen=True, slots=True)
class Improvement:
    """A change that was confirmed.

    Attributes
    ----------
    rows
        The tensors.
    strategy
        The name of the candidate.
    before, after
        The loss on the samples that did not propose it.
    """

    rows: tuple[int, ...]
    strategy: str
    before: float
    after: float


def improve(
    trials: Trials,
    base: str,
    grids: Mapping[str, Sequence[Grids]],
    suspects: Sequence[Suspects],
    halves: tuple[Sequence[int], Sequence[int]],
    *,
    runs: int,
    until: float | None,
) -> tuple[list[Grids], list[Improvement]]:
    """Try the candidates on the worst tensors; keep what other samples confirm.

    Parameters
    ----------
    trials : Trials
    base : str
        The candidate to start from.
    grids : mapping of str to sequence of float32 array
    suspects : sequence of Suspects
        Worst first.
    halves : tuple of (sequence of int, sequence of int)
        The samples that propose, and those that confirm.
    runs : int
        The number of samples to run at most.
    until : float, optional
        The time of ``time.monotonic`` to stop at.

    Returns
    -------
    tuple of (list of float32 array, list of Improvement)
        The grids of each fold, and the changes.
    """
    propose, confirm = halves
    current = [each.copy() for each in grids[base]]
    changes: list[Improvement] = []
    left = runs - len(propose) - len(confirm)
    if not propose or not confirm or len(grids) < 2 or left < 0:
        return current, changes
    screen = spread(propose, _SCREEN)
    of_screen = [propose.index(sample) for sample in screen]
    now, sure = (trials.damage(current, half) for half in halves)
    worst = suspects[0].loss if suspects else 0.0
    for suspect in suspects[:_UNITS]:
        if suspect.loss < _WORTH * worst:
            break
        before = trials.judge.loss(now[of_screen], screen)
        best: tuple[float, str, list[Grids]] | None = None
        for name, each in _different(grids, current, list(suspect.rows)).items():
            late = until is not None and time.monotonic() >= until
            if left < len(screen) + len(propose) + len(confirm) or late:
                return current, changes
            left -= len(screen)
            loss = trials.loss(each, screen)
            if gains(before, loss, _GAIN) and (best is None or loss < best[0]):
                best = loss, name, each
        if best is None:
            continue
        left -= len(propose)
        proposed = trials.damage(best[2], propose)
        if not _gains(trials, now, proposed, propose):
            continue
        left -= len(confirm)
        confirmed = trials.damage(best[2], confirm)
        if _gains(trials, sure, confirmed, confirm):
            losses = [trials.judge.loss(d, confirm) for d in (sure, confirmed)]
            changes.append(Improvement(suspect.rows, best[1], losses[0], losses[1]))
            current, now, sure = best[2], proposed, confirmed
    return current, changes


def _gains(
    trials: Trials,
    before: NDArray[np.float64],
    after: NDArray[np.float64],
    samples: Sequence[int],
) -> bool:
    one, other = (trials.judge.loss(damage, samples) for damage in (before, after))
    return gains(one, other, _GAIN)


def _different(
    grids: Mapping[str, Sequence[Grids]], current: Sequence[Grids], rows: list[int]
) -> dict[str, list[Grids]]:
    """Return the candidates that give these tensors other grids, each kind once."""
    found: dict[str, list[Grids]] = {}
    seen: list[NDArray[np.float32]] = [np.stack([each[rows] for each in current])]
    for name, several in grids.items():
        part = np.stack([each[rows] for each in several])
        if any(np.array_equal(part, other) for other in seen):
            continue
        seen.append(part)
        made = [each.copy() for each in current]
        for mine, theirs in zip(made, several, strict=True):
            mine[rows] = theirs[rows]
        found[name] = made
    return found
