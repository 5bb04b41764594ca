"""Where the histograms of a quantisation come from: a run of the samples, or an earlier one."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from quantcal._core import CalibrationError
from quantcal.calibrator import Calibrator
from quantcal.onnx._check.equivalence import check_on_random_inputs, first_sample_check
from quantcal.onnx._observe.observer import Source, check_resumed, record, together
from quantcal.onnx._observe.ranges import ranges, share
from quantcal.onnx._plan.noted_formats import advice
from quantcal.onnx._plan.prepare import Prepared
from quantcal.onnx._plan.reached import in_histograms, in_table
from quantcal.stability import Stability
from quantcal.strategies.policy import Policy
from quantcal.table import CalibrationTable

if TYPE_CHECKING:
    from quantcal.onnx._graph.inputs import Sample
    from quantcal.onnx._observe.checkpoint import Checkpoint


@dataclass(frozen=True, slots=True)
class CalibrationRun:
    """What ranges are chosen from.

    Attributes
    ----------
    calibrator : Calibrator
        The histograms of all tensors that need a range.
    prepared : Prepared
        The model without the nodes that no sample reached.
    samples : int
        The number of samples that ran.
    first : Sample, optional
        The first of the reader; random inputs, where the model can take them, without
        a reader.
    halves : tuple of Calibrator, optional
        What every second sample and what the others gave.
    """

    calibrator: Calibrator
    prepared: Prepared
    samples: int = 0
    first: Sample | None = None
    halves: tuple[Calibrator, Calibrator] | None = None

    def stability(self, policy: Policy, table: CalibrationTable) -> Stability | None:
        """Return how far the halves agree; None when there are none."""
        if self.halves is None:
            return None
        one, other = (
            ranges(half, policy, self.prepared, among=self.calibrator)
            for half in self.halves
        )
        reached = in_table(table)
        here = CalibrationTable(
            {n: table[n] for n in {**one, **other} if reached[n] is None}
        )
        return Stability.of(self.halves, (one, other), here)


def from_samples(
    prepared: Prepared,
    reader: object,
    calibrator: Calibrator | None,
    used: Calibrator,
    *,
    halves: bool,
    keep: Checkpoint | None,
    **how: Any,
) -> CalibrationRun:
    """Run the samples.

    Parameters
    ----------
    prepared : Prepared
    reader : object
        The samples.
    calibrator : Calibrator, optional
        They are added to this one.
    used : Calibrator
        An empty one with the settings to use.
    halves : bool
        Whether to keep the halves apart.
    keep : Checkpoint, optional
        Where what was observed is kept in case not all samples run.
    how
        Options of :func:`quantcal.onnx._observe.observer.record`.
    """
    plan = prepared.plan
    source = Source(prepared.converted, prepared.types, plan.observed)
    parts = [used]
    if halves:
        other = Calibrator(
            mantissa_bits=used.mantissa_bits, on_nonfinite=used.on_nonfinite
        )
        parts.append(other)
    check_resumed(source, keep, calibrator, plan)
    samples, first = record(
        source,
        reader,
        parts,
        keep=keep,
        whole=lambda seen: together(calibrator, share(seen, plan)),
        check=first_sample_check(prepared),
        **how,
    )
    kept = None
    if halves and samples - (keep.samples if keep else 0) > 1:
        kept = share(used, plan), share(other, plan)
    for part in parts[1:]:
        used.merge(part)
    new = share(used, plan)
    if calibrator is None:
        calibrator = new
    else:
        calibrator.merge(new)
    if keep is not None:
        keep.done(samples)
    reached = prepared.reached_by(in_histograms(calibrator))
    return CalibrationRun(calibrator, reached, samples, first, kept)


def from_before(prepared: Prepared, calibrator: Calibrator | None) -> CalibrationRun:
    """Take what a calibrator has seen of the model earlier.

    Raises
    ------
    CalibrationError
        When that is nothing, or not all that is needed.
    """
    if not calibrator:
        raise CalibrationError(
            "There are no samples and no histograms. Give a reader, or a calibrator that "
            "has observed this model."
        )
    known = share(calibrator, prepared.plan)
    reached = in_histograms(calibrator) | in_histograms(known)
    formats = {each for several in calibrator.formats.values() for each in several}
    told = partial(advice, prepared, reached, formats, table=False)
    covered = prepared.covered_by(reached, "There is no histogram", told)
    return CalibrationRun(known, covered, first=check_on_random_inputs(prepared))
