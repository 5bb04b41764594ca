"""Running kept samples through a trial session, and judging what comes out."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from quantcal.onnx._runtime.kept_samples import KeptSamples
from quantcal.onnx._runtime.memory_groups import run
from quantcal.onnx._runtime.session import Workspace
from quantcal.onnx._trial.judge import Judge
from quantcal.onnx._trial.trial_session import Grids, TrialSession

if TYPE_CHECKING:
    from quantcal.onnx._plan.preparation import Prepared

Floats = NDArray[np.float64]


class Trials:
    """Everything that a choice needs: sessions, samples, and the float model's outputs.

    Parameters
    ----------
    session : TrialSession
    samples : KeptSamples
    judge : Judge
        It has the float model's outputs of these samples.

    Attributes
    ----------
    runs : int
        The number of samples that ran so far.
    """

    def __init__(
        self, session: TrialSession, samples: KeptSamples, judge: Judge
    ) -> None:
        self.session = session
        self.samples = samples
        self.judge = judge
        self.runs = 0

    @property
    def indices(self) -> list[int]:
        """All samples."""
        return list(range(len(self.samples)))

    def of_folds(self, folds: Sequence[int]) -> list[int]:
        """Return the samples of these folds."""
        chosen = set(folds)
        return [i for i in self.indices if self.samples.fold(i) in chosen]

    def damage(self, grids: Sequence[Grids], indices: Sequence[int]) -> Floats:
        """Return the damage of samples, each computed with the grids of its fold.

        Parameters
        ----------
        grids : sequence of float32 array
            One for each fold.
        indices : sequence of int

        Returns
        -------
        float64 array, shape (samples, outputs)
        """
        rows = []
        for index in indices:
            found = self.session.run(
                self.samples.feed(index),
                grids[self.samples.fold(index) % len(grids)],
                self.samples.where(index),
            )
            rows.append(self.judge.damage(index, found))
        self.runs += len(indices)
        return np.array(rows, np.float64).reshape(len(indices), -1)

    def loss(self, grids: Sequence[Grids], indices: Sequence[int]) -> float:
        """Return the loss on these samples."""
        return self.judge.loss(self.damage(grids, indices), indices)


def float_outputs(prepared: Prepared, samples: KeptSamples, judge: Judge) -> float:
    """Run the float model on all samples for the judge; return the seconds it took."""
    started = time.perf_counter()
    with Workspace(prepared.original, prepared.options.providers) as work:
        session = work.open_changed(lambda _: None, optimize=True)
        for index in range(len(samples)):
            judge.add(
                run(session, judge.names, samples.feed(index), samples.where(index))
            )
    judge.settle()
    return time.perf_counter() - started


def interval(
    judge: Judge,
    damage: Floats,
    indices: Sequence[int],
    *,
    resamples: int = 200,
    seed: int = 0,
) -> tuple[float, float]:
    """Return the 95 % interval of a loss, by bootstrap over samples with a fixed seed.

    Parameters
    ----------
    judge : Judge
    damage : float64 array, shape (samples, outputs)
    indices : sequence of int
        The sample of each row.
    resamples : int
    seed : int
    """
    if len(indices) < 2:
        return (0.0, math.inf)
    rng = np.random.default_rng(seed)
    numbers = np.asarray(indices)
    losses = []
    for _ in range(resamples):
        drawn = rng.integers(0, len(numbers), len(numbers))
        losses.append(judge.loss(damage[drawn], numbers[drawn]))
    low, high = np.quantile(losses, (0.025, 0.975), method="nearest")
    return float(low), float(high)
