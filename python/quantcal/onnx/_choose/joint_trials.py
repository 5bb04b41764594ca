"""Losses of models in which some nodes stay in float, each planned anew and measured once."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from contextlib import ExitStack
from typing import Any

from quantcal.onnx._choose.folds import Folds
from quantcal.onnx._choose.node_trials import NodePlans, leave_in_float
from quantcal.onnx._choose.started_run import Started, trial_bits
from quantcal.onnx._correct.bias_correction import BIAS_SAMPLES, correct_biases
from quantcal.onnx._correct.report import Correction
from quantcal.onnx._observe.ranges import compute_ranges
from quantcal.onnx._plan.preparation import Prepared
from quantcal.onnx._runtime.kept_samples import KeptSamples
from quantcal.onnx._trial.judge import Floats, Judge
from quantcal.onnx._trial.metric_judge import MetricJudge
from quantcal.onnx._trial.trial_session import TrialSession
from quantcal.onnx._trial.trials import Trials, float_outputs


def open_trial(
    begun: Started, prepared: Prepared, *, float_weights: bool
) -> TrialSession:
    """Open a trial session with the ranges of all samples."""
    table = compute_ranges(begun.run.calibrator, begun.policy, prepared)
    ranges = {name: table[name] for name in prepared.plan.tensors}
    bits = trial_bits(begun.bits)
    return TrialSession(prepared, ranges, bits, float_weights=float_weights)


def open_judge(
    begun: Started,
    samples: KeptSamples,
    metric: Callable[..., Any] | str | None,
    stack: ExitStack,
) -> Judge:
    """Return a judge that knows the float model's outputs of these samples."""
    names = [value.name for value in begun.run.prepared.converted.proto.graph.output]
    judge = Judge(names) if metric is None else MetricJudge(names, metric, samples)
    stack.callback(judge.close)
    float_outputs(begun.run.prepared, samples, judge)
    return judge


class JointTrials:
    """Measures whole models with quantized weights.

    Parameters
    ----------
    begun : Started
    samples : KeptSamples
    judge : Judge
        Of these samples.
    folded : bool
        Whether the samples also gave the ranges. Each is then measured with the ranges of
        the other folds.
    shifting : sequence of int
        The samples that measure the shifts of biases, where the options correct these.

    Attributes
    ----------
    runs : int
        The number of samples that ran so far.
    """

    def __init__(
        self,
        begun: Started,
        samples: KeptSamples,
        judge: Judge,
        *,
        folded: bool,
        shifting: Sequence[int] = (),
    ) -> None:
        self._begun = begun
        self._samples = samples
        self._judge = judge
        self._parts = begun.run.parts if folded else ()
        self._shifting = shifting
        self._known: dict[frozenset[str], Floats] = {}
        self.runs = 0

    @property
    def indices(self) -> list[int]:
        """All samples."""
        return list(range(len(self._samples)))

    def can_exclude(self, exclude: Collection[str]) -> bool:
        """Whether a node is still quantized with these in float."""
        return NodePlans(self._begun.run.prepared).without(exclude) is not None

    def damage(self, exclude: Collection[str]) -> Floats:
        """Return the damage of all samples with these nodes in float.

        Returns
        -------
        float64 array, shape (samples, outputs)
        """
        key = frozenset(exclude)
        if key not in self._known:
            self._known[key] = self._measure(key)
        return self._known[key]

    def corrected(self, exclude: Collection[str]) -> Prepared:
        """Return the model with these nodes in float, its biases corrected if asked for."""
        prepared = leave_in_float(self._begun.run.prepared, exclude)
        if self._shifting and "bias" in prepared.options.corrections:
            prepared, _ = self.with_biases(prepared, self._shifting)
        return prepared

    def damage_of(self, prepared: Prepared) -> Floats:
        """Return the damage of all samples with a changed model.

        Returns
        -------
        float64 array, shape (samples, outputs)
        """
        return self._damage(prepared, self.indices)

    def loss(self, exclude: Collection[str], samples: Collection[int]) -> float:
        """Return the loss on some of the samples."""
        chosen = list(samples)
        return self._judge.loss(self.damage(exclude)[chosen], chosen)

    def loss_of(self, prepared: Prepared, samples: Collection[int]) -> float:
        """Return the loss of a changed model, as it is, on some of the samples."""
        chosen = list(samples)
        return self._judge.loss(self._damage(prepared, chosen), chosen)

    def with_biases(
        self, prepared: Prepared, shifting: Sequence[int]
    ) -> tuple[Prepared, Correction]:
        """Return a model with biases that these samples correct, and what was changed."""
        run = self._begun.run
        table = compute_ranges(run.calibrator, self._begun.policy, prepared)
        ranges = {name: table[name] for name in prepared.plan.tensors}
        feeds = [self._samples.feed(index) for index in shifting[:BIAS_SAMPLES]]
        bits = trial_bits(self._begun.bits)
        self.runs += len(feeds)
        return correct_biases(prepared, ranges, bits, feeds)

    def _measure(self, exclude: frozenset[str]) -> Floats:
        return self._damage(self.corrected(exclude), self.indices)

    def _damage(self, prepared: Prepared, samples: list[int]) -> Floats:
        run, policy = self._begun.run, self._begun.policy
        with open_trial(self._begun, prepared, float_weights=False) as session:
            trials = Trials(session, self._samples, self._judge)
            self.runs += len(samples)
            folds = Folds(prepared, run.calibrator, self._parts, run.earlier)
            return trials.damage(folds.grids(policy, session), samples)
