"""Find the tensors to observe when a caller names them, or asks for all.

:mod:`quantcal.onnx._plan.plan` selects what :func:`quantcal.onnx.quantize` needs.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from quantcal._core import CalibrationError
from quantcal.onnx._graph.graph import constants_of, tensors_of
from quantcal.onnx._graph.nested_scopes import inferred_types, scopes, unify_names
from quantcal.onnx._model.functions import inline_functions
from quantcal.onnx._model.model import LoadedModel, model_inputs
from quantcal.onnx._options.names import near
from quantcal.onnx._plan.preparation import declared_types
from quantcal.onnx._runtime.memory_groups import OBSERVABLE
from quantcal.onnx._runtime.session import Workspace

KINDS = ", ".join(kind.removeprefix("tensor(").rstrip(")") for kind in OBSERVABLE)


@dataclass(frozen=True, slots=True)
class ObservedGraph:
    """A graph to run and the tensors in it to record.

    Attributes
    ----------
    loaded : LoadedModel
        The model. Names are unique in it, inside subgraphs too.
    types : dict of str to str
        onnxruntime's types of the tensors.
    names : tuple of str
        The tensors to record.
    """

    loaded: LoadedModel
    types: dict[str, str]
    names: tuple[str, ...]


def find_tensors(loaded: LoadedModel, tensors: str | Iterable[str]) -> ObservedGraph:
    """Find the named tensors, or all float tensors.

    Tensors inside subgraphs are included. If two branches use one name for different
    tensors, those after the first get a number (``h_2``).

    Raises
    ------
    CalibrationError
        When a name is unknown, or its tensor is a constant or not of a float type. Also
        when all are asked for and there is none.
    """
    loaded = inline_functions(loaded)
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
            if types.get(name) in OBSERVABLE and name not in constants
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


def _made(loaded: LoadedModel) -> list[str]:
    """Return the outputs of all nodes and the inputs of subgraphs, scope by scope."""
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
        f"{label} has no tensor to observe: all {len(known)} inputs and outputs of its "
        f"nodes are constants or of other types than {KINDS} ({', '.join(kinds)})."
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
            "can be observed."
        )
    if name not in known:
        raise CalibrationError(f"{label} has no tensor {name!r}. {near(name, known)}")
    if types.get(name) not in OBSERVABLE:
        raise CalibrationError(
            f"{name!r} has the type {types.get(name, 'unknown')}; only {KINDS} "
            "tensors can be observed."
        )
