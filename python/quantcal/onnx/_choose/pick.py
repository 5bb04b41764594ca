"""Comparing whole strategies on samples that did not decide their ranges."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from quantcal.onnx._trial.trial_session import Grids
from quantcal.onnx._trial.trials import Trials, interval

_FIRST = 4  # a quarter of the samples sorts out what is hopeless
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
    trials: Trials, grids: Mapping[str, Sequence[Grids]]
) -> tuple[list[StrategyLoss], dict[str, NDArray[np.float64]]]:
    """Return the losses of candidates, and the damage of the finalists.

    The finalists ran all samples. They come first, the smallest loss before all others.

    Parameters
    ----------
    trials : Trials
    grids : mapping of str to sequence of float32 array
        Candidate → its grids for each fold.
    """
    first, rest = _divide(trials)
    early = {name: trials.damage(each, first) for name, each in grids.items()}
    losses = {name: trials.judge.loss(damage, first) for name, damage in early.items()}
    best = min(losses.values())
    found, damages = [], {}
    for name, begun in early.items():
        damage, samples = begun, first
        if rest and not trials.judge.is_hopeless(losses[name], best):
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


def _divide(trials: Trials) -> tuple[list[int], list[int]]:
    """Return the samples of the first round, spread over all and all folds, and the rest."""
    folds, count = trials.samples.folds, len(trials.samples)
    if count < 2 * _FEWEST:
        return trials.indices, []
    first = [i for i in trials.indices if (i // folds) % _FIRST == 0]
    taken = set(first)
    return first, [i for i in trials.indices if i not in taken]
