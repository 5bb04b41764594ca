"""The work of ``strategy="auto"``: compare whole strategies, then improve the worst tensors."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from quantcal._core import CalibrationError
from quantcal.data.thinning import spread
from quantcal.onnx._choose.candidates import (
    CANDIDATES,
    find_auto,
    replace_auto,
    with_tensors,
)
from quantcal.onnx._choose.choice import Change, Choice, TensorLoss
from quantcal.onnx._choose.folds import Folds
from quantcal.onnx._choose.improvement import Improvement, improve
from quantcal.onnx._choose.joint_trials import JointTrials
from quantcal.onnx._choose.loss_gains import gains
from quantcal.onnx._choose.node_trials import leave_in_float
from quantcal.onnx._choose.pick import compare, settle_tie
from quantcal.onnx._choose.sensitivity import Suspects, find_suspects, with_partners
from quantcal.onnx._choose.small_nodes import SmallNodeSearch
from quantcal.onnx._choose.started_run import Started, trial_bits
from quantcal.onnx._choose.time_limit import is_late
from quantcal.onnx._correct.bias_correction import BIAS_SAMPLES, correct_biases
from quantcal.onnx._graph.inputs import Sample
from quantcal.onnx._observe.calibration_run import CalibrationRun
from quantcal.onnx._observe.ranges import compute_ranges
from quantcal.onnx._options.cpu import WeightBits
from quantcal.onnx._timing.sample_counts import mean_counts
from quantcal.onnx._trial.judge import Judge
from quantcal.onnx._trial.metric_judge import MetricJudge
from quantcal.onnx._trial.trial_session import Grids, TrialSession, without
from quantcal.onnx._trial.trials import Trials, float_outputs
from quantcal.strategies.auto import Auto
from quantcal.strategies.base import Strategy
from quantcal.strategies.policy import Policy

if TYPE_CHECKING:
    from quantcal.onnx._runtime.kept_samples import KeptSamples

# Runs for each sample at most, to improve ranges: more where samples are few.
_RUNS = 6
_FEW = 16
# To find the worst tensors: samples, and how often they run.
_SUSPECT_SAMPLES = 8
_SUSPECT_MEASURES = 32
_HALF = 32  # samples at most that propose, and as many that confirm
_BIAS_GAIN = 0.02  # corrected biases take no time, so little is enough
# A shift changes every value of a channel. Of four recordings of speech it helped the other
# four, and nearly doubled the loss on 24 more.
_BIAS_CONFIRMS = 8
_WORTH_NAMING = 0.1  # of the largest loss of a single tensor
_NAMED = 4


@dataclass(frozen=True, slots=True)
class _Task:
    """What a choice starts from."""

    run: CalibrationRun
    policy: Policy
    auto: Auto
    bits: WeightBits
    samples: KeptSamples
    folds: Folds
    until: float | None = None  # a time of time.monotonic
    improve: bool = True

    @property
    def halves(self) -> tuple[Sequence[int], Sequence[int]]:
        """The samples that propose changes, of the even folds, and those that confirm."""
        every = range(len(self.samples))
        even = [i for i in every if self.samples.fold(i) % 2 == 0]
        odd = [i for i in every if self.samples.fold(i) % 2]
        return spread(even, _HALF), spread(odd, _HALF)


def choose_ranges(
    run: CalibrationRun,
    policy: Policy,
    bits: WeightBits,
    report: Callable[[str], None] = lambda _: None,
    *,
    until: float | None = None,
    improve: bool = True,
) -> Choice | None:
    """Choose the strategies of all tensors whose rule is ``auto``.

    Parameters
    ----------
    run : CalibrationRun
        With the samples that were kept for trials.
    policy : Policy
    bits : WeightBits
    report : callable
        Gets the name of each step when it begins.
    until : float, optional
        The time of ``time.monotonic`` at which to stop with the best so far. The time of
        ``auto`` may end earlier.
    improve : bool
        Whether to try changes to the best strategy.

    Returns
    -------
    Choice, optional
        None when there is nothing to choose or no sample to try on, and after a warning
        when the model cannot be tried.
    """
    auto = find_auto(policy)
    if auto is None or run.kept is None or not len(run.kept):
        return None
    started = time.perf_counter()
    folds = Folds(run.prepared, run.calibrator, run.parts, run.earlier)
    ends = [until, None if auto.time is None else time.monotonic() + auto.time]
    until = min((end for end in ends if end is not None), default=None)
    task = _Task(run, policy, auto, trial_bits(bits), run.kept, folds, until, improve)
    try:
        with ExitStack() as stack:
            choice = _choose(task, stack, report)
    except CalibrationError as error:
        if auto.metric is not None:  # the caller's code may be at fault
            raise
        warnings.warn(
            "No strategy could be tried on the model, so the ranges are those of least "
            f"squared error. The reason: {error}",
            stacklevel=5,
        )
        return None
    return replace(choice, seconds=time.perf_counter() - started)


def _choose(task: _Task, stack: ExitStack, report: Callable[[str], None]) -> Choice:
    policies = {str(each): replace_auto(task.policy, each) for each in CANDIDATES}
    report("Running the float model")
    session = stack.enter_context(_open(task, float_weights=False))
    judge = _judge(task, session)
    stack.callback(judge.close)
    float_outputs(task.run.prepared, task.samples, judge)
    trials = Trials(session, task.samples, judge)
    report("Comparing strategies")
    grids: dict[str, list[Grids]] = {}
    for name, each in policies.items():
        if not grids or not is_late(task.until):
            grids[name] = task.folds.grids(each, session)
    losses, damages = compare(trials, grids, task.until)
    if task.run.parts and not is_late(task.until):
        losses = settle_tie(
            trials, losses, damages, lambda n: task.folds.whole(policies[n], session)
        )
    best = losses[0].strategy
    loss = losses[0].loss
    choice = Choice(
        policies[best],
        best,
        tuple(losses),
        judge.measures,
        len(task.samples),
        task.samples.folds if task.run.parts else 1,
        loss=loss,
        runs=trials.runs,
    )
    done = loss == 0 or not task.improve or not task.run.parts
    if done or is_late(task.until):
        return choice
    report("Looking for the worst tensors")
    suspects = _suspects(task, session, judge, grids[best], trials)
    if is_late(task.until):
        return choice
    report("Trying small nodes in float")
    choice = _without_small(task, choice, trials, grids[best], suspects)
    if choice.exclude:
        prepared = leave_in_float(task.run.prepared, choice.exclude)
        rows = session.rows(set(session.tensors) - set(prepared.plan.sites))
        grids = {n: [without(g, rows) for g in each] for n, each in grids.items()}
        suspects = [each for each in suspects if not set(each.rows) & set(rows)]
    report("Improving their ranges")
    sources = task.run.prepared.plan.sources
    several = with_partners(suspects, session.tensors, sources)
    count = min(len(task.samples), 2 * _HALF)
    runs = _RUNS * count if count > _FEW else min(2 * _RUNS * count, _RUNS * _FEW)
    current, improved = improve(
        trials, best, grids, several, task.halves, runs=runs, until=task.until
    )
    choice = _finish(task, trials, choice, current, improved, suspects)
    if is_late(task.until):
        return choice
    report("Trying corrected biases")
    return _with_biases(task, choice, judge)


def _with_biases(task: _Task, choice: Choice, judge: Judge) -> Choice:
    """Return the choice with corrected biases, if that helps samples that they do not know.

    Half of the samples measure the shifts, and the other half judges.
    """
    run, samples = task.run, task.samples
    begun = Started(run, choice.policy, task.bits)
    prepared = leave_in_float(run.prepared, choice.exclude)
    joint = JointTrials(begun, samples, judge, folded=True)
    proposing, confirming = task.halves
    if "bias" in prepared.options.corrections or len(confirming) < _BIAS_CONFIRMS:
        return choice
    table = compute_ranges(run.calibrator, choice.policy, prepared)
    ranges = {name: table[name] for name in prepared.plan.tensors}
    feeds = [samples.feed(index) for index in proposing[:BIAS_SAMPLES]]
    changed, _ = correct_biases(prepared, ranges, task.bits, feeds)
    before = joint.loss(choice.exclude, confirming)
    after = joint.loss_of(changed, confirming)
    runs = choice.runs + len(feeds) + 2 * len(confirming)
    choice = replace(choice, runs=runs)
    if not gains(before, after, _BIAS_GAIN):
        return choice
    return replace(choice, biases=(before, after))


def _without_small(
    task: _Task,
    choice: Choice,
    trials: Trials,
    grids: Sequence[Grids],
    suspects: Sequence[Suspects],
) -> Choice:
    """Return the choice with small nodes in float, where that lowers the loss clearly."""
    run, share, halves = task.run, task.auto.float_share, task.halves
    if not share or not all(halves):
        return choice
    sample = Sample(task.samples.feed(0), task.samples.where(0))
    counts = mean_counts(run.prepared.converted, [sample])
    begun = Started(run, choice.policy, task.bits)
    joint = JointTrials(begun, task.samples, trials.judge, folded=True)
    search = SmallNodeSearch(
        run.prepared, trials, grids, halves, counts, share, task.until
    )
    found = search.find(suspects, joint)
    choice = replace(choice, runs=choice.runs + joint.runs)
    if not found.exclude:
        return choice
    return replace(
        choice,
        exclude=found.exclude,
        loss_before_exclude=found.before,
        loss_excluded=found.after,
        loss=joint.loss(found.exclude, joint.indices),
    )


def _open(task: _Task, *, float_weights: bool) -> TrialSession:
    """Open a session; biases are coded with the ranges of least squared error."""
    prepared = task.run.prepared
    base = replace_auto(task.policy, CANDIDATES[0])
    ranges = compute_ranges(task.run.calibrator, base, prepared)
    return TrialSession(prepared, ranges, task.bits, float_weights=float_weights)


def _judge(task: _Task, session: TrialSession) -> Judge:
    if task.auto.metric is None:
        return Judge(session.outputs)
    return MetricJudge(session.outputs, task.auto.metric, task.samples)


def _suspects(
    task: _Task,
    session: TrialSession,
    judge: Judge,
    grids: Sequence[Grids],
    trials: Trials,
) -> list[Suspects]:
    """Find the worst tensors on samples that propose; weights are in float."""
    with _open(task, float_weights=True) as alone:
        other = Trials(alone, task.samples, judge)
        samples = spread(task.halves[0], _SUSPECT_SAMPLES)
        runs = _SUSPECT_MEASURES * len(samples)
        found = find_suspects(other, grids, samples, runs=runs, until=task.until)
    trials.runs += other.runs
    return found


def _finish(
    task: _Task,
    trials: Trials,
    choice: Choice,
    current: Sequence[Grids],
    improved: Sequence[Improvement],
    suspects: Sequence[Suspects],
) -> Choice:
    names = trials.session.tensors
    by_name: Mapping[str, Strategy] = {str(each): each for each in CANDIDATES}
    assigned, _ = task.policy.assign(task.run.calibrator)
    changes = []
    chosen: dict[str, Strategy] = {}
    for each in improved:
        # Other strategies that the caller gave are not replaced.
        free = [names[r] for r in each.rows if isinstance(assigned[names[r]][1], Auto)]
        changes.append(Change(tuple(free), each.strategy, each.before, each.after))
        chosen |= dict.fromkeys(free, by_name[each.strategy])
    loss = choice.loss
    if changes:
        loss = trials.loss(current, trials.indices)
    single = [s for s in suspects if len(s.rows) == 1]
    worst = tuple(TensorLoss(names[s.rows[0]], s.loss) for s in single[:10])
    in_float: tuple[str, ...] = ()
    without_worst = None
    if worst:
        least = _WORTH_NAMING * worst[0].loss
        rows = [s.rows[0] for s in single[:_NAMED] if s.loss >= least]
        in_float = tuple(names[row] for row in rows)
        grids = [without(each, rows) for each in current]
        without_worst = trials.loss(grids, trials.indices)
    return replace(
        choice,
        policy=with_tensors(choice.policy, chosen),
        changes=tuple(changes),
        loss=loss,
        worst=worst,
        loss_without_worst=without_worst,
        in_float=in_float,
        runs=choice.runs + trials.runs,
    )
