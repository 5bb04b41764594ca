"""Where samples come from: what all readers have in common."""

from __future__ import annotations

import os
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import numpy as np

from quantcal._core import CalibrationError
from quantcal._text import plural, shown
from quantcal.data.inputs import Array, Input, describe_inputs

Named: TypeAlias = "tuple[str, dict[str, Array]]"
"""A sample, and the file that it is from."""

_T = TypeVar("_T")


@dataclass(frozen=True)
class Bound:
    """The samples of a source for one model.

    Attributes
    ----------
    start
        Begins to read them; may be called again.
    count
        How many there are.
    """

    start: Callable[[], Iterator[Named]]
    count: int


class SampleSource(ABC):
    """Where samples come from; made by `images`, `wav` and `texts`.

    Functions that take samples of an ONNX model take it, and
    :func:`quantcal.onnx.load_samples` opens it for a model. Without a model it is an
    iterable of `{input name: array}` for one input as most models have it.

    Attributes
    ----------
    files : tuple of Path
        What is read.
    """

    def __init__(self, files: Sequence[Path], constants: object) -> None:
        self.files = tuple(files)
        self.constants = _as_constants(constants)

    @abstractmethod
    def bind(self, inputs: Sequence[Input]) -> Bound:
        """Return the samples for a model.

        Raises
        ------
        CalibrationError
            If the options do not fit the model's inputs; says what it takes.
        """

    @abstractmethod
    def usual_inputs(self) -> Sequence[Input]:
        """Return the inputs that most models have for such data."""

    def __iter__(self) -> Iterator[dict[str, Array]]:
        return (feed for _, feed in self.bind(self.usual_inputs()).start())

    def __len__(self) -> int:
        return self.bind(self.usual_inputs()).count


def fill(constants: Mapping[str, Any], inputs: Sequence[Input]) -> dict[str, Array]:
    """Return the inputs that are the same in each sample.

    A number fills the whole input, of whose shape unknown dimensions are 1.

    Raises
    ------
    CalibrationError
        If the model has no such input, or its type does not hold the value.
    """
    known = {spec.name: spec for spec in inputs}
    found = {}
    for name, value in constants.items():
        if name not in known:
            raise CalibrationError(
                f"constants has {name!r}, which is not an input of the model. It takes "
                f"{describe_inputs(inputs)}."
            )
        found[name] = _constant(value, known[name])
    return found


def _constant(value: Any, spec: Input) -> Array:
    try:
        array: Array = np.asarray(value, spec.dtype)
        whole = array.dtype.kind in "iub"  # which would cut 0.5 to 0
        fits = not whole or np.array_equal(array, np.asarray(value))
    except (TypeError, ValueError, OverflowError):
        fits = False
    if not fits:
        raise CalibrationError(
            f"constants has {shown(value, 80)} for {spec.name!r}, whose elements are "
            f"{spec.dtype}. Give a number that the type holds, or an array of it."
        )
    if array.ndim == 0 and spec.shape is not None:
        array = np.full([1 if dim is None else dim for dim in spec.shape], array)
    return array


def in_groups(
    items: Callable[[], Iterator[tuple[str, _T]]], count: int, size: int, what: str
) -> tuple[Callable[[], Iterator[tuple[str, list[_T]]]], int]:
    """Put neighbors into groups, for a model that takes several at a time.

    Returns
    -------
    What yields the groups, each with the place of its first item, and how many there are.

    Raises
    ------
    CalibrationError
        If there are fewer items than one group has.

    Warns
    -----
    UserWarning
        If some are left over. Filling the last group would count other items twice.
    """
    if count < size:
        raise CalibrationError(
            f"The model takes {size} {what} at a time, and there are {count}. Give more, or "
            "export the model with a batch of any size."
        )
    if count % size:
        warnings.warn(
            f"The model takes {size} {what} at a time: the last {count % size} of {count} "
            "are left out.",
            stacklevel=4,
        )

    def start() -> Iterator[tuple[str, list[_T]]]:
        where = ""
        group: list[_T] = []
        for origin, item in items():
            where = where if group else origin
            group.append(item)
            if len(group) == size:
                yield where, group
                group = []

    return start, count // size


def as_count(name: str, value: object) -> int | None:
    """Check an optional whole number above 0.

    Raises
    ------
    CalibrationError
        If it is something else.
    """
    if value is None:
        return None
    whole = isinstance(value, (int, np.integer)) and not isinstance(value, bool)
    if whole and value > 0:  # type: ignore[operator]
        return int(value)  # type: ignore[call-overload,no-any-return]
    raise CalibrationError(
        f"{name} is {shown(value, 80)}. Give a whole number above 0."
    )


def as_paths(items: Iterable[object]) -> tuple[Path, ...]:
    """Return the paths among some objects."""
    return tuple(Path(i) for i in items if isinstance(i, (str, os.PathLike)))


def description(count: int, noun: str, source: object) -> str:
    """Return what a source holds, for its `repr`."""
    return f"<{plural(count, noun)} of {source}>"


def _as_constants(constants: object) -> dict[str, Any]:
    if constants is None:
        return {}
    if not isinstance(constants, Mapping):
        raise CalibrationError(
            f"constants is a {type(constants).__name__}. Give a mapping from the name of an "
            "input to an array, or to the number that fills it."
        )
    return {str(name): value for name, value in constants.items()}
