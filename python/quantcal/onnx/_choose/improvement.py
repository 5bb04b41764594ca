"""Other strategies for the tensors that lose most, each change confirmed on other samples."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from quantcal.onnx._choose.loss_gains import gains
from quantcal.onnx._choose.sensitivity import Suspects
from quantcal.onnx._trial.trial_session import Grids
from quantcal.onnx._trial.trials import Trials

_GAIN = 0.01  # smaller gains are noise
_UNITS = 12  # tensors or groups that are tried, worst first


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
    runs : int
        The number of samples to run at most.
    until : float, optional
        The time of ``time.monotonic`` to stop at.

    Returns
    -------
    tuple of (list of float32 array, list of Improvement)
        The grids of each fold, and the changes.
    """
    folds = range(trials.samples.folds)
    propose = trials.of_folds([fold for fold in folds if fold % 2 == 0])
    confirm = trials.of_folds([fold for fold in folds if fold % 2])
    current = [each.copy() for each in grids[base]]
    changes: list[Improvement] = []
    if not propose or not confirm or len(grids) < 2:
        return current, changes
    left = runs - len(propose) - len(confirm)
    now = trials.loss(current, propose)
    sure = trials.damage(current, confirm)
    for suspect in suspects[:_UNITS]:
        rows = list(suspect.rows)
        tried: dict[str, tuple[list[Grids], float]] = {}
        for name, each in _different(grids, current, rows).items():
            late = until is not None and time.monotonic() >= until
            if left < len(propose) + len(confirm) or late:
                return current, changes
            left -= len(propose)
            tried[name] = each, trials.loss(each, propose)
        if not tried:
            continue
        name = min(tried, key=lambda each: tried[each][1])
        made, loss = tried[name]
        if not gains(now, loss, _GAIN):
            continue
        left -= len(confirm)
        damage = trials.damage(made, confirm)
        before, after = (trials.judge.loss(d, confirm) for d in (sure, damage))
        if gains(before, after, _GAIN):
            changes.append(Improvement(suspect.rows, name, before, after))
            current, now, sure = made, loss, damage
    return current, changes


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
