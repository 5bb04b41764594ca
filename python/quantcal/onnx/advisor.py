"""Advice on accuracy: the nodes that lose it, why, and what helps, measured on the outputs."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from quantcal._core import CalibrationError
from quantcal.advice.diagnosis import diagnose
from quantcal.advice.progress import count_runs
from quantcal.advice.result import Advice, GuiltyTensor
from quantcal.onnx._choose.auto_choice import choose_ranges
from quantcal.onnx._choose.candidates import (
    CANDIDATES,
    find_auto,
    pattern_of,
    replace_auto,
)
from quantcal.onnx._choose.choice import some
from quantcal.onnx._choose.culprits import Culprits, CulpritSearch
from quantcal.onnx._choose.float_budget import FloatBudget
from quantcal.onnx._choose.folds import Folds
from quantcal.onnx._choose.joint_trials import JointTrials, open_judge, open_trial
from quantcal.onnx._choose.model_remedies import ModelRemedies
from quantcal.onnx._choose.node_trials import NodePlans
from quantcal.onnx._choose.started_run import Started, refuse_weights_only, start
from quantcal.onnx._choose.time_limit import end_of, is_late, time_left
from quantcal.onnx._graph.inputs import Sample
from quantcal.onnx._observe.ranges import compute_ranges
from quantcal.onnx._options.keywords import takes_options, with_changes
from quantcal.onnx._options.quantize_options import QuantizeKeywords, QuantizeOptions
from quantcal.onnx._runtime.child_process import shared_child
from quantcal.onnx._runtime.kept_samples import KeptSamples
from quantcal.onnx._timing.node_times import NodeTimes
from quantcal.onnx._timing.sample_counts import check_number, mean_counts
from quantcal.onnx._trial.judge import Judge
from quantcal.onnx._trial.metric_judge import load_metric
from quantcal.onnx._trial.trial_session import Grids
from quantcal.onnx._trial.trials import Trials
from quantcal.onnx.deploy_times import times_here
from quantcal.strategies.auto import FOLDS
from quantcal.strategies.policy import Policy

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from quantcal.onnx._model.model import Model
    from quantcal.onnx._plan.plan import Plan
    from quantcal.onnx._plan.preparation import Prepared

SAMPLES = 32
"""Half of them proposes what stays in float, the other half confirms it."""

MEASURE = "measure"
"""As ``times``: measure them on this machine."""

_EXPLAINED = 4  # tensors on which remedies are tried
_NAMED = 8  # nodes whose tensors are measured alone
_MOST = 0.5  # a larger share of the loss by weights gives a note
_WIDE = {"uint8": "uint16", "int8": "int16"}


@takes_options(QuantizeKeywords)
@shared_child()
def advise(
    model: Model,
    samples: object,
    *,
    keep_float: int | None = None,
    budget: float | str | None = None,
    budget_of: str = "nodes",
    metric: Callable[..., Any] | str | None = None,
    times: NodeTimes | str | os.PathLike[str] | None = None,
    remedies: bool = True,
    most_samples: int = SAMPLES,
    time_limit: float | None = None,
    progress: bool = True,
    options: QuantizeOptions | None = None,
    **changes: Unpack[QuantizeKeywords],
) -> Advice:
    """Find the nodes whose quantization costs most, say why, and what to do.

    Nodes are quantized alone, groups first, all else in float. The guilty ones are then
    left in float step by step, with everything else quantized. One half of the samples
    proposes a step and the other half must confirm it. At last the joint set is measured
    on a model that is planned anew.

    Remedies are tried, not guessed. On the worst tensors these are float, another range and
    16 bits. On the whole model they are SmoothQuant, equalized channels, corrected biases,
    and one scale for each channel of a weight or one for all.

    Parameters
    ----------
    model
        As for :func:`quantcal.onnx.quantize`. It is not changed.
    samples
        Calibration samples, as for :func:`quantcal.onnx.quantize`. They give the ranges:
        those of a sample come from the other folds.
    keep_float
        The largest number of nodes to leave in float. By default 5 % of them, at least one.
    budget
        The largest share to leave in float: 0.05 or ``"5%"``.
    budget_of
        What the share is of: ``"nodes"`` (default), ``"weights"`` (their elements) or
        ``"multiply-adds"``.
    metric
        Your measure, as for :func:`quantcal.onnx.evaluate`; more is better. By default
        the loss of the outputs counts: squared error over variance, or KL for
        probabilities.
    times
        Times of nodes that :func:`quantcal.onnx.measure_times` found on the machine that
        deploys, or their file. Nodes that integers do not make faster are then named:
        leaving them in float costs no time. ``"measure"`` measures them here. The default
        is not to, because it takes many runs on a machine that should be idle, and says
        nothing about another one.
    remedies
        Whether to try remedies. Those for the whole model take about as long as quantizing
        it several times.
    most_samples
        The number of samples to try on, spread evenly over all; fewer than 8 count as 8.
        Default 32: single nodes differ by factors, so few samples rank them.
    time_limit
        Seconds for everything. Then the best set so far is returned, with a note. The
        calibration samples and the first loss are always computed.
    progress
        Show bars on stderr when it is a terminal and rich is installed.
    options
        All options as one object; the keywords below replace its fields.
    <options>

    Returns
    -------
    Advice
        ``advice.exclude`` is for ``exclude=`` of :func:`quantcal.onnx.quantize`.

    Raises
    ------
    CalibrationError
        As :func:`quantcal.onnx.quantize`; when there are fewer than two samples, or an
        option is not understood.

    Examples
    --------
    >>> advice = qc.onnx.advise("model.onnx", "calibration/")
    >>> print(advice.summary())
    >>> result = qc.onnx.quantize(
    ...     "model.onnx", "model.int8.onnx", "calibration/", exclude=advice.exclude
    ... )
    """
    asked = with_changes("advise", QuantizeKeywords, options, changes)
    metric = None if metric is None else load_metric(metric)
    refuse_weights_only("advise", asked)
    FloatBudget.check(keep_float, budget, budget_of)
    check_number("most_samples", most_samples, 2)
    until = end_of(time_limit)
    measured = isinstance(times, str) and times == MEASURE
    known = None if times is None or measured else NodeTimes.of(times)
    with ExitStack() as stack:
        kept = KeptSamples(FOLDS, most_samples)
        stack.callback(kept.close)
        begun = _begin(model, samples, asked, kept, progress=progress)
        prepared = begun.run.prepared
        sample = Sample(kept.feed(0), kept.where(0))
        counts = mean_counts(prepared.converted, [sample])
        limits = FloatBudget.of(prepared, keep_float, budget, budget_of, counts)
        begun = without_auto(begun, metric, until)
        on_run = stack.enter_context(count_runs("Advising", show=progress))
        work = _Work.of(model, asked, begun, kept, metric, stack)
        advice = work.advice(limits, until, on_run, remedies=remedies)
        notes = []
        if measured and is_late(until):
            notes.append("the time limit left no time to measure times of nodes")
        elif measured:
            known = times_here(model, begun, kept)
    if known is not None:
        notes += _free(known, prepared)
    return replace(advice, notes=(*advice.notes, *notes))


def _begin(
    model: Model,
    samples: object,
    asked: QuantizeOptions,
    kept: KeptSamples,
    *,
    progress: bool,
) -> Started:
    begun = start(model, samples, asked, kept, progress=progress)
    if len(kept) < 2:
        raise CalibrationError(
            f"There {'is 1 sample' if len(kept) else 'are no samples'}, but advice needs "
            "two or more: one half proposes and the other confirms. 32 are good."
        )
    return begun


def _free(times: NodeTimes, prepared: Prepared) -> list[str]:
    """Return a note on the nodes that are no faster as integers."""
    free = tuple(name for name in times.not_faster() if name in prepared.plan.nodes)
    if not free:
        return []
    return [
        f"integers do not make {len(free)} of {len(prepared.plan.nodes)} nodes faster on "
        f"{times.machine.name}, so in float they cost no time: {some(free)}"
    ]


def without_auto(begun: Started, metric: Any, until: float | None = None) -> Started:
    """Return the start with the best fixed strategy in place of ``auto``."""
    auto = find_auto(begun.policy)
    if auto is None:
        return begun
    quick = replace(auto, metric=metric or auto.metric)
    policy = replace_auto(begun.policy, quick)
    choice = choose_ranges(begun.run, policy, begun.bits, until=until, improve=False)
    policy = choice.policy if choice else replace_auto(begun.policy, CANDIDATES[0])
    return replace(begun, policy=policy)


@dataclass(frozen=True, slots=True)
class _Work:
    """Everything that a search needs."""

    model: Model
    asked: QuantizeOptions
    begun: Started
    folds: Folds
    judge: Judge
    trials: Trials  # weights in float
    joint: JointTrials

    @classmethod
    def of(
        cls,
        model: Model,
        asked: QuantizeOptions,
        begun: Started,
        kept: KeptSamples,
        metric: Any,
        stack: ExitStack,
    ) -> _Work:
        run = begun.run
        alone = stack.enter_context(open_trial(begun, run.prepared, float_weights=True))
        judge = open_judge(begun, kept, metric, stack)
        folds = Folds(run.prepared, run.calibrator, run.parts, run.earlier)
        proposing = range(0, len(kept), 2)
        joint = JointTrials(begun, kept, judge, folded=True, shifting=proposing)
        return cls(model, asked, begun, folds, judge, Trials(alone, kept, judge), joint)

    def advice(
        self,
        limits: FloatBudget,
        until: float | None,
        on_run: Callable[[], object],
        *,
        remedies: bool,
    ) -> Advice:
        """Search, measure the joint set, and explain."""
        begun, plan = self.begun, self.begun.run.prepared.plan
        session = self.trials.session
        grids = self.folds.grids(begun.policy, session)
        trying = remedies and not is_late(until)
        variants = self._variants() if trying else {}
        search = CulpritSearch(
            self.trials, NodePlans(begun.run.prepared), grids, variants
        )
        choice = search.nodes(
            plan,
            keep=min(limits.keep, len(plan.nodes) - 1),
            allowed=limits.allows,
            time_limit=time_left(until),
            on_run=on_run,
        )
        others = [name for name in variants if name.endswith("bits")]
        tensors, tried = search.tensors(
            list(choice.alone)[:_NAMED],
            plan,
            ranges=[name for name in variants if name not in others],
            others=others,
            most=_EXPLAINED if remedies else 0,
            time_limit=time_left(until),
            on_run=on_run,
        )
        advice = self._result(Culprits(choice, tensors, tried), limits, grids, until)
        if not remedies:
            return advice
        notes = list(advice.notes)
        found = ModelRemedies(
            self.model,
            self.asked,
            begun,
            self.trials.samples,
            self.judge,
            self.joint,
            until,
            on_run,
            notes,
        ).tried()
        return replace(advice, remedies=found, notes=tuple(notes))

    def _variants(self) -> dict[str, Sequence[Grids]]:
        """Return other grids: of each candidate, and of 16 bits where the target has them."""
        prepared, session = self.begun.run.prepared, self.trials.session
        made: dict[str, Sequence[Grids]] = {
            str(each): self.folds.grids(Policy({"*": each}), session)
            for each in CANDIDATES
        }
        formats = prepared.plan.formats
        integers = {*formats.values()} <= {*_WIDE}
        ort = prepared.options.target == "onnxruntime"
        if session.takes_wider and ort and integers:
            wide = {name: _WIDE[format] for name, format in formats.items()}
            other = replace(prepared, plan=replace(prepared.plan, formats=wide))
            run = self.begun.run
            folds = Folds(other, run.calibrator, run.parts, run.earlier)
            made["16 bits"] = folds.grids(Policy({"*": "minmax"}), session)
        return made

    def _result(
        self,
        found: Culprits,
        limits: FloatBudget,
        grids: Sequence[Grids],
        until: float | None,
    ) -> Advice:
        prepared, policy = self.begun.run.prepared, self.begun.policy
        confirming = list(range(1, len(self.trials.samples), 2))
        loss = self.joint.loss((), confirming)
        exclude = found.choice.kept
        after, notes = loss, []
        if exclude:
            after = self.joint.loss(exclude, confirming)
            if after >= loss:
                notes.append(
                    f"{len(exclude)} nodes in float helped activations alone, but not the "
                    "model with quantized weights, so they are not advised"
                )
                exclude, after = (), loss
        weights = 0.0 if is_late(until) else self._loss_of_weights(confirming)
        if loss > 0 and weights > _MOST * loss:
            notes.append(
                f"weights alone make {weights / loss:.0%} of the loss: float activations "
                "cannot help much"
            )
        if not found.choice.finished:
            notes.append("the time limit ended the search early")
        table = compute_ranges(self.begun.run.calibrator, policy, prepared)
        joint = self.trials.loss(grids, list(range(0, len(self.trials.samples), 2)))
        tensors = tuple(
            GuiltyTensor(
                name,
                self._nodes_of(prepared.plan, name),
                alone,
                alone / joint if joint else 0.0,
                diagnose(
                    self.begun.run.calibrator.stats(name),
                    table[name],
                    samples=self.begun.run.samples,
                ),
                found.remedies.get(name, ()),
            )
            for name, alone in found.tensors.items()
        )
        return Advice(
            loss,
            after,
            tuple(map(pattern_of, exclude)),
            tensors,
            len(confirming),
            {kind: limits.share_of(exclude, kind) for kind in limits.sizes},
            ", ".join(dict.fromkeys(self.judge.measures.values())),
            tuple(notes),
        )

    def _loss_of_weights(self, samples: Sequence[int]) -> float:
        """Return the loss with all activations in float."""
        prepared = self.begun.run.prepared
        with open_trial(self.begun, prepared, float_weights=False) as session:
            trials = Trials(session, self.trials.samples, self.judge)
            return trials.loss([session.grids({})], samples)

    @staticmethod
    def _nodes_of(plan: Plan, name: str) -> tuple[str, ...]:
        return tuple(plan.beside.get(name, ()))
