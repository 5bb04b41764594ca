"""Run samples through a model once, and record its tensors.

Graph optimizations are off, so that each tensor is computed exactly as the model defines it
and none is fused away. Two observers give the same histograms. One inserts operators into
the graph (:mod:`quantcal.onnx._observe.in_graph`). The other makes the tensors outputs of
the model (:mod:`quantcal.onnx._observe.graph_outputs`), if operators cannot be loaded.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from quantcal._core import CalibrationError
from quantcal._text import shown
from quantcal.calibrator import Calibrator
from quantcal.onnx._graph.graph import tensors_of
from quantcal.onnx._graph.inputs import Feed, Sample
from quantcal.onnx._model.model import model_inputs
from quantcal.onnx._observe.checkpoint import Checkpoint, CheckpointKeeper
from quantcal.onnx._observe.graph_outputs import GraphOutputsObserver
from quantcal.onnx._observe.in_graph import InGraphObserver
from quantcal.onnx._observe.select_tensors import ObservedGraph
from quantcal.onnx._options.quantize_options import QuantizeOptions
from quantcal.onnx._runtime.progress import track
from quantcal.onnx._runtime.samples import as_samples
from quantcal.onnx._runtime.session import Workspace

if TYPE_CHECKING:
    from quantcal._settings import OnNonfinite
    from quantcal.onnx._plan.plan import Plan


@dataclass(frozen=True, slots=True)
class Recording:
    """The result of running all samples.

    Attributes
    ----------
    calibrator
        All histograms, those of the given calibrator included.
    samples
        The number of samples, those of an earlier run included.
    first
        The first sample.
    parts
        The calibrators that took samples in turns; empty after a single sample.
    """

    calibrator: Calibrator
    samples: int
    first: Sample | None
    parts: tuple[Calibrator, ...] = ()


@dataclass(frozen=True, slots=True)
class RecordingTask:
    """What to record, and where to.

    Attributes
    ----------
    source
        The graph to run, and the tensors in it to record.
    plan
        The plan that needs them; None when the caller named them.
    name
        Turns the records into the histograms that the caller gets.
    calibrator
        The observations are added to this calibrator. It does not change when the run
        fails.
    checkpoint
        Where the histograms are saved in case the samples end early.
    check
        Gets the first sample and its name, and may raise. It is called before any sample
        is recorded, even if an earlier run recorded the first one.
    keep
        Gets the number of each sample and the sample, after it was recorded.
    """

    source: ObservedGraph
    plan: Plan | None
    name: Callable[[Calibrator], Calibrator]
    calibrator: Calibrator | None = None
    checkpoint: Checkpoint | None = None
    check: Callable[[Feed, str], None] | None = None
    keep: Callable[[int, Feed], None] | None = None


def check_given(calibrator: object, checkpoint: object) -> None:
    """Refuse what is not a calibrator, or not a checkpoint, before anything runs."""
    if calibrator is not None and not isinstance(calibrator, Calibrator):
        raise CalibrationError(
            f"calibrator is {shown(calibrator)}. Give a Calibrator, such as that of "
            "quantcal.load."
        )
    if checkpoint is not None and not isinstance(checkpoint, Checkpoint):
        raise CalibrationError(
            f"checkpoint is {shown(checkpoint)}. Give a quantcal.onnx.Checkpoint, made "
            "with the path of the output."
        )


def empty_calibrator(
    calibrator: Calibrator | None, mantissa_bits: int | None, on_nonfinite: OnNonfinite
) -> Calibrator:
    """Return an empty calibrator with the settings of the given one, or with these.

    A run records into an empty calibrator and merges it when it is complete. So an error
    leaves the given one unchanged.
    """
    if calibrator is None:
        return Calibrator(mantissa_bits=mantissa_bits, on_nonfinite=on_nonfinite)
    if mantissa_bits is not None:
        raise CalibrationError(
            "Give calibrator= or mantissa_bits=, not both: a calibrator has a resolution."
        )
    if on_nonfinite not in ("ignore", calibrator.on_nonfinite):
        raise CalibrationError(
            f"on_nonfinite is {shown(on_nonfinite)}, but the given calibrator was made with "
            f"{calibrator.on_nonfinite!r}, which is used. "
            "Leave out on_nonfinite, or give the same value."
        )
    return Calibrator(
        mantissa_bits=calibrator.mantissa_bits, on_nonfinite=calibrator.on_nonfinite
    )


def record(
    task: RecordingTask,
    samples: object,
    options: QuantizeOptions,
    new: Sequence[Calibrator],
    *,
    progress: bool = False,
) -> Recording:
    """Run all samples and record the tensors.

    Parameters
    ----------
    task
    samples
        As :func:`quantcal.onnx.observe` takes them.
    options
        The observer, the memory limit and the providers.
    new
        Empty calibrators with the same settings, which take samples in turns.
    progress
        Whether to show a bar.

    Returns
    -------
    Recording
    """
    checkpoint = task.checkpoint
    _check_resumed(task)
    count, first = _run(task, samples, options, new, progress=progress)
    earlier = checkpoint.samples if checkpoint else 0
    several = len(new) > 1 and count - earlier > 1
    parts = tuple(map(task.name, new)) if several else ()
    for part in new[1:]:
        new[0].merge(part)
    seen = task.name(new[0])
    if task.calibrator is not None:
        task.calibrator.merge(seen)
        seen = task.calibrator
    if checkpoint is not None:
        checkpoint.done(count)
    return Recording(seen, count, first, parts)


def _run(
    task: RecordingTask,
    samples: object,
    options: QuantizeOptions,
    calibrators: Sequence[Calibrator],
    *,
    progress: bool,
) -> tuple[int, Sample | None]:
    """Record the samples; return how many there are, and the first.

    Inputs of the model are recorded from the samples, all other tensors by the observer.
    """
    source = task.source
    specs = model_inputs(source.loaded.proto)
    checked = as_samples(samples, specs)
    given = [spec.name for spec in specs if spec.name in set(source.names)]
    first: Sample | None = None

    def feeds() -> Iterator[Feed]:
        nonlocal first
        for feed in checked:
            if first is None:
                first = Sample(feed, "sample 0")
                if task.check is not None:
                    task.check(first.feed, first.where)
            yield feed

    with Workspace(source.loaded, options.providers) as work:
        observer = _open_observer(work, source, calibrators, options)

        def snapshot() -> Calibrator:
            seen = sum(
                calibrators, empty_calibrator(calibrators[0], None, "ignore")
            )  # copies
            seen.add_stats(observer.recorded())
            new = task.name(seen)
            return new if task.calibrator is None else task.calibrator + new

        keeper = CheckpointKeeper(task.checkpoint, snapshot)
        with keeper.saving_at_end():
            left = keeper.remaining(feeds())
            for feed in track(left, total=checked.count, show=progress):
                where = f"sample {keeper.samples}"
                number = keeper.samples
                with keeper.sample():
                    turn = number % len(calibrators)
                    _record_inputs(feed, given, calibrators[turn], where)
                    observer.observe(feed, where, turn)
                if task.keep is not None:
                    task.keep(number, feed)
        observer.finish()
    if not keeper.samples:
        raise CalibrationError(
            "There are no samples. An iterator can be read only once; "
            "a CalibrationDataReader needs rewind()."
        )
    return keeper.samples, first


def _check_resumed(task: RecordingTask) -> None:
    """Refuse to continue a run that observed other tensors."""
    source, plan, checkpoint = task.source, task.plan, task.checkpoint
    if checkpoint is None or not checkpoint.samples:
        return
    outer = set(tensors_of(source.loaded.proto.graph))
    sources = {n: (n,) for n in source.names} if plan is None else plan.sources
    # Tensors inside subgraphs may be missing: perhaps no sample has reached them yet.
    needed = {n for n, of in sources.items() if n in outer and outer & set(of)}
    strange = sorted(set(task.calibrator or ()) - set(sources))
    missing = sorted(needed - set(task.calibrator or ()))
    if strange or missing:
        verb = "holds" if strange else "lacks"
        raise CalibrationError(
            f"The checkpoint of the first {checkpoint.samples} samples {verb} "
            f"{_some(strange or missing)}, so it is of another model or other options. "
            "Give the options of that run, or start without it."
        )


def _record_inputs(
    feed: Feed, given: list[str], calibrator: Calibrator, where: str
) -> None:
    for name in given:
        if name in feed:
            try:
                calibrator.observe(name, np.asarray(feed[name]))
            except CalibrationError as error:
                raise CalibrationError(f"{where}: {error}") from error


def _open_observer(
    work: Workspace,
    source: ObservedGraph,
    calibrators: Sequence[Calibrator],
    options: QuantizeOptions,
) -> InGraphObserver | GraphOutputsObserver:
    """Open the session, with the other observer if the first is not available."""
    inputs = {spec.name for spec in model_inputs(source.loaded.proto)}
    made = [name for name in source.names if name not in inputs]
    outer = set(tensors_of(source.loaded.proto.graph))
    inner = [name for name in made if name not in outer]
    types = {name: source.types[name] for name in made if name in outer}
    if options.observer == "outputs":
        if inner:
            raise CalibrationError(
                f"{_some(inner)} lie inside subgraphs. Only "
                'observer="in_graph" observes them.'
            )
        return GraphOutputsObserver(work, types, calibrators, options.max_memory)
    try:
        return InGraphObserver(work, made, calibrators)
    except CalibrationError as error:
        if options.observer == "in_graph":
            raise
        # If the model is at fault, not the operator, this raises the error of the model.
        work.open([value.name for value in work.light.graph.output])
        without = f" Not observed, because they lie inside subgraphs: {_some(inner)}."
        warnings.warn(
            "The tensors are observed as outputs of the model, which takes more memory "
            f"and time.{without if inner else ''} The reason: {error}",
            stacklevel=6,
        )
        return GraphOutputsObserver(work, types, calibrators, options.max_memory)


def _some(names: list[str]) -> str:
    listed = ", ".join(map(repr, names[:3]))
    return listed if len(names) <= 3 else f"{listed} and {len(names) - 3} others"
