"""Finds and replaces the tensors inside nested lists, tuples, dicts, dataclasses and pytrees.

Modules pass tensors in containers: a dataclass of outputs, a tuple of rotations, a list of
feature maps. One order of these tensors serves all who name them: those that are passed
directly come first, then those inside containers, in the order of the containers.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import torch
from torch.utils import _pytree

Rebuild: TypeAlias = "Callable[[list[Any]], Any]"
Numbered: TypeAlias = "list[tuple[int | None, int]]"
"""Number of each tensor in its name, None for the plain name; and its place in the order."""

_PLAIN = (
    str,
    bytes,
    int,
    float,
    complex,
    type(None),
    type,
    torch.Size,
    torch.nn.Module,
)


def entries(value: Any) -> list[Any]:
    """Return what a module's result holds directly: its parts, or the result itself."""
    if isinstance(value, torch.Tensor):
        return [value]
    opened = _opened(value)
    return [value] if opened is None else opened[0]


def rebuilt(value: Any, parts: list[Any]) -> Any:
    """Return a result like this one, of other parts in the order of `entries`."""
    if isinstance(value, torch.Tensor):
        return parts[0]
    opened = _opened(value)
    return parts[0] if opened is None else opened[1](parts)


def tensors_of(values: Iterable[Any]) -> tuple[list[torch.Tensor], int]:
    """Return all tensors among values and inside them, and how many are passed directly."""
    given = list(values)
    direct = [v for v in given if isinstance(v, torch.Tensor)]
    nested = [
        t for v in given if not isinstance(v, torch.Tensor) for t in _leaves(v, ())
    ]
    return direct + nested, len(direct)


def numbered(tensors: Sequence[torch.Tensor], direct: int) -> Numbered:
    """Return which tensors count, and by which number each is named.

    Of several tensors those of floats count; whole numbers beside them are indices and
    masks. The only one that is passed directly has the plain name, as has an only one.
    """
    places = list(range(len(tensors)))
    if len(tensors) > 1:
        places = [i for i in places if tensors[i].is_floating_point()]
    of_direct = sum(i < direct for i in places)
    plain = of_direct == 1 or len(places) == 1
    return [
        (None if plain and not number else number, i) for number, i in enumerate(places)
    ]


def replaced(values: Iterable[Any], tensors: Sequence[torch.Tensor]) -> list[Any]:
    """Return the values with other tensors, which come in the order of `tensors_of`.

    Containers in which something changes are copied; the caller's stay as they are.
    """
    given = list(values)
    direct = sum(isinstance(v, torch.Tensor) for v in given)
    first, rest = iter(tensors[:direct]), iter(tensors[direct:])
    return [
        next(first) if isinstance(v, torch.Tensor) else _with(v, rest, ())
        for v in given
    ]


def _leaves(value: Any, inside: tuple[int, ...]) -> Iterator[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        yield value
        return
    opened = None if id(value) in inside else _opened(value)
    for part in opened[0] if opened else ():
        yield from _leaves(part, (*inside, id(value)))


def _with(value: Any, tensors: Iterator[torch.Tensor], inside: tuple[int, ...]) -> Any:
    if isinstance(value, torch.Tensor):
        return next(tensors)
    opened = None if id(value) in inside else _opened(value)
    if opened is None:
        return value
    parts, rebuild = opened
    changed = [_with(part, tensors, (*inside, id(value))) for part in parts]
    same = all(a is b for a, b in zip(changed, parts, strict=True))
    return value if same else rebuild(changed)


def _opened(value: Any) -> tuple[list[Any], Rebuild] | None:
    """Return what a container holds, and what makes another of it; None if it is none."""
    if isinstance(value, _PLAIN):
        return None
    if isinstance(value, Mapping):  # before pytrees, some of which sort the keys
        return list(value.values()), lambda parts: _mapping(value, parts)
    asked = iter((False,))  # of the container itself first, then of what it holds
    children, spec = _pytree.tree_flatten(value, is_leaf=lambda _: next(asked, True))
    if len(children) != 1 or children[0] is not value:
        return children, lambda parts: _pytree.tree_unflatten(parts, spec)
    if dataclasses.is_dataclass(value):
        names = [f.name for f in dataclasses.fields(value) if hasattr(value, f.name)]
        held = [getattr(value, name) for name in names]
        return held, lambda parts: _fields(value, names, parts)
    if isinstance(value, (list, tuple)):  # kinds that pytrees do not know
        named = hasattr(value, "_fields")
        return list(value), lambda p: type(value)(*p) if named else type(value)(p)
    return None


def _mapping(value: Any, parts: list[Any]) -> Any:
    made = copy.copy(value)
    for key, part in zip(list(value), parts, strict=True):
        made[key] = part
    return made


def _fields(value: Any, names: list[str], parts: list[Any]) -> Any:
    made = copy.copy(value)
    for name, part in zip(names, parts, strict=True):
        object.__setattr__(made, name, part)  # also of frozen ones
    return made
