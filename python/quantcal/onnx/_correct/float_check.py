"""Checking on samples that a corrected float model computes what the given one computes."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np

from quantcal._core import CalibrationError
from quantcal.onnx._graph.inputs import Feed
from quantcal.onnx._model.model import model_inputs
from quantcal.onnx._runtime.memory_groups import run
from quantcal.onnx._runtime.session import Workspace

if TYPE_CHECKING:
    from quantcal.onnx._model.model import LoadedModel

ROUNDING = 1e-3
"""How much rounding may change an output, relative to its root mean square.

The same limit as for PyTorch models in float32 (:mod:`quantcal.torch.output_check`).
"""

_SAMPLES = 4  # a wrong factor changes every sample


def check_same_outputs(
    before: LoadedModel, after: LoadedModel, samples: Iterable[Feed], name: str
) -> None:
    """Refuse a corrected model whose float outputs differ by more than rounding.

    Parameters
    ----------
    before, after : LoadedModel
    samples : iterable of feed
        The first four are run.
    name : str
        The correction, in errors.

    Raises
    ------
    CalibrationError
        Gives the output and the largest difference. Also when there are no samples.
    """
    outputs = [value.name for value in before.proto.graph.output]
    count = 0
    with Workspace(before) as old, Workspace(after) as new:
        one, other = old.open(outputs), new.open(outputs)
        for count, feed in enumerate(islice(samples, _SAMPLES), start=1):
            where = f"sample {count - 1}"
            wanted = run(one, outputs, feed, where)
            found = run(other, outputs, feed, where)
            for output, want, got in zip(outputs, wanted, found, strict=True):
                _check(output, want, got, where, f"{name} of {before.label}")
    if not count:
        raise CalibrationError(
            f"There are no samples to verify the correction {name!r}. Give samples that "
            "can be read again."
        )


def random_samples(loaded: LoadedModel) -> list[Feed]:
    """Return one sample of random numbers, if all inputs are floats of a fixed shape."""
    rng = np.random.default_rng(0)
    feed: Feed = {}
    for spec in model_inputs(loaded.proto):
        if not spec.required:
            continue
        sizes = [size for size in spec.shape or () if size is not None]
        fixed = spec.shape is not None and len(sizes) == len(spec.shape)
        if not fixed or spec.dtype is None or spec.dtype.kind != "f":
            return []
        feed[spec.name] = rng.standard_normal(sizes).astype(spec.dtype)
    return [feed]


def _check(output: str, want: Any, got: Any, where: str, what: str) -> None:
    if not isinstance(want, np.ndarray) or want.dtype.kind != "f":
        return  # rounding may change an index
    difference = relative_difference(want, got)
    if not difference <= ROUNDING:
        raise CalibrationError(
            f"The correction {what} would change the float model: {output!r} differs by "
            f"{difference:.2%} of its size on {where}, where rounding explains at most "
            f"{ROUNDING:.1%}. Nothing was changed. Leave this correction out, and please "
            "report it."
        )


def relative_difference(want: np.ndarray[Any, Any], got: np.ndarray[Any, Any]) -> float:
    """Return the root mean square of a difference over that of the wanted values.

    It is infinite where shapes differ, or only one of them is finite.
    """
    if want.shape != got.shape:
        return float("inf")
    x, y = want.astype(np.float64), got.astype(np.float64)
    finite = np.isfinite(x)
    if not np.array_equal(x[~finite], y[~finite], equal_nan=True):
        return float("inf")
    x, y = x[finite], y[finite]
    size, error = float(np.sum(x * x)), float(np.sum((y - x) ** 2))
    if error == 0:
        return 0.0
    return float(np.sqrt(error / size)) if size else float("inf")
