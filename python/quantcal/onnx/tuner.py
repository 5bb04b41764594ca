"""Tuning: the fastest model that keeps a promise about accuracy."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from quantcal._core import CalibrationError
from quantcal.advice.progress import count_runs
from quantcal.onnx._check.files_in_use import policy_files
from quantcal.onnx._choose.auto_choice import choose_ranges
from quantcal.onnx._choose.candidates import find_auto, replace_auto
from quantcal.onnx._choose.culprits import CulpritSearch
from quantcal.onnx._choose.float_budget import parse_drop
from quantcal.onnx._choose.folds import Folds
from quantcal.onnx._choose.held_out import PERIOD, HeldOut
from quantcal.onnx._choose.joint_trials import JointTrials, open_judge, open_trial
from quantcal.onnx._choose.node_trials import NodePlans, leave_in_float
from quantcal.onnx._choose.promise import Promise
from quantcal.onnx._choose.repeated_options import fitting_options
from quantcal.onnx._choose.started_run import Started, refuse_weights_only, start
from quantcal.onnx._choose.time_limit import end_of, is_late, time_left
from quantcal.onnx._choose.tuning import TuneSearch
from quantcal.onnx._model.model import load_model, model_inputs
from quantcal.onnx._options.keywords import takes_options, with_changes
from quantcal.onnx._options.quantize_options import QuantizeKeywords, QuantizeOptions
from quantcal.onnx._runtime.child_process import shared_child
from quantcal.onnx._runtime.kept_samples import KeptSamples
from quantcal.onnx._runtime.samples import as_samples
from quantcal.onnx._timing.measure import measure_times
from quantcal.onnx._timing.node_times import NodeTimes
from quantcal.onnx._trial.metric_judge import load_metric
from quantcal.onnx._trial.trials import Trials
from quantcal.onnx._write.output import check_output
from quantcal.onnx.deploy_times import TIMED_SAMPLES, times_here
from quantcal.onnx.evaluation import evaluate
from quantcal.onnx.quantizer import quantize
from quantcal.onnx.tune_result import TuneResult
from quantcal.strategies.auto import FOLDS, SAMPLES

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from quantcal.onnx._model.model import Model


@takes_options(QuantizeKeywords)
@shared_child()
def tune(
    model: Model,
    output: str | os.PathLike[str],
    samples: object,
    *,
    max_drop: float | str = "1%",
    metric: Callable[..., Any] | str | None = None,
    times: NodeTimes | str | os.PathLike[str] | None = None,
    time_limit: float | None = None,
    progress: bool = True,
    options: QuantizeOptions | None = None,
    **changes: Unpack[QuantizeKeywords],
) -> TuneResult:
    """Write the fastest model that keeps a promise about accuracy.

    Starts from the best strategy. If that breaks the promise, nodes that integers do not
    make faster stay in float first, then the guiltiest, as few as keep the promise. Each
    guilty one is then put back into integers if the promise allows. Every fifth sample is
    held out of the search. The promise is checked on these samples at last.

    Parameters
    ----------
    model, output
        As for :func:`quantcal.onnx.quantize`.
    samples
        Calibration samples, as for :func:`quantcal.onnx.quantize`. At least 10; 100 or
        more resolve a drop of 1 %.
    max_drop
        The promise: 0.01 or ``"1%"`` (default). With a ``metric``, the share of the float
        model's mean that may be lost. Without one, the loss of the outputs: squared error
        over variance, or KL for probabilities. ``"100%"`` allows all; a bare 1 is refused.
    metric
        Your measure, as for :func:`quantcal.onnx.evaluate`; more is better.
    times
        Times of nodes that :func:`quantcal.onnx.measure_times` found on the machine that
        deploys, or their file. By default they are measured here.
    time_limit
        Seconds for everything before the model is written. Then the best so far is
        written. The calibration samples and the first model are always computed.
    progress
        Show bars on stderr when it is a terminal and rich is installed.
    options
        All options as one object; the keywords below replace its fields.
    <options>

    Returns
    -------
    TuneResult
        Also if no model keeps the promise: ``kept`` is False then.

    Raises
    ------
    CalibrationError
        As :func:`quantcal.onnx.quantize`, and when there are too few samples.

    Examples
    --------
    >>> result = qc.onnx.tune("model.onnx", "model.int8.onnx", "calibration/")
    >>> print(result.summary())
    """
    asked = with_changes("tune", QuantizeKeywords, options, changes)
    allowed = parse_drop(max_drop)
    metric = None if metric is None else load_metric(metric)
    refuse_weights_only("tune", asked)
    until = end_of(time_limit)
    check_output(model, output, samples, *policy_files(asked.strategy))
    known = None if times is None else NodeTimes.of(times)
    inputs = model_inputs(load_model(model, weights=False).proto)
    with ExitStack() as stack:
        held = HeldOut(as_samples(samples, inputs), SAMPLES)
        kept = KeptSamples(FOLDS, SAMPLES, number_of=held.deciding)
        stack.callback(held.kept.close)
        stack.callback(kept.close)
        begun = start(model, held.again(), asked, kept, progress=progress)
        if len(held.kept) < 2:
            raise CalibrationError(
                f"There are {begun.run.samples + len(held.kept)} samples. Tuning needs "
                f"{2 * PERIOD} or more, as every fifth is kept apart to check the promise."
            )
        chosen = _with_choice(begun, asked, metric, until, held)
        task = _Task(model, *chosen, kept, held, metric, allowed, until)
        on_run = stack.enter_context(count_runs("Tuning", show=progress))
        return _write(task, output, _search(task, known, stack, on_run))


@dataclass(frozen=True, slots=True)
class _Task:
    """What is tuned, and on which samples."""

    model: Model
    asked: QuantizeOptions
    begun: Started
    small: tuple[str, ...]  # nodes that auto leaves in float
    kept: KeptSamples
    held: HeldOut
    metric: Callable[..., Any] | str | None
    max_drop: float
    until: float | None

    def options(self, exclude: Collection[str]) -> QuantizeOptions:
        """Return the options of a model with more nodes in float."""
        prepared = leave_in_float(self.begun.run.prepared, exclude)
        return fitting_options(
            replace(self.asked, strategy=self.begun.policy),
            prepared,
            (*self.small, *exclude),
        )


@dataclass(frozen=True, slots=True)
class _Found:
    """The nodes in float, those that integers do not make faster, and the drops."""

    exclude: tuple[str, ...]
    free: tuple[str, ...]
    drop_deciding: float
    drop: float
    search: TuneSearch


def _with_choice(
    begun: Started,
    asked: QuantizeOptions,
    metric: Callable[..., Any] | str | None,
    until: float | None,
    held: HeldOut,
) -> tuple[QuantizeOptions, Started, tuple[str, ...]]:
    """Put in place of ``auto`` the best strategies, and leave what it leaves in float.

    The biases that it corrects are corrected in all models, if the samples can be read
    again.
    """
    policy, auto = begun.policy, find_auto(begun.policy)
    if auto is not None and metric is not None:
        policy = replace_auto(policy, replace(auto, metric=metric))
    choice = choose_ranges(begun.run, policy, begun.bits, until=until)
    if choice is None:
        return asked, begun, ()
    prepared = leave_in_float(begun.run.prepared, choice.exclude)
    if choice.biases is not None and held.again().rewindable:
        asked = replace(asked, corrections=(*asked.corrections, "bias"))
        both = tuple(asked.corrections)
        options = replace(prepared.options, corrections=both)
        prepared = replace(prepared, options=options)
    run = replace(begun.run, prepared=prepared)
    return asked, replace(begun, run=run, policy=choice.policy), choice.exclude


def _search(
    task: _Task,
    known: NodeTimes | None,
    stack: ExitStack,
    on_run: Callable[[], object],
) -> _Found:
    """Find the nodes to leave in float, and check the promise on the held-out samples."""
    begun = task.begun
    judge = open_judge(begun, task.kept, task.metric, stack)
    if known is None and not is_late(task.until):
        known = times_here(task.model, begun, task.kept)
    # Shifts of biases come from every second sample, here and below.
    shifting = range(0, len(task.kept), 2)
    search = TuneSearch(
        JointTrials(begun, task.kept, judge, folded=True, shifting=shifting),
        Promise(judge, task.max_drop),
        _estimate(known),
        task.until,
        on_run,
    )
    nodes = begun.run.prepared.plan.nodes
    slow = () if known is None else known.not_faster()
    free = tuple(name for name in slow if name in nodes)
    ranked: list[str] = []
    if not search.promise.is_kept(search.drop(())):
        ranked = _ranked(begun, search, task.kept, on_run)
    exclude = search.search(free, ranked)
    held = task.held.kept
    checker = Promise(open_judge(begun, held, task.metric, stack), task.max_drop)
    checked = JointTrials(begun, held, checker.judge, folded=False)
    final = search.trials.corrected(exclude)
    drop = checker.drop(checked.damage_of(final), checked.indices)
    return _Found(exclude, free, search.drop(exclude), drop, search)


def _write(task: _Task, output: str | os.PathLike[str], found: _Found) -> TuneResult:
    """Write the model, and measure it as it will run."""
    options = task.options(found.exclude)
    if options.corrections:  # they read the samples, and change what was observed
        written = quantize(
            task.model, output, task.held.again(), progress=False, options=options
        )
    else:
        written = quantize(
            task.model, output, calibrator=task.begun.run.calibrator, options=options
        )
    held = task.held.kept
    few = [held.feed(index) for index in range(len(held))]
    native = evaluate(task.model, output, few)
    final = measure_times(task.model, output, few[:TIMED_SAMPLES], rounds=5)
    return TuneResult(
        replace(written, samples=task.begun.run.samples),
        (*task.small, *found.exclude),
        task.max_drop,
        found.drop_deciding,
        found.drop,
        len(task.kept),
        len(few),
        found.search.promise.measure,
        native,
        final.float_latency,
        final.integer_latency,
        tuple(
            replace(point, exclude=(*task.small, *point.exclude))
            for point in found.search.points
        ),
        free=found.free,
        in_time=not found.search.ended_early,
    )


def _estimate(
    times: NodeTimes | None,
) -> Callable[[Collection[str]], float | None]:
    if times is None:
        return lambda _: None
    gains = {name: node.gain_ms for name, node in times.nodes.items() if node.quantized}
    whole = times.integer_latency.median_ms

    def estimate(exclude: Collection[str]) -> float:
        return whole + sum(gains.get(name, 0.0) for name in exclude)

    return estimate


def _ranked(
    begun: Started,
    search: TuneSearch,
    kept: KeptSamples,
    on_run: Callable[[], object],
) -> list[str]:
    """Return the nodes, those that lose most alone first."""
    prepared, run = begun.run.prepared, begun.run
    with open_trial(begun, prepared, float_weights=True) as session:
        trials = Trials(session, kept, search.promise.judge)
        folds = Folds(prepared, run.calibrator, run.parts, run.earlier)
        grids = folds.grids(begun.policy, session)
        found = CulpritSearch(trials, NodePlans(prepared), grids, {})
        limit = time_left(search.until)
        alone = found.ranking(prepared.plan, time_limit=limit, on_run=on_run)
    rest = [name for name in prepared.plan.nodes if name not in alone]
    return [*alone, *rest]
