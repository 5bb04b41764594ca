"""Comparing whole strategies on samples that did not decide their ranges."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from quantcal.onnx._trial.trial_session import Grids
from quantcal.onnx._trial.trials import Trials, interval

_RESAMPLES = 200
_CHANCE = 0.05  # of a tie: one in 20 sets of samples turns the order
_TIED = 4  # candidates at most that are judged again
_FEWEST = 8  # samples of the first round
# Enough samples to trust a resampling, and what a candidate must lose more than the best.
_ENOUGH = 16
_CLEARLY_MORE = 1.5


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
    trials: Trials, grids: Mapping[str, Sequence[Grids]]
) -> tuple[list[StrategyLoss], dict[str, NDArray[np.float64]]]:
    """Return the losses of candidates, and the damage of the finalists.

    The finalists ran all samples. They come first, the smallest loss before all others.
    The rest ends after a quarter or half of the samples: when its loss is three times the
    best, or half more than the best and no resampling of these samples turns their order.

    Parameters
    ----------
    trials : Trials
    grids : mapping of str to sequence of float32 array
        Candidate → its grids for each fold.
    """
    ran: list[int] = []
    damages: dict[str, NDArray[np.float64]] = {}
    found: list[StrategyLoss] = []
    for step in _rounds(trials):
        ran += step
        for name in list(damages) if damages else grids:
            more = trials.damage(grids[name], step)
            known = damages.get(name)
            damages[name] = more if known is None else np.concatenate([known, more])
        if len(ran) < len(trials.samples):
            for name in _beaten(trials, damages, ran):
                found.append(_measured(trials, name, damages.pop(name), ran))
    found += [_measured(trials, name, each, ran) for name, each in damages.items()]
    place = {name: number for number, name in enumerate(grids)}
    # Equal losses are in the order of the candidates.
    found.sort(key=lambda each: (-each.samples, each.loss, place[each.strategy]))
    in_order = np.argsort(ran)
    return found, {name: damage[in_order] for name, damage in damages.items()}


def _measured(
    trials: Trials, name: str, damage: NDArray[np.float64], samples: list[int]
) -> StrategyLoss:
    loss = trials.judge.loss(damage, samples)
    return StrategyLoss(
        name, loss, *interval(trials.judge, damage, samples), len(samples)
    )


def _beaten(
    trials: Trials, damages: Mapping[str, NDArray[np.float64]], samples: list[int]
) -> list[str]:
    """Return the candidates that the samples so far separate from the best."""
    if not trials.judge.separates_early:
        return []
    losses = {n: trials.judge.loss(each, samples) for n, each in damages.items()}
    best = min(losses, key=lambda name: losses[name])
    return [
        name
        for name, loss in losses.items()
        if trials.judge.is_hopeless(loss, losses[best])
        or (
            len(samples) >= _ENOUGH
            and loss > _CLEARLY_MORE * losses[best]
            and not _turns(trials, damages[name], damages[best], samples)
        )
    ]


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
    first = damages[best.strategy]
    tied: list[StrategyLoss] = []
    seen: list[NDArray[np.float64]] = []
    for each in losses:
        damage = damages.get(each.strategy)
        # Candidates with the same ranges are one.
        if damage is None or any(np.array_equal(damage, other) for other in seen):
            continue
        if (
            len(tied) < _TIED
            and _turns(trials, damage, first, trials.indices) > _CHANCE
        ):
            tied.append(each)
            seen.append(damage)
    if len(tied) < 2:
        return list(losses)
    both = {
        each.strategy: each.loss + trials.loss([whole(each.strategy)], trials.indices)
        for each in tied
    }
    order = sorted(losses, key=lambda each: both.get(each.strategy, np.inf))
    winner = order[0]
    return [winner, *(each for each in losses if each is not winner)]


def _turns(
    trials: Trials,
    damage: NDArray[np.float64],
    best: NDArray[np.float64],
    samples: Sequence[int],
) -> float:
    """Return how often other samples turn the order, by a paired bootstrap."""
    rng = np.random.default_rng(0)
    numbers = np.asarray(samples)
    turned = 0
    for _ in range(_RESAMPLES):
        drawn = rng.integers(0, len(numbers), len(numbers))
        one, other = (
            trials.judge.loss(d[drawn], numbers[drawn]) for d in (damage, best)
        )
        turned += one <= other
    return turned / _RESAMPLES


def _rounds(trials: Trials) -> list[list[int]]:
    """Return the samples of each round, spread over all and all folds.

    A quarter of them sorts out what is far behind, and half what is clearly behind.
    """
    folds, count = trials.samples.folds, len(trials.samples)
    if count < 2 * _FEWEST:
        return [trials.indices]
    order = (0, 2, 1, 2) if count >= 4 * _FEWEST else (0, 1)
    rounds: list[list[int]] = [[], [], []]
    for index in trials.indices:
        rounds[order[index // folds % len(order)]].append(index)
    return [each for each in rounds if each]
