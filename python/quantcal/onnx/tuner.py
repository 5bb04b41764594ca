"""Tuning: the fastest model that keeps a promise about accuracy."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Collection
from contextlib import ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from quantcal._core import CalibrationError
from quantcal._io.temporary import TemporaryFolder, working
from quantcal.advice.progress import count_runs
from quantcal.onnx._check.files_in_use import policy_files
from quantcal.onnx._choose.choose_ranges import choose_ranges
from quantcal.onnx._choose.culprits import CulpritSearch
from quantcal.onnx._choose.float_budget import parse_share
from quantcal.onnx._choose.folds import Folds
from quantcal.onnx._choose.held_out import PERIOD, HeldOut
from quantcal.onnx._choose.joint_trials import JointTrials, open_judge, open_trial
from quantcal.onnx._choose.node_trials import NodePlans
from quantcal.onnx._choose.promise import Promise
from quantcal.onnx._choose.start import Started, start
from quantcal.onnx._choose.tuning import TuneSearch
from quantcal.onnx._model.model import load_model, model_inputs
from quantcal.onnx._options.keywords import takes_options, with_changes
from quantcal.onnx._options.quantize_options import QuantizeKeywords, QuantizeOptions
from quantcal.onnx._runtime.child_process import shared_child
from quantcal.onnx._runtime.kept_samples import KeptSamples
from quantcal.onnx._runtime.samples import as_samples
from quantcal.onnx._timing.measure import measure_times
from quantcal.onnx._timing.node_times import NodeTimes
from quantcal.onnx._trial.trials import Trials
from quantcal.onnx._write.output import check_output
from quantcal.onnx.evaluation import evaluate
from quantcal.onnx.quantizer import quantize
from quantcal.onnx.tune_result import TuneResult
from quantcal.strategies.auto import FOLDS, SAMPLES

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from quantcal.onnx._model.model import Model

_TIMED_SAMPLES = 3


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

    Starts from the best strategy. Nodes that integers do not make faster stay in float
    first, then the guiltiest, as few as keep the promise. Each is then put back into
    integers if the promise allows. Every fifth sample is kept apart and decides nothing.
    The promise is checked on these samples at last.

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
        over variance, or KL for probabilities.
    metric
        Your measure, as for :func:`quantcal.onnx.evaluate`; more is better.
    times
        Times of nodes that :func:`quantcal.onnx.measure_times` found on the machine that
        deploys, or their file. By default they are measured here.
    time_limit
        Seconds for the search. The best model so far is written then.
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
    allowed = parse_share(max_drop)
    check_output(model, output, samples, *policy_files(asked.strategy))
    known = (
        times
        if times is None or isinstance(times, NodeTimes)
        else NodeTimes.load(times)
    )
    until = None if time_limit is None else time.monotonic() + time_limit
    inputs = model_inputs(load_model(model, weights=False).proto)
    held = HeldOut(as_samples(samples, inputs), SAMPLES)
    kept = KeptSamples(FOLDS, SAMPLES)
    begun = start(model, held, asked, kept, progress=progress)
    if not len(held.kept) or len(kept) < FOLDS:
        raise CalibrationError(
            f"There are {begun.run.samples + len(held.kept)} samples. Tuning needs "
            f"{2 * PERIOD} or more, as every fifth is kept apart to check the promise."
        )
    choice = choose_ranges(begun.run, begun.policy, begun.bits)
    if choice is not None:
        begun = replace(begun, policy=choice.policy)
    with ExitStack() as stack, count_runs("Tuning", show=progress) as on_run:
        judge = open_judge(begun, kept, metric, stack)
        known = known or _times(model, begun, asked, kept)
        estimate = _estimate(known)
        search = TuneSearch(
            JointTrials(begun, kept, judge, folded=True),
            Promise(judge, allowed),
            estimate,
            until,
            on_run,
        )
        free = [
            name for name in known.not_faster() if name in begun.run.prepared.plan.nodes
        ]
        ranked = (
            []
            if search.promise.is_kept(search.drop(()))
            else _ranked(begun, search, kept, on_run)
        )
        order = [*free, *(name for name in ranked if name not in free)]
        exclude = search.search(order)
        checker = Promise(open_judge(begun, held.kept, metric, stack), allowed)
        checked = JointTrials(begun, held.kept, checker.judge, folded=False)
        drop = checker.drop(checked.damage(exclude), checked.indices)
    written = quantize(
        model,
        output,
        calibrator=begun.run.calibrator,
        options=replace(
            asked,
            strategy=begun.policy,
            exclude=tuple(dict.fromkeys((*asked.exclude, *exclude))),
        ),
    )
    few = [held.kept.feed(index) for index in range(len(held.kept))]
    native = evaluate(model, output, few)
    final = measure_times(model, output, few[:_TIMED_SAMPLES], rounds=5)
    held.kept.close()
    kept.close()
    return TuneResult(
        written,
        exclude,
        allowed,
        search.drop(exclude),
        drop,
        len(kept),
        len(few),
        search.promise.measure,
        native,
        final.float_latency,
        final.integer_latency,
        tuple(search.points),
        free=tuple(free),
        in_time=not search.is_late,
    )


def _times(
    model: Model, begun: Started, asked: QuantizeOptions, kept: KeptSamples
) -> NodeTimes:
    """Measure the times of nodes with all of them quantized."""
    with working():
        folder = TemporaryFolder()
    try:
        path = folder.path / "all.onnx"
        quantize(
            model,
            path,
            calibrator=begun.run.calibrator,
            options=replace(asked, strategy=begun.policy),
        )
        few = [kept.feed(index) for index in range(min(_TIMED_SAMPLES, len(kept)))]
        return measure_times(model, path, few)
    finally:
        folder.close()


def _estimate(times: NodeTimes) -> Callable[[Collection[str]], float]:
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
        limit = None if search.until is None else search.until - time.monotonic()
        alone = found.ranking(prepared.plan, time_limit=limit, on_run=on_run)
    rest = [name for name in prepared.plan.nodes if name not in alone]
    return [*alone, *rest]
