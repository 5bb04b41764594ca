"""What a reader knows of a model's inputs, and how it writes them in messages."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

import numpy as np

Array: TypeAlias = "np.ndarray[Any, Any]"
Shape: TypeAlias = "tuple[int | None, ...]"


class Input(Protocol):
    """One input of a model; :class:`quantcal.onnx.InputSpec` is one."""

    @property
    def name(self) -> str:
        """Its name."""

    @property
    def dtype(self) -> np.dtype[Any] | None:
        """The type of its elements; None if it is not a tensor."""

    @property
    def shape(self) -> Shape | None:
        """Its dimensions, None for any size; None if the rank is unknown."""

    @property
    def required(self) -> bool:
        """Whether it has no default value."""


@dataclass(frozen=True)
class UsualInput:
    """An input as most models have it, for samples without a model."""

    name: str
    dtype: np.dtype[Any]
    shape: Shape
    required: bool = True


def describe_input(spec: Input) -> str:
    """Return an input as messages show it, such as "'x' float32 [N, 3, 224, 224]"."""
    if spec.shape is None:
        return f"{spec.name!r} {spec.dtype}"
    letters = ["N" if place == 0 else "?" for place in range(len(spec.shape))]
    pairs = zip(spec.shape, letters, strict=True)
    dims = (letter if dim is None else str(dim) for dim, letter in pairs)
    return f"{spec.name!r} {spec.dtype} [{', '.join(dims)}]"


def describe_inputs(inputs: Iterable[Input]) -> str:
    """Return the inputs that a sample must have, as messages show them."""
    return ", ".join(describe_input(spec) for spec in inputs if spec.required)


def is_float(spec: Input) -> bool:
    """Return whether the elements are floats, bfloat16 included."""
    dtype = spec.dtype
    return dtype is not None and (dtype.kind == "f" or dtype.name == "bfloat16")


def is_integer(spec: Input) -> bool:
    """Return whether the elements are whole numbers of 8 to 64 bits."""
    return spec.dtype is not None and spec.dtype.kind in "iu"


def needed(inputs: Sequence[Input], constants: Iterable[str]) -> list[Input]:
    """Return the inputs that a reader must fill."""
    given = set(constants)
    return [spec for spec in inputs if spec.required and spec.name not in given]
