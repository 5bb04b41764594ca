"""The histograms of a quantization, from its own samples or from an earlier run."""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial, reduce
from typing import TYPE_CHECKING

from quantcal._core import CalibrationError
from quantcal.calibrator import Calibrator
from quantcal.onnx._check.equivalence import check_on_random_inputs, first_sample_check
from quantcal.onnx._observe.ranges import compute_ranges, share_histograms
from quantcal.onnx._observe.recording import RecordingTask, empty_calibrator, record
from quantcal.onnx._observe.select_tensors import ObservedGraph
from quantcal.onnx._options.quantize_options import QuantizeOptions
from quantcal.onnx._plan.data_coverage import histogram_coverage, table_coverage
from quantcal.onnx._plan.option_advice import suggest_options
from quantcal.onnx._plan.preparation import Prepared
from quantcal.stability import Stability
from quantcal.strategies.policy import Policy
from quantcal.table import CalibrationTable

if TYPE_CHECKING:
    from quantcal.onnx._graph.inputs import Feed, Sample
    from quantcal.onnx._observe.checkpoint import Checkpoint
    from quantcal.onnx._runtime.kept_samples import KeptSamples


@dataclass(frozen=True, slots=True)
class CalibrationRun:
    """The data from which ranges are computed.

    Attributes
    ----------
    calibrator
        The histograms of all tensors that need a range.
    prepared
        The model; nodes that no sample reached stay in float.
    samples
        The number of samples that ran.
    first
        The first sample. Without samples it is random input, if the model accepts that.
    parts
        Histograms of the folds: of the samples that took turns, two or :data:`FOLDS`.
        Empty when they were not separated.
    kept
        The samples on which strategies can be tried, if any were kept.
    earlier
        The histograms that a given calibrator had before, if ``kept``.
    """

    calibrator: Calibrator
    prepared: Prepared
    samples: int = 0
    first: Sample | None = None
    parts: tuple[Calibrator, ...] = ()
    kept: KeptSamples | None = None
    earlier: Calibrator | None = None

    def stability(self, policy: Policy, table: CalibrationTable) -> Stability | None:
        """Return how far the halves agree; None when they were not separated."""
        if not self.parts:
            return None
        first, second = (reduce(operator.add, self.parts[turn::2]) for turn in range(2))
        one, other = (
            compute_ranges(half, policy, self.prepared, among=self.calibrator)
            for half in (first, second)
        )
        reached = table_coverage(table)
        covered = CalibrationTable(
            {n: table[n] for n in {**one, **other} if reached[n] is None}
        )
        return Stability.of((first, second), (one, other), covered)


def run_samples(
    prepared: Prepared,
    samples: object,
    options: QuantizeOptions,
    calibrator: Calibrator | None,
    new: Calibrator,
    *,
    checkpoint: Checkpoint | None,
    progress: bool,
    kept: KeptSamples | None = None,
    keep: Callable[[int, Feed], None] | None = None,
) -> CalibrationRun:
    """Run the samples and record the tensors that the plan needs.

    Parameters
    ----------
    prepared
    samples
        As :func:`quantcal.onnx.quantize` takes them.
    options
        How to observe, and whether to record two halves separately.
    calibrator
        The observations are added to this one.
    new
        An empty calibrator with the settings to use.
    checkpoint
        Where the histograms are saved in case the samples end early.
    progress
        Whether to show a bar.
    kept
        Where samples are kept for trials; their folds are recorded separately.
    keep
        Also gets the number of each sample and the sample.
    """
    plan = prepared.plan
    earlier = None if kept is None or calibrator is None else calibrator + new
    task = RecordingTask(
        ObservedGraph(prepared.converted, prepared.types, plan.observed),
        plan,
        lambda seen: share_histograms(seen, plan),
        calibrator,
        checkpoint,
        first_sample_check(prepared),
        _both(None if kept is None else kept.add, keep),
    )
    turns = kept.folds if kept is not None else 2 if options.check_stability else 1
    calibrators = [
        new,
        *(empty_calibrator(new, None, "ignore") for _ in range(1, turns)),
    ]
    done = record(task, samples, options, calibrators, progress=progress)
    reached = prepared.drop_uncovered(histogram_coverage(done.calibrator))
    return CalibrationRun(
        done.calibrator, reached, done.samples, done.first, done.parts, kept, earlier
    )


def _both(
    first: Callable[[int, Feed], None] | None,
    second: Callable[[int, Feed], None] | None,
) -> Callable[[int, Feed], None]:
    def keep(number: int, feed: Feed) -> None:
        for each in (first, second):
            if each is not None:
                each(number, feed)

    return keep


def reuse_histograms(
    prepared: Prepared, calibrator: Calibrator | None
) -> CalibrationRun:
    """Use the histograms of an earlier run.

    Raises
    ------
    CalibrationError
        When there are none, or one that the plan needs is missing.
    """
    if not calibrator:
        raise CalibrationError(
            "There are no samples and no histograms. Give samples, or a calibrator that "
            "has observed this model."
        )
    known = share_histograms(calibrator, prepared.plan)
    reached = histogram_coverage(calibrator) | histogram_coverage(known)
    formats = {each for several in calibrator.formats.values() for each in several}
    suggest = partial(suggest_options, prepared, reached, formats, table=False)
    covered = prepared.require_coverage(reached, "There is no histogram", suggest)
    return CalibrationRun(known, covered, first=check_on_random_inputs(prepared))
