"""Recording the activations of an ONNX model while samples run through onnxruntime.

The tensors become additional outputs of the model. Graph optimisations are off, so that
each is computed exactly as the model says and none is fused away. A sample's tensors
are recorded and dropped before the next sample is read: memory does not grow with the
number of samples.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING

import numpy as np

from quantcal import CalibrationError, Calibrator
from quantcal.onnx.feeds import Feed, as_feeds
from quantcal.onnx.model import (
    Loaded,
    Workspace,
    constants_of,
    load_model,
    model_inputs,
    tensors_of,
)
from quantcal.onnx.options import OP_TYPES, Options
from quantcal.onnx.prepare import declared_types, prepare
from quantcal.onnx.progress import track
from quantcal.onnx.ranges import share
from quantcal.onnx.sizes import ITEM_BYTES, GroupedRun

if TYPE_CHECKING:
    from quantcal.calibrator import OnNonfinite
    from quantcal.onnx.model import Model

MAX_MEMORY = 1 << 30
"""1 GiB: a laptop can spare it, and most models of vision and text fit in one group."""


def observe(
    model: Model,
    reader: object,
    *,
    tensors: str | Iterable[str] | None = None,
    target: str = "onnxruntime",
    activation: str | None = None,
    formats: Mapping[str, str] | None = None,
    op_types: Sequence[str] = OP_TYPES,
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    max_memory: int = MAX_MEMORY,
    mantissa_bits: int | None = None,
    on_nonfinite: OnNonfinite = "ignore",
    progress: bool = False,
    providers: Sequence[str] | None = None,
    calibrator: Calibrator | None = None,
) -> Calibrator:
    """Run samples through a model and record its activations.

    Use it to keep the histograms and decide later; :func:`quantcal.onnx.quantize` does
    all in one call. Weights and other constants are never observed.

    Parameters
    ----------
    model : path, bytes or onnx.ModelProto
        A model with external data must come as a path. It is not changed.
    reader : iterable of {input name: array}, CalibrationDataReader, Feeds, or path
        One pass is made, whatever the number of groups; a generator will do. A path is
        opened as :func:`quantcal.onnx.load_feeds` does.
    tensors : None, "all", or iterable of str
        None (default) observes what :func:`quantcal.onnx.quantize` needs for
        the options below; ``"all"`` every float16, float32 and float64
        tensor of the main graph; names exactly those.
    target, activation, formats, op_types, include, exclude
        As for :func:`quantcal.onnx.quantize`; they decide what quantisation needs.
    max_memory : int
        Bytes that the observed tensors of one sample may take together; 1 GiB unless
        told otherwise. When they are more, the model runs several times on each sample
        with a group of tensors each time. A tensor larger than this is alone.
    mantissa_bits, on_nonfinite
        As for :class:`quantcal.Calibrator`.
    progress : bool
        Show a bar on stderr when it is a terminal and rich is installed.
    providers : sequence of str, optional
        onnxruntime execution providers; the CPU by default.
    calibrator : Calibrator, optional
        Add to this one, and return it; after an error it is as it was before.

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
    loaded = load_model(model)
    plan = None
    if tensors is None:
        options = Options.of(
            target=target,
            activation=activation,
            formats=formats,
            op_types=op_types,
            include=include,
            exclude=exclude,
        )
        prepared = prepare(loaded, options)
        plan = prepared.plan
        source = Source(prepared.converted, prepared.types, plan.observed)
    else:
        source = _chosen(loaded, tensors)
    new = fresh(calibrator, mantissa_bits, on_nonfinite)
    record(
        source,
        reader,
        new,
        max_memory=max_memory,
        progress=progress,
        providers=providers,
    )
    if plan is not None:
        new = share(new, plan)
    if calibrator is None:
        return new
    calibrator.merge(new)
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
    return Calibrator(
        mantissa_bits=calibrator.mantissa_bits, on_nonfinite=calibrator.on_nonfinite
    )


@dataclass(frozen=True, slots=True)
class Source:
    """A graph to run and the tensors in it to record."""

    loaded: Loaded
    types: dict[str, str]
    names: tuple[str, ...]


def record(
    source: Source,
    reader: object,
    calibrator: Calibrator,
    *,
    max_memory: int = MAX_MEMORY,
    progress: bool = False,
    providers: Sequence[str] | None = None,
) -> tuple[int, Feed]:
    """Record the tensors of ``source`` for all samples.

    Returns
    -------
    tuple of (int, feed)
        The number of samples, and the first one.
    """
    if max_memory <= 0:
        raise CalibrationError(f"max_memory is {max_memory} bytes. Give 1 or more.")
    specs = model_inputs(source.loaded.proto)
    feeds = as_feeds(reader, specs)
    made = set(tensors_of(source.loaded.proto.graph))
    inner = {name: source.types[name] for name in source.names if name in made}
    given = [name for name in source.names if name not in made]
    samples = 0
    first: Feed | None = None
    with Workspace(source.loaded, providers) as work:
        run = GroupedRun(work, inner, max_memory)
        for feed in track(feeds, total=feeds.count, show=progress):
            first = first or feed
            _record_sample(run, feed, given, calibrator, f"sample {samples}")
            samples += 1
    if first is None:
        raise CalibrationError(
            "The reader gave no samples. An iterator that was read before is empty; "
            "a CalibrationDataReader needs rewind()."
        )
    return samples, first


def _record_sample(
    run: GroupedRun, feed: Feed, given: list[str], calibrator: Calibrator, where: str
) -> None:
    """Record one sample: the observed inputs of the model, then group by group.

    Each tensor is dropped as soon as it is recorded: a group must not stay alive while
    the next one runs.
    """
    inputs = {name: np.asarray(feed[name]) for name in given if name in feed}
    for arrays in chain([inputs], run(feed, where)):
        for name in list(arrays):
            try:
                calibrator.observe(name, arrays.pop(name))
            except CalibrationError as error:
                raise CalibrationError(f"{where}: {error}") from error


def _chosen(loaded: Loaded, tensors: str | Iterable[str]) -> Source:
    """Look up the names that a caller asks for, or all float tensors."""
    graph = loaded.proto.graph
    with Workspace(loaded) as work:
        types = work.types(tensors_of(graph)) | declared_types(graph)
    inputs = [spec.name for spec in model_inputs(loaded.proto)]
    constants = constants_of(graph)
    known = [*inputs, *tensors_of(graph)]
    if tensors == "all":
        names = [n for n in known if types[n] in ITEM_BYTES and n not in constants]
        return Source(loaded, types, tuple(dict.fromkeys(names)))
    if isinstance(tensors, str):
        raise CalibrationError(
            f'tensors is the string {tensors!r}. Give None, "all", or a list of names.'
        )
    wanted = set(tensors)
    for name in sorted(wanted):
        _check_tensor(name, known, types, constants, loaded.label)
    return Source(loaded, types, tuple(name for name in known if name in wanted))


def _check_tensor(
    name: str,
    known: list[str],
    types: dict[str, str],
    constants: set[str],
    label: str,
) -> None:
    if name in constants:
        raise CalibrationError(
            f"{name!r} is a weight or another constant of {label}; only activations "
            "are observed."
        )
    if name not in known:
        near = difflib.get_close_matches(name, known, n=5, cutoff=0.4) or known[:10]
        raise CalibrationError(
            f"{label} has no tensor {name!r}. Near names: {', '.join(near)}."
        )
    if types[name] not in ITEM_BYTES:
        raise CalibrationError(
            f"{name!r} has the type {types[name]}; only float16, float32 and float64 "
            "tensors are observed."
        )
