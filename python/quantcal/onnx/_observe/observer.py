"""Recording the activations of an ONNX model while samples run through onnxruntime.

Graph optimisations are off, so that each tensor is computed exactly as the model says
and none is fused away. Two observers give the same histograms: one whose operators
stand in the graph (:mod:`quantcal.onnx._observe.in_graph`), and one that makes the tensors
outputs of the model (:mod:`quantcal.onnx._observe.graph_outputs`), for runtimes that
cannot load operators.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np

from quantcal._core import CalibrationError
from quantcal._text import shown
from quantcal.calibrator import Calibrator
from quantcal.onnx._check.equivalence import first_sample_check
from quantcal.onnx._graph.graph import tensors_of
from quantcal.onnx._graph.inputs import Feed, Sample
from quantcal.onnx._model.model import load_light, model_inputs
from quantcal.onnx._observe.checkpoint import Checkpoint, Keeper
from quantcal.onnx._observe.graph_outputs import OutputsObserver
from quantcal.onnx._observe.in_graph import InGraphObserver
from quantcal.onnx._observe.ranges import share
from quantcal.onnx._observe.select_tensors import Source, choose
from quantcal.onnx._plan.names import rule_for
from quantcal.onnx._plan.options import OP_TYPES, Options
from quantcal.onnx._plan.prepare import prepare
from quantcal.onnx._runtime.child_process import shared_child
from quantcal.onnx._runtime.feeds import as_feeds
from quantcal.onnx._runtime.progress import track
from quantcal.onnx._runtime.session import Workspace

if TYPE_CHECKING:
    from quantcal.calibrator import OnNonfinite
    from quantcal.onnx._model.model import Model
    from quantcal.onnx._plan.plan import Plan

Method = Literal["auto", "in_graph", "outputs"]

MAX_MEMORY = 1 << 30
"""1 GiB: a laptop can spare it, and most models of vision and text fit in one group."""

__all__ = ["MAX_MEMORY", "Method", "Source", "fresh", "observe", "record"]


@shared_child()
def observe(
    model: Model,
    reader: object,
    *,
    tensors: str | Iterable[str] | None = None,
    target: str = "onnxruntime",
    activation: str | None = None,
    formats: Mapping[str, str] | None = None,
    placement: str = "minimal",
    op_types: Sequence[str] = OP_TYPES,
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    method: Method = "auto",
    max_memory: int = MAX_MEMORY,
    mantissa_bits: int | None = None,
    on_nonfinite: OnNonfinite = "ignore",
    progress: bool = False,
    providers: Sequence[str] | None = None,
    calibrator: Calibrator | None = None,
    keep: Checkpoint | None = None,
) -> Calibrator:
    """Run samples through a model and record its activations.

    Use it to keep the histograms and decide later; :func:`quantcal.onnx.quantize` does
    all in one call. Weights and other constants are never observed.

    Parameters
    ----------
    model : path, bytes or onnx.ModelProto
        It is not changed. A model with external data, as all above 2 GB have, must come
        as a path; its weights are mapped, not read.
    reader : iterable of {input name: array}, CalibrationDataReader, Samples, or path
        One pass is made, whatever the number of groups; a generator will do. A path is
        opened as :func:`quantcal.onnx.load_samples` does. Inputs of types that numpy has
        not, such as bfloat16, are arrays of ``ml_dtypes``.
    tensors : None, "all", or iterable of str
        None (default) observes what :func:`quantcal.onnx.quantize` needs for
        the options below; ``"all"`` every float tensor (16, 32 or 64 bits,
        or bfloat16), inside subgraphs too; names exactly those.
    target, activation, formats, placement, op_types, include, exclude
        As for :func:`quantcal.onnx.quantize`; they decide what quantisation needs. The
        calibrator notes the format of each tensor (``Calibrator.formats``), which
        ``Calibrator.compute`` then takes unless another is given.
    method : "auto", "in_graph" or "outputs"
        ``"in_graph"`` puts an operator behind each tensor, which counts it while the
        model runs: one run a sample, in little more memory than plain inference, subgraphs
        included. ``"outputs"`` makes the tensors outputs of the model, which any
        runtime can. ``"auto"`` (default) takes the first, and where onnxruntime cannot
        load the operator the second, with a warning. Both give the same histograms.
    max_memory : int
        For ``"outputs"``: bytes that the observed tensors of one sample may take
        together; 1 GiB unless told otherwise. When they are more, the model runs
        several times on each sample with a group of tensors each time. A tensor larger
        than this is alone.
    mantissa_bits, on_nonfinite
        As for :class:`quantcal.Calibrator`.
    progress : bool
        Show a bar on stderr when it is a terminal and rich is installed.
    providers : sequence of str, optional
        onnxruntime execution providers; the CPU by default.
    calibrator : Calibrator, optional
        Add to this one, and return it; after an error it is as it was before.
    keep : Checkpoint, optional
        Where the histograms of the samples so far are kept in case they do not all run. The
        file stays until :meth:`Checkpoint.remove`: the result is yours to save.

    Returns
    -------
    Calibrator
        One histogram a tensor.

    Raises
    ------
    CalibrationError
        For a model that cannot be loaded, an unknown tensor name, no samples, and a
        sample that does not fit the model or on which it fails (with its index).

    Examples
    --------
    >>> cal = qc.onnx.observe("model.onnx", [{"x": batch} for batch in batches])
    >>> table = cal.compute("mse")
    """
    loaded = load_light(model)
    plan = check = None
    options = Options.of(
        target=target,
        activation=activation,
        formats=formats,
        placement=placement,
        op_types=op_types,
        include=include,
        exclude=exclude,
    )
    if tensors is None:
        prepared = prepare(loaded, options, external=False)
        plan = prepared.plan
        source = Source(prepared.converted, prepared.types, plan.observed)
        check = first_sample_check(prepared)
        del prepared  # its weights, which only a written model needs, go with the check
    else:
        source = choose(loaded, tensors)
    new = fresh(calibrator, mantissa_bits, on_nonfinite)

    def named(seen: Calibrator) -> Calibrator:
        if plan is not None:
            return share(seen, plan)
        if not options.weights_only:
            rules, default = options.formats, options.activation
            seen.add_formats(
                {name: [rule_for(rules, name, (), default)] for name in seen}
            )
        return seen

    check_resumed(source, keep, calibrator, plan)
    samples, _ = record(
        source,
        reader,
        [new],
        method=method,
        max_memory=max_memory,
        progress=progress,
        providers=providers,
        keep=keep,
        whole=lambda seen: together(calibrator, named(seen)),
        check=check,
    )
    new = named(new)
    if calibrator is None:
        calibrator = new
    else:
        calibrator.merge(new)
    if keep is not None:
        keep.done(samples)
    return calibrator


def fresh(
    calibrator: Calibrator | None, mantissa_bits: int | None, on_nonfinite: OnNonfinite
) -> Calibrator:
    """Return an empty calibrator with the settings of a given one, or with these.

    A pass is recorded apart and merged when it is complete, so that an error leaves the
    given one as it was.
    """
    if calibrator is None:
        return Calibrator(mantissa_bits=mantissa_bits, on_nonfinite=on_nonfinite)
    if mantissa_bits is not None:
        raise CalibrationError(
            "Give calibrator= or mantissa_bits=, not both: a calibrator has its own."
        )
    if on_nonfinite not in ("ignore", calibrator.on_nonfinite):
        raise CalibrationError(
            f"on_nonfinite is {shown(on_nonfinite)}, but the given calibrator was made with "
            f"{calibrator.on_nonfinite!r}, which decides. Make it with the same."
        )
    return Calibrator(
        mantissa_bits=calibrator.mantissa_bits, on_nonfinite=calibrator.on_nonfinite
    )


def together(given: Calibrator | None, new: Calibrator) -> Calibrator:
    """Return what was given, if anything, and what is new; neither changes."""
    return new if given is None else given + new


def check_resumed(
    source: Source,
    keep: Checkpoint | None,
    calibrator: Calibrator | None,
    plan: Plan | None,
) -> None:
    """Refuse to go on with the histograms of a run that observed other tensors."""
    if keep is None or not keep.samples:
        return
    outer = set(tensors_of(source.loaded.proto.graph))
    sources = {n: (n,) for n in source.names} if plan is None else plan.sources
    # What lies inside subgraphs may not have been reached yet.
    needed = {n for n, of in sources.items() if n in outer and outer & set(of)}
    strange = sorted(set(calibrator or ()) - set(sources))
    missing = sorted(needed - set(calibrator or ()))
    if strange or missing:
        told = "holds" if strange else "lacks"
        raise CalibrationError(
            f"What was kept of the first {keep.samples} samples {told} "
            f"{_some(strange or missing)}, so it is of another model or of other options."
        )


def record(
    source: Source,
    reader: object,
    calibrators: Sequence[Calibrator],
    *,
    method: Method = "auto",
    max_memory: int = MAX_MEMORY,
    progress: bool = False,
    providers: Sequence[str] | None = None,
    keep: Checkpoint | None = None,
    whole: Callable[[Calibrator], Calibrator] = lambda seen: seen,
    check: Callable[[Feed, str], None] | None = None,
) -> tuple[int, Sample | None]:
    """Record the tensors of ``source`` for all samples.

    Observed inputs of the model are recorded from the feeds, everything else by the
    chosen method. Several calibrators, of the same settings, take samples in turns.
    ``whole`` makes what is kept of what was recorded up to then. ``check`` is given the
    first sample of the reader and its name, and may raise. It comes before any is
    recorded, and also when an earlier run recorded that sample.

    Returns
    -------
    tuple of (int, Sample)
        The number of samples, those of an earlier run included, and the first of them.
    """
    if max_memory <= 0:
        raise CalibrationError(
            f"max_memory is {shown(max_memory)} bytes. Give 1 or more."
        )
    if method not in get_args(Method):
        known = ", ".join(map(repr, get_args(Method)))
        raise CalibrationError(f"method is {shown(method)}. Known methods: {known}.")
    specs = model_inputs(source.loaded.proto)
    feeds = as_feeds(reader, specs)
    given = [spec.name for spec in specs if spec.name in set(source.names)]
    first: Sample | None = None

    def checked() -> Iterator[Feed]:
        nonlocal first
        for feed in feeds:
            if first is None:
                first = Sample(feed, "sample 0")
                if check is not None:
                    check(first.feed, first.where)
            yield feed

    with Workspace(source.loaded, providers) as work:
        observer = _open(work, source, calibrators, method, max_memory)

        def snapshot() -> Calibrator:
            seen = sum(calibrators, fresh(calibrators[0], None, "ignore"))  # copies
            seen.add_stats(observer.counted())
            return whole(seen)

        keeper = Keeper(keep, snapshot)
        with keeper.watching():
            left = keeper.left(checked())
            for feed in track(left, total=feeds.count, show=progress):
                where = f"sample {keeper.samples}"
                with keeper.sample():
                    turn = keeper.samples % len(calibrators)
                    _record_inputs(feed, given, calibrators[turn], where)
                    observer.observe(feed, where, turn)
        observer.finish()
    if not keeper.samples:
        raise CalibrationError(
            "The reader gave no samples. An iterator that was read before is empty; "
            "a CalibrationDataReader needs rewind()."
        )
    return keeper.samples, first


def _record_inputs(
    feed: Feed, given: list[str], calibrator: Calibrator, where: str
) -> None:
    for name in given:
        if name in feed:
            try:
                calibrator.observe(name, np.asarray(feed[name]))
            except CalibrationError as error:
                raise CalibrationError(f"{where}: {error}") from error


def _open(
    work: Workspace,
    source: Source,
    calibrators: Sequence[Calibrator],
    method: Method,
    max_memory: int,
) -> InGraphObserver | OutputsObserver:
    """Open the session, by the other method if the first cannot be had."""
    inputs = {spec.name for spec in model_inputs(source.loaded.proto)}
    made = [name for name in source.names if name not in inputs]
    outer = set(tensors_of(source.loaded.proto.graph))
    inner = [name for name in made if name not in outer]
    types = {name: source.types[name] for name in made if name in outer}
    if method == "outputs":
        if inner:
            raise CalibrationError(
                f"{_some(inner)} lie inside subgraphs, which only "
                'method="in_graph" reaches.'
            )
        return OutputsObserver(work, types, calibrators, max_memory)
    try:
        return InGraphObserver(work, made, calibrators)
    except CalibrationError as error:
        if method == "in_graph":
            raise
        # Where the model itself is at fault this raises the model's own error.
        work.open([value.name for value in work.light.graph.output])
        without = f" Not observed, as they lie inside subgraphs: {_some(inner)}."
        warnings.warn(
            "The tensors are observed as outputs of the model, which takes more memory "
            f"and time.{without if inner else ''} The reason: {error}",
            stacklevel=5,
        )
        return OutputsObserver(work, types, calibrators, max_memory)


def _some(names: list[str]) -> str:
    listed = ", ".join(map(repr, names[:3]))
    return listed if len(names) <= 3 else f"{listed} and {len(names) - 3} others"
