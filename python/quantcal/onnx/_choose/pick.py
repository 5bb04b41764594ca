"""Comparing whole strategies on samples that did not decide their ranges."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from quantcal.onnx._choose.time_limit import is_late
from quantcal.onnx._trial.trial_session import Grids
from quantcal.onnx._trial.trials import Trials, interval

_FIRST = 4  # a quarter of the samples sorts out what is hopeless
_RESAMPLES = 200
_CHANCE = 0.05  # of a tie: one in 20 sets of samples turns the order
_FEWEST = 8  # samples of the first round


@dataclass(frozen=True, slots=True)
class StrategyLoss:
    """What the outputs lose with one strategy for all tensors.

    Attributes
    ----------
    strategy
        Its name.
    loss
        Of the worst output: 0 is the float model, 1 a model that always gives the mean.
    low, high
        The 95 % interval of the loss, by bootstrap over samples.
    samples
        The number of samples. It is smaller where the first showed that it is hopeless.
    """

    strategy: str
    loss: float
    low: float
    high: float
    samples: int


def compare(
    trials: Trials,
    grids: Mapping[str, Sequence[Grids]],
    until: float | None = None,
) -> tuple[list[StrategyLoss], dict[str, NDArray[np.float64]]]:
    """Return the losses of candidates, and the damage of the finalists.

    The finalists ran all samples. They come first, the smallest loss before all others.

    Parameters
    ----------
    trials : Trials
    grids : mapping of str to sequence of float32 array
        Candidate → its grids for each fold.
    until : float, optional
        The time of ``time.monotonic`` after which only the best so far runs on. The first
        candidate is always compared.
    """
    first, rest = _divide(trials)
    early: dict[str, NDArray[np.float64]] = {}
    for name, each in grids.items():
        if not early or not is_late(until):
            early[name] = trials.damage(each, first)
    losses = {name: trials.judge.loss(damage, first) for name, damage in early.items()}
    leader = min(losses, key=losses.__getitem__)
    best = losses[leader]
    found, damages = [], {}
    for name, begun in early.items():
        damage, samples = begun, first
        goes_on = name == leader or not is_late(until)
        if rest and goes_on and not trials.judge.is_hopeless(losses[name], best):
            damage = np.concatenate([begun, trials.damage(grids[name], rest)])
            samples = [*first, *rest]
        if len(samples) == len(trials.samples):
            damages[name] = damage
        ends = interval(trials.judge, damage, samples)
        loss = trials.judge.loss(damage, samples)
        found.append(StrategyLoss(name, loss, *ends, len(samples)))
    # Stable: equal losses stay in the order of the candidates.
    found.sort(key=lambda each: (-each.samples, each.loss))
    return found, damages


def settle_tie(
    trials: Trials,
    losses: Sequence[StrategyLoss],
    damages: Mapping[str, NDArray[np.float64]],
    whole: Callable[[str], Grids],
) -> list[StrategyLoss]:
    """Return the losses with the best first, where the samples cannot separate candidates.

    The widest sample is always judged with ranges that lack it. Its clipping is then in
    every candidate's loss, and may hide how they differ. The model is written with the
    ranges of all samples. So among equals the loss with these counts as much.

    Parameters
    ----------
    trials : Trials
    losses : sequence of StrategyLoss
        Best first.
    damages : mapping of str to float64 array
        Of the finalists.
    whole : callable
        Returns the grids of a candidate from all samples.
    """
    best = losses[0]
    if best.strategy not in damages:
        return list(losses)
    tied = [
        each
        for each in losses
        if each.strategy in damages
        and _may_be_better(trials, damages[each.strategy], damages[best.strategy])
    ]
    if len(tied) < 2:
        return list(losses)
    both = {
        each.strategy: each.loss + trials.loss([whole(each.strategy)], trials.indices)
        for each in tied
    }
    order = sorted(losses, key=lambda each: both.get(each.strategy, np.inf))
    winner = order[0]
    return [winner, *(each for each in losses if each is not winner)]


def _may_be_better(
    trials: Trials, damage: NDArray[np.float64], best: NDArray[np.float64]
) -> bool:
    """Whether another set of samples may turn the order, by a paired bootstrap."""
    rng = np.random.default_rng(0)
    numbers = np.arange(len(damage))
    turned = 0
    for _ in range(_RESAMPLES):
        drawn = rng.integers(0, len(numbers), len(numbers))
        one, other = (
            trials.judge.loss(d[drawn], numbers[drawn]) for d in (damage, best)
        )
        turned += one <= other
    return turned > _CHANCE * _RESAMPLES


def _divide(trials: Trials) -> tuple[list[int], list[int]]:
    """Return the samples of the first round, spread over all and all folds, and the rest."""
    folds, count = trials.samples.folds, len(trials.samples)
    if count < 2 * _FEWEST:
        return trials.indices, []
    first = [i for i in trials.indices if (i // folds) % _FIRST == 0]
    taken = set(first)
    return first, [i for i in trials.indices if i not in taken]
