"""Times of nodes on this machine, with all nodes quantized that a run would quantize."""

from __future__ import annotations

from typing import TYPE_CHECKING

from quantcal._io.temporary import TemporaryFolder, working
from quantcal.onnx._choose.started_run import Started, trial_bits
from quantcal.onnx._observe.ranges import compute_ranges
from quantcal.onnx._runtime.kept_samples import KeptSamples
from quantcal.onnx._timing.measure import measure_times
from quantcal.onnx._timing.node_times import NodeTimes
from quantcal.onnx._write.output import check_output
from quantcal.onnx.writer import write_prepared

if TYPE_CHECKING:
    from quantcal.onnx._model.model import Model

TIMED_SAMPLES = 3
"""Their shapes decide the times; more samples take longer and tell little more."""


def times_here(model: Model, begun: Started, kept: KeptSamples) -> NodeTimes:
    """Write a model to a temporary folder, and measure the times of its nodes.

    Biases are not corrected: that takes long, and their values do not change a time.

    Parameters
    ----------
    model : path, bytes or ModelProto
        The float model.
    begun : Started
        Has the plan and the ranges.
    kept : KeptSamples
        The first three run.
    """
    prepared = begun.run.prepared
    with working():
        folder = TemporaryFolder()
    try:
        path = folder.path / "all.onnx"
        table = compute_ranges(begun.run.calibrator, begun.policy, prepared)
        place = check_output(model, path)
        write_prepared(prepared, place, table, bits=trial_bits(begun.bits))
        few = range(min(TIMED_SAMPLES, len(kept)))
        return measure_times(model, path, [kept.feed(index) for index in few])
    finally:
        folder.close()
