"""Which tensors to observe when a caller names them, or asks for all.

What :func:`quantcal.onnx.quantize` needs is chosen in :mod:`quantcal.onnx._plan.plan`.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass

from quantcal._core import CalibrationError
from quantcal.onnx._graph.graph import constants_of, tensors_of
from quantcal.onnx._graph.scopes import inferred_types, scopes, unify_names
from quantcal.onnx._model.functions import flatten
from quantcal.onnx._model.model import Loaded, model_inputs
from quantcal.onnx._plan.prepare import declared_types
from quantcal.onnx._runtime.memory_groups import ITEM_BYTES
from quantcal.onnx._runtime.session import Workspace

KINDS = ", ".join(kind.removeprefix("tensor(").rstrip(")") for kind in ITEM_BYTES)


@dataclass(frozen=True, slots=True)
class ObservedGraph:
    """A graph to run and the tensors in it to record.

    Attributes
    ----------
    loaded : Loaded
        A name means one tensor in it, inside subgraphs too.
    types : dict of str to str
        onnxruntime's types of the tensors.
    names : tuple of str
        What is to be recorded.
    """

    loaded: Loaded
    types: dict[str, str]
    names: tuple[str, ...]


def find_tensors(loaded: Loaded, tensors: str | Iterable[str]) -> ObservedGraph:
    """Look up the names that a caller asks for, or all float tensors.

    Tensors inside subgraphs count like all others. Where two branches use one name for
    different tensors, those after the first get a number (``h_2``).

    Raises
    ------
    CalibrationError
        When there is no such tensor, or it is a constant or not of a float type; when
        all are asked for and none is.
    """
    loaded = flatten(loaded)
    graph = loaded.proto.graph
    unify_names(graph)
    with Workspace(loaded) as work:
        types = work.types(tensors_of(graph)) | declared_types(graph)
        types |= inferred_types(work.light, types)
    inputs = [spec.name for spec in model_inputs(loaded.proto)]
    constants = constants_of(graph)
    known = dict.fromkeys([*inputs, *_made(loaded)])
    if tensors == "all":
        names = [
            name
            for name in known
            if types.get(name) in ITEM_BYTES and name not in constants
        ]
        if not names:
            _refuse_integers(loaded.label, types, [n for n in known if n in types])
        return ObservedGraph(loaded, types, tuple(names))
    if isinstance(tensors, str):
        raise CalibrationError(
            f'tensors is the string {tensors!r}. Give None, "all", or a list of names.'
        )
    wanted = set(tensors)
    for name in sorted(wanted):
        _check_tensor(name, list(known), types, constants, loaded.label)
    return ObservedGraph(loaded, types, tuple(name for name in known if name in wanted))


def _made(loaded: Loaded) -> list[str]:
    """Return what the nodes make and what subgraphs are given, scope by scope."""
    main = loaded.proto.graph
    names: list[str] = []
    for graph in scopes(main):
        if graph is not main:
            names += [value.name for value in graph.input]
        names += tensors_of(graph)
    return names


def _refuse_integers(label: str, types: dict[str, str], known: list[str]) -> None:
    kinds = sorted({types[name] for name in known})
    raise CalibrationError(
        f"{label} has no tensor to observe: all {len(known)} that its nodes make and "
        f"take are constants or of other types than {KINDS} ({', '.join(kinds)})."
    )


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
    if types.get(name) not in ITEM_BYTES:
        raise CalibrationError(
            f"{name!r} has the type {types.get(name, 'unknown')}; only {KINDS} "
            "tensors are observed."
        )
