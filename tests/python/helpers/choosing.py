"""Opening the trials of a small model, for the tests of what is chosen by them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx

from quantcal.onnx._choose.candidates import CANDIDATES
from quantcal.onnx._choose.folds import Folds
from quantcal.onnx._choose.joint_trials import open_judge, open_trial
from quantcal.onnx._choose.started_run import Started, start
from quantcal.onnx._options.quantize_options import QuantizeOptions
from quantcal.onnx._runtime.kept_samples import KeptSamples
from quantcal.onnx._trial.judge import Floats, Judge
from quantcal.onnx._trial.trial_session import Grids
from quantcal.onnx._trial.trials import Trials
from quantcal.strategies.auto import FOLDS
from quantcal.strategies.policy import Policy


@dataclass
class Opened:
    """A model whose samples have run."""

    begun: Started
    kept: KeptSamples
    judge: Judge
    trials: Trials
    folds: Folds

    def candidates(self) -> dict[str, list[Grids]]:
        """Return the grids of all candidates."""
        return {str(each): self.grids(Policy.of(each)) for each in CANDIDATES}

    def grids(self, policy: Policy) -> list[Grids]:
        """Return the grids of a policy for each fold."""
        return self.folds.grids(policy, self.trials.session)

    def row(self, name: str) -> int:
        """Return the row of a tensor."""
        return self.trials.session.rows([name])[0]


@contextmanager
def opened(
    model: onnx.ModelProto,
    samples: list[dict[str, Any]],
    *,
    float_weights: bool = False,
    **options: Any,
) -> Iterator[Opened]:
    """Run the samples and open a trial session."""
    kept = KeptSamples(FOLDS, 128)
    asked = QuantizeOptions(**{"strategy": "mse", **options})
    begun = start(model, samples, asked, kept, progress=False)
    with ExitStack() as stack:
        run = begun.run
        judge = open_judge(begun, kept, None, stack)
        session = stack.enter_context(
            open_trial(begun, run.prepared, float_weights=float_weights)
        )
        folds = Folds(run.prepared, run.calibrator, run.parts, run.earlier)
        yield Opened(begun, kept, judge, Trials(session, kept, judge), folds)


class PlantedTrials:
    """Trials without a model: the loss follows from the grids by a function.

    Parameters
    ----------
    damage : callable
        From the grids of a sample's fold, its index and its fold to the damage.
    count : int
    rows : int
        Number of activations.
    """

    def __init__(
        self, damage: Callable[[Grids, int, int], float], count: int, rows: int = 1
    ) -> None:
        self._damage = damage
        self.samples = KeptSamples(FOLDS, count)
        for number in range(count):
            self.samples.add(number, {"x": np.zeros(1)})
        self.judge = Judge(["y"])
        for number in range(count):
            self.judge.add([np.array([(-1.0) ** number])])  # its variance is 1
        self.judge.settle()
        self.session = type("Session", (), {"tensors": tuple(range(rows))})()
        self.ran: list[tuple[float, int]] = []

    @property
    def indices(self) -> list[int]:
        """All samples."""
        return list(range(len(self.samples)))

    def of_folds(self, folds: list[int]) -> list[int]:
        """Return the samples of these folds."""
        return [i for i in self.indices if self.samples.fold(i) in folds]

    def damage(self, grids: list[Grids], indices: list[int]) -> Floats:
        """Return planted damages."""
        rows = []
        for index in indices:
            fold = self.samples.fold(index)
            self.ran.append((float(grids[fold].flat[0]), index))
            rows.append([self._damage(grids[fold], index, fold)])
        return np.array(rows, np.float64).reshape(len(indices), 1)

    def loss(self, grids: list[Grids], indices: list[int]) -> float:
        """Return the loss on these samples."""
        return self.judge.loss(self.damage(grids, indices), indices)


def flat(value: float, rows: int = 1) -> list[Grids]:
    """Return grids of all folds that hold one number."""
    return [np.full((rows, 4), value, np.float32) for _ in range(FOLDS)]
