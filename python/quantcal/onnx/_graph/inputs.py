"""The inputs of a model, and checking a sample against them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from quantcal._core import CalibrationError
from quantcal.data.suggestions import save_line
from quantcal.onnx._graph.element_types import ML_DTYPES

Feed = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Sample:
    """A feed and its name in errors, such as "sample 0" or "random inputs"."""

    feed: Feed
    where: str


@dataclass(frozen=True, slots=True)
class InputSpec:
    """One input of a model, as the model declares it.

    Attributes
    ----------
    name : str
    dtype : numpy.dtype or None
        None when the input is not a tensor. Such an input is not checked.
    shape : tuple of (int or None), or None
        A dimension of any size is None, and so is the shape when the rank is unknown.
    required : bool
        False for an input with a default value in the model.
    """

    name: str
    dtype: np.dtype[Any] | None
    shape: tuple[int | None, ...] | None
    required: bool = True

    def __str__(self) -> str:
        shape = "?" if self.shape is None else list(self.shape)
        return f"{self.name!r} ({self.dtype} {shape})".replace("None", "any")


def check_feed(feed: object, inputs: Sequence[InputSpec], where: str) -> Feed:
    """Check a sample, and return it as a dict of arrays.

    Parameters
    ----------
    feed : mapping of str to array
    inputs : sequence of InputSpec
    where : str
        Names the sample in errors, such as ``"sample 3 (a/0003.npz)"``.

    Raises
    ------
    CalibrationError
        For a missing or unknown input, or a wrong dtype, rank or fixed dimension.
    """
    if not isinstance(feed, Mapping):
        raise CalibrationError(
            f"{where} is a {type(feed).__name__}; expected a mapping "
            "{input name: array}."
        )
    known = {spec.name for spec in inputs}
    listed = ", ".join(str(spec) for spec in inputs)
    missing = [s.name for s in inputs if s.required and s.name not in feed]
    if missing:
        raise CalibrationError(
            f"{where} has no input {', '.join(map(repr, missing))}. "
            f"It has {sorted(map(str, feed))}; the model takes {listed}. Save each sample "
            f"with these names: {save_line(inputs)}."
        )
    unknown = [name for name in feed if name not in known]
    if unknown:
        raise CalibrationError(
            f"{where} has {', '.join(map(repr, unknown))}, which is not an input of the "
            f"model. The model takes {listed}."
        )
    specs = {spec.name: spec for spec in inputs}
    return {name: _check_array(feed[name], specs[name], where) for name in feed}


def _check_array(array: Any, spec: InputSpec, where: str) -> Any:
    if spec.dtype is None:
        return array
    if not isinstance(array, (np.ndarray, np.generic)):
        raise CalibrationError(
            f"{where}: input {spec.name!r} is a {type(array).__name__}; "
            f"expected a numpy array of {spec.dtype}."
        )
    array = _restore_dtype(np.asarray(array), spec.dtype)
    text = spec.dtype == np.dtype(object) and array.dtype.kind in "OUS"
    if array.dtype != spec.dtype and not text:
        raise CalibrationError(
            f"{where}: input {spec.name!r} has dtype {array.dtype}; the model takes "
            f"{spec.dtype}. Convert it first: array.astype({_spell_dtype(spec.dtype)})."
        )
    if spec.shape is None:
        return array
    want = "[" + ", ".join("any" if d is None else str(d) for d in spec.shape) + "]"
    got = list(array.shape)
    if len(got) != len(spec.shape):
        raise CalibrationError(
            f"{where}: input {spec.name!r} has {len(got)} dimensions, shape {got}; "
            f"the model takes {len(spec.shape)}, shape {want}."
        )
    if any(w is not None and w != g for w, g in zip(spec.shape, got, strict=True)):
        raise CalibrationError(
            f"{where}: input {spec.name!r} has shape {got}; the model takes {want}."
        )
    return array


def _restore_dtype(
    array: np.ndarray[Any, Any], dtype: np.dtype[Any]
) -> np.ndarray[Any, Any]:
    """Restore the type of an array from a file."""
    # `numpy.save` writes types of ml_dtypes as plain bytes: bfloat16 is loaded as "V2".
    plain = array.dtype.type is np.void and array.dtype.names is None
    if plain and dtype in ML_DTYPES.values() and array.dtype.itemsize == dtype.itemsize:
        return array.view(dtype)
    return array


def _spell_dtype(dtype: np.dtype[Any]) -> str:
    """Return a type as code that a user can copy."""
    return (
        f"ml_dtypes.{dtype.name}" if dtype in ML_DTYPES.values() else repr(str(dtype))
    )
