"""SmoothQuant as a remedy: tried on a copy of the model, and measured like everything else."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import torch

from quantcal._core import CalibrationError
from quantcal.advice.result import Remedy
from quantcal.advice.search import Halves
from quantcal.formats import FormatLike
from quantcal.strategies.policy import Policy
from quantcal.torch._advice.output_loss import Loss
from quantcal.torch._advice.strategy_choice import TableMaker
from quantcal.torch._advice.trial_runs import TrialRuns
from quantcal.torch.modules import unwrap
from quantcal.torch.observation import observe
from quantcal.torch.sample_runner import Sample, SampleRunner, evaluation_mode
from quantcal.torch.smoothing import smoothquant

WEIGHTS = "int8"
"""Where the caller leaves weights in float, both models are compared with these: in float no
scale is too large for them, so smoothing would look better than it is."""


class SmoothingTrial:
    """Compares a model with its smoothed copy.

    Half of the samples gives the ranges, and the scales. The other half judges.

    Parameters
    ----------
    model
        It is copied, and not changed.
    samples
        All of them.
    paths
        The modules whose inputs are quantized.
    types
        Their types.
    policy, tables
        The strategies, and what computes the ranges.
    weights
        The format of the weights; None takes int8.
    loss
        As for `TrialRuns`.
    halves
        The samples.
    """

    def __init__(
        self,
        model: Any,
        samples: Sequence[Sample],
        paths: Sequence[str],
        types: tuple[type[torch.nn.Module], ...],
        policy: Policy,
        tables: TableMaker,
        weights: FormatLike | None,
        loss: Loss,
        inputs: Sequence[torch.Tensor],
        halves: Halves,
    ) -> None:
        self._model = model
        self._samples = samples
        self._paths = list(paths)
        self._types = types
        self._policy = policy
        self._tables = tables
        self._weights = WEIGHTS if weights is None else weights
        self._loss = loss
        self._inputs = inputs
        self._halves = halves

    def remedy(self, is_late: Callable[[], bool]) -> Remedy | None:
        """Return what smoothing changes; None if nothing can be smoothed or time is over.

        Raises
        ------
        CalibrationError
            If the model cannot be copied or observed.
        """
        if is_late():
            return None
        before = self._measure(self._model)
        if is_late():
            return None
        try:
            other = copy.deepcopy(self._model)
        except (RuntimeError, TypeError) as error:
            msg = f"the model cannot be copied to be smoothed: {error}"
            raise CalibrationError(msg) from error
        count = self._smooth(other)
        if not count:
            return None
        after = self._measure(other)
        text = (
            f"quantcal.torch.smoothquant(model, calibrator, alpha=None), {count} groups; "
            f"weights in {self._weights} on both sides"
        )
        return Remedy.of("smooth", before, after, len(self._halves.confirming), text)

    def _smooth(self, model: Any) -> int:
        """Smooth a model in place; return the number of groups."""
        root = unwrap(model)
        linear = [
            path
            for path in self._paths
            if isinstance(root.get_submodule(path), torch.nn.Linear)
        ]
        if not linear:
            return 0
        with evaluation_mode(root), observe(model, linear, axis=-1) as cal:
            for number in self._halves.proposing:
                SampleRunner(model, root, self._samples[number])()
        sample = self._samples[self._halves.proposing[0]]
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)  # of skipped norms
                done = smoothquant(
                    model,
                    cal,
                    alpha=None,
                    sample=sample if callable(sample) else _called(sample),
                    weights=self._weights,
                )
        except CalibrationError:  # no norm that linear layers alone read
            return 0
        return len(done)

    def _measure(self, model: Any) -> float:
        """Return the loss on the confirming samples, with ranges of the proposing ones."""
        root = unwrap(model)
        runners = [SampleRunner(model, root, sample) for sample in self._samples]
        with (
            evaluation_mode(root),
            observe(model, self._paths, modules=self._types) as seen,
        ):
            for number in self._halves.proposing:
                runners[number]()
        trial = TrialRuns(
            model,
            root,
            runners,
            self._tables(seen, self._policy),
            weights=self._weights,
            loss=self._loss,
            inputs=self._inputs,
        )
        with evaluation_mode(root):
            names = frozenset(trial.tables)
            losses = [trial(names, number) for number in self._halves.confirming]
        return sum(losses) / len(losses)


def _called(sample: tuple[Any, Any]) -> Callable[[Any], Any]:
    args, kwargs = sample
    return lambda model: model(*args, **kwargs)
