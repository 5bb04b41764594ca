"""Finds and replaces the tensors inside lists, tuples, dicts, dataclasses and pytrees.

Modules pass tensors in containers: a dataclass of outputs, a tuple of rotations, a list of
feature maps. All functions here use one order of these tensors. Those passed directly come
first, then those inside containers, in the order of the containers.
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
"""The number of each tensor in its name, or None, and its place in the order."""

_NO_CONTAINERS = (
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
    """Return the direct parts of a module's result, or the result itself."""
    if isinstance(value, torch.Tensor):
        return [value]
    opened = _open(value)
    return [value] if opened is None else opened[0]


def rebuild_result(value: Any, parts: list[Any]) -> Any:
    """Return a result like `value`, made of other parts in the order of `entries`."""
    if isinstance(value, torch.Tensor):
        return parts[0]
    opened = _open(value)
    return parts[0] if opened is None else opened[1](parts)


def find_tensors(values: Iterable[Any]) -> tuple[list[torch.Tensor], int]:
    """Return all tensors in the values, and how many of them are passed directly."""
    given = list(values)
    direct = [v for v in given if isinstance(v, torch.Tensor)]
    nested = [
        t for v in given if not isinstance(v, torch.Tensor) for t in _leaves(v, ())
    ]
    return direct + nested, len(direct)


def number_tensors(tensors: Sequence[torch.Tensor], direct: int) -> Numbered:
    """Return which tensors are recorded, and the number of each in its name.

    Of several tensors only floats are recorded, since integers are indices and masks. A
    single tensor has no number. Nor has a single one among those passed directly.
    """
    places = list(range(len(tensors)))
    if len(tensors) > 1:
        places = [i for i in places if tensors[i].is_floating_point()]
    of_direct = sum(i < direct for i in places)
    plain = of_direct == 1 or len(places) == 1
    return [
        (None if plain and not number else number, i) for number, i in enumerate(places)
    ]


def replace_tensors(
    values: Iterable[Any], tensors: Sequence[torch.Tensor]
) -> list[Any]:
    """Return the values with other tensors, given in the order of `find_tensors`.

    Containers with a replaced tensor are copied. The caller's containers do not change.
    """
    given = list(values)
    direct = sum(isinstance(v, torch.Tensor) for v in given)
    first, rest = iter(tensors[:direct]), iter(tensors[direct:])
    return [
        next(first) if isinstance(v, torch.Tensor) else _replace_inside(v, rest, ())
        for v in given
    ]


def _leaves(value: Any, inside: tuple[int, ...]) -> Iterator[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        yield value
        return
    opened = None if id(value) in inside else _open(value)
    for part in opened[0] if opened else ():
        yield from _leaves(part, (*inside, id(value)))


def _replace_inside(
    value: Any, tensors: Iterator[torch.Tensor], inside: tuple[int, ...]
) -> Any:
    if isinstance(value, torch.Tensor):
        return next(tensors)
    opened = None if id(value) in inside else _open(value)
    if opened is None:
        return value
    parts, rebuild = opened
    changed = [_replace_inside(part, tensors, (*inside, id(value))) for part in parts]
    same = all(a is b for a, b in zip(changed, parts, strict=True))
    return value if same else rebuild(changed)


def _open(value: Any) -> tuple[list[Any], Rebuild] | None:
    """Return the parts of a container and a function to rebuild it, or None."""
    if isinstance(value, _NO_CONTAINERS):
        return None
    # Mappings come before pytrees, some of which sort the keys.
    if isinstance(value, Mapping):
        return list(value.values()), lambda parts: _rebuild_mapping(value, parts)
    # torch asks about the container itself first, then about each of its parts.
    is_leaf = iter((False,))
    children, spec = _pytree.tree_flatten(value, is_leaf=lambda _: next(is_leaf, True))
    if len(children) != 1 or children[0] is not value:
        return children, lambda parts: _pytree.tree_unflatten(parts, spec)
    if dataclasses.is_dataclass(value):
        names = [f.name for f in dataclasses.fields(value) if hasattr(value, f.name)]
        held = [getattr(value, name) for name in names]
        return held, lambda parts: _rebuild_dataclass(value, names, parts)
    # Subclasses of list and tuple that pytrees do not know.
    if isinstance(value, (list, tuple)):
        named = hasattr(value, "_fields")
        return list(value), lambda p: type(value)(*p) if named else type(value)(p)
    return None


def _rebuild_mapping(value: Any, parts: list[Any]) -> Any:
    made = copy.copy(value)
    for key, part in zip(list(value), parts, strict=True):
        made[key] = part
    return made


def _rebuild_dataclass(value: Any, names: list[str], parts: list[Any]) -> Any:
    made = copy.copy(value)
    for name, part in zip(names, parts, strict=True):
        # Frozen dataclasses refuse a plain assignment.
        object.__setattr__(made, name, part)
    return made
