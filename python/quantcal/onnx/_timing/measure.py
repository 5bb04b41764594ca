"""Measure a float model and its quantized copy in turns, node by node."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

import numpy as np

from quantcal._core import CalibrationError
from quantcal.onnx._model.model import model_inputs
from quantcal.onnx._runtime.child_process import shared_child
from quantcal.onnx._runtime.progress import track
from quantcal.onnx._timing.machine import this_machine
from quantcal.onnx._timing.matching import Match, match_nodes
from quantcal.onnx._timing.node_times import Latency, NodeTimes
from quantcal.onnx._timing.rounds import ModelRounds, compare_rounds
from quantcal.onnx._timing.sample_counts import (
    check_number,
    first_samples,
    mean_counts,
)
from quantcal.onnx._timing.timed_model import ProfiledRuns, TimedModel, WholeRuns

if TYPE_CHECKING:
    from collections.abc import Sequence

    from quantcal.onnx._graph.inputs import Sample
    from quantcal.onnx._model.model import Model


@shared_child()
def measure_times(
    float_model: Model,
    quantized_model: Model,
    samples: object,
    *,
    rounds: int = 20,
    max_samples: int = 3,
    threads: int = 0,
    progress: bool = False,
) -> NodeTimes:
    """Measure what integers gain at each node, on this machine's CPU.

    Both models run in turns: float, quantized, float, and so on. onnxruntime optimizes them as
    in an application. Whole runs are timed first. Then its profiler times each kernel of the
    optimized graphs, and the times are attributed to the nodes of the float model. Run it on
    an idle machine of the kind that deploys the model.

    Parameters
    ----------
    float_model, quantized_model
        Paths, bytes or ``onnx.ModelProto``: a model and its quantized copy.
    samples
        As for :func:`quantcal.onnx.observe`. Their shapes decide the times, so take typical
        ones.
    rounds
        How often each sample runs in each of the two measurements, at least 3. Medians are
        taken over the rounds. The default gives stable quartiles.
    max_samples
        Only so many samples are read and kept in memory. A few suffice, because times depend
        on shapes rather than on values.
    threads
        The number of threads of a run; 0, the default, is onnxruntime's choice.
    progress
        Show a bar on stderr when it is a terminal and rich is installed.

    Returns
    -------
    NodeTimes

    Raises
    ------
    CalibrationError
        When a model cannot be loaded or run, the second is no quantized copy of the first, a
        sample does not fit, there are no samples, or a number is too small.

    Examples
    --------
    >>> result = qc.onnx.quantize("model.onnx", "int8.onnx", "calibration/")
    >>> times = qc.onnx.measure_times("model.onnx", "int8.onnx", "calibration/", rounds=3)
    >>> times.nodes["Conv_0"].kernel
    'QLinearConv'
    >>> set(times.not_faster()) <= {"Conv_0", "Conv_2"}
    True
    """
    check_number("rounds", rounds, 3)
    check_number("max_samples", max_samples, 1)
    check_number("threads", threads, 0)
    first, second = (TimedModel(m, threads) for m in (float_model, quantized_model))
    match = match_nodes(first.graph, second.graph, second.label)
    chosen = _read(samples, first, second, max_samples)
    counts = mean_counts(first.loaded, chosen)
    first_latency, second_latency, won = time_whole_runs(
        (first, second), chosen, rounds, progress
    )
    profiles = _profiled_runs((first, second), match, chosen, rounds, progress)
    nodes, (first_rest, second_rest) = compare_rounds(
        first.graph, counts, match.quantized, *profiles
    )
    return NodeTimes(
        nodes,
        first_latency,
        second_latency,
        won,
        first_rest,
        second_rest,
        samples=len(chosen),
        rounds=rounds,
        machine=this_machine(threads),
    )


def _read(
    samples: object, first: TimedModel, second: TimedModel, most: int
) -> list[Sample]:
    inputs = model_inputs(first.loaded.proto)
    names = {spec.name for spec in inputs}
    others = {spec.name for spec in model_inputs(second.loaded.proto)}
    if names != others:
        raise CalibrationError(
            f"The inputs of {first.label} are {sorted(names)}, those of {second.label} "
            f"{sorted(others)}. Give a model and its quantized copy."
        )
    return first_samples(samples, inputs, most)


def time_whole_runs(
    models: Sequence[TimedModel],
    samples: Sequence[Sample],
    rounds: int,
    progress: bool,
) -> tuple[Latency, Latency, float]:
    """Return the latency of both models, and the share of rounds that the second won."""
    runs = [WholeRuns(model) for model in models]
    times = np.zeros((rounds + 1, len(models)))
    for number in track(
        range(rounds + 1), total=rounds + 1, show=progress, label="Timing whole runs"
    ):
        for sample in samples:
            for place, each in enumerate(runs):
                times[number, place] += each(sample) / len(samples)
    # The first round allocates memory and prepares weights.
    lower, median, upper = np.quantile(times[1:], (0.25, 0.5, 0.75), axis=0)
    first, second = (
        Latency(float(m), float(u - low) / 2)
        for m, u, low in zip(median, upper, lower, strict=True)
    )
    return first, second, float(np.mean(times[1:, 1] < times[1:, 0]))


def _profiled_runs(
    models: Sequence[TimedModel],
    match: Match,
    samples: Sequence[Sample],
    rounds: int,
    progress: bool,
) -> list[ModelRounds]:
    with ExitStack() as stack:
        profiled = []
        for model in models:
            profiled.append(ProfiledRuns(model))
            stack.callback(profiled[-1].close)
        for _ in track(
            range(rounds + 1), total=rounds + 1, show=progress, label="Timing kernels"
        ):
            for sample in samples:
                for each in profiled:
                    each(sample)
        found = []
        for model, each in zip(models, profiled, strict=True):
            names = match.names if model is models[1] else None
            times = each.end()[len(samples) :]
            found.append(
                ModelRounds.of(model, each.kernels, names, times, len(samples))
            )
    return found
