"""How much a quantized model loses on samples, by its outputs.

The loss of an output is a ratio. Above stands the damage: the squared error of all its
elements. Below stands what a model that always gives the mean would lose: the variance.
So 0 is the float model and 1 is useless, for every output of every model.

For probabilities and logits of classes the damage is the divergence KL(float‖quantized) of
each row. Below it stands the divergence from the mean distribution, which is the mutual
information of input and class. Such an output has its classes in the last dimension, as
many in every sample. Whole numbers, such as labels, count by how many differ, if
there is no other output. The worst output counts.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quantcal._core import CalibrationError
from quantcal.onnx._graph.inputs import Feed
from quantcal.onnx._runtime.array_store import ArrayStore

Floats = NDArray[np.float64]
Metric = Callable[[int, Feed, dict[str, Any]], Any]
"""Called with a sample's number, its inputs and the outputs; more is better."""

_ROWS = ("probabilities", "logits")
_AVERAGED = ("values", *_ROWS)
_MEASURES = {
    "values": "squared error",
    "probabilities": "KL",
    "logits": "KL",
    "labels": "disagreement",
}
_TINY = 1e-12  # smaller probabilities count as this one
_HOPELESS = 3.0  # times the loss of the best
_SUM = 1e-3  # how far a sum of probabilities may be from 1
_LOGITS = re.compile("logit", re.IGNORECASE)


class Judge:
    """Compares outputs with those of the float model.

    Parameters
    ----------
    names : sequence of str
        Of the outputs.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self.names = list(names)
        self._reference = ArrayStore()
        self._kinds: list[str] = []
        self.scale: Floats = np.zeros((0, 0))

    def __len__(self) -> int:
        return len(self._reference)

    def add(self, outputs: list[Any]) -> None:
        """Add the float model's outputs of the next sample."""
        self._reference.append(outputs)

    def settle(self) -> None:
        """Compute what the float model's outputs vary, when all have been added."""
        kinds = [self._kind(index) for index in range(len(self.names))]
        # The class that a model names is what its scores say, more coarsely.
        if set(kinds) & {"values", *_ROWS}:
            kinds = ["" if kind == "labels" else kind for kind in kinds]
        self._kinds = kinds
        means = [self._mean(index, kind) for index, kind in enumerate(self._kinds)]
        rows = []
        for sample in range(len(self._reference)):
            values = self._reference[sample]
            rows.append(
                [
                    _variation(kind, value, mean)
                    for kind, value, mean in zip(
                        self._kinds, values, means, strict=True
                    )
                ]
            )
        self.scale = np.array(rows, np.float64).reshape(len(rows), len(self.names))

    @property
    def measures(self) -> dict[str, str]:
        """Output → how its loss is measured, for the outputs that are compared."""
        return {
            name: _MEASURES[kind]
            for name, kind in zip(self.names, self._kinds, strict=True)
            if kind
        }

    def damage(self, sample: int, outputs: Sequence[Any]) -> Floats:
        """Return the damage of one sample, by output; infinite when it is not finite."""
        wanted = self._reference[sample]
        found = []
        for name, kind, want, got in zip(
            self.names, self._kinds, wanted, outputs, strict=True
        ):
            if kind and np.shape(want) != np.shape(got):
                raise CalibrationError(
                    f"Output {name!r} has shape {list(np.shape(want))} in the float model, "
                    f"but {list(np.shape(got))} in the quantized one. Both need the same "
                    "to be compared."
                )
            found.append(_damage(kind, want, got))
        return np.array(found, np.float64)

    def loss(self, damage: Floats, samples: Sequence[int] | NDArray[Any]) -> float:
        """Return the loss of the worst output.

        Parameters
        ----------
        damage : float64 array, shape (samples, outputs)
        samples : sequence of int
            The sample of each row; a sample may come twice.
        """
        return max(self.losses(damage, samples).values(), default=0.0)

    def losses(
        self, damage: Floats, samples: Sequence[int] | NDArray[Any]
    ) -> dict[str, float]:
        """Return the loss of each output that is compared."""
        above = damage.sum(axis=0)
        below = self.scale[np.asarray(samples, np.int64)].sum(axis=0)
        return {
            name: _ratio(float(a), float(b))
            for name, kind, a, b in zip(
                self.names, self._kinds, above, below, strict=True
            )
            if kind
        }

    @property
    def separates_early(self) -> bool:
        """Whether a few samples may show that a candidate is worse."""
        return True

    def is_hopeless(self, loss: float, best: float) -> bool:
        """Whether a loss on a few samples shows that more need not run."""
        return loss > _HOPELESS * best

    def sample_loss(self, damage: Floats) -> float:
        """Return the loss of one sample; the mean over samples is about the loss of all.

        Parameters
        ----------
        damage : float64 array, shape (outputs,)
        """
        below = self.scale.mean(axis=0)
        found = [
            _ratio(float(a), float(b))
            for kind, a, b in zip(self._kinds, damage, below, strict=True)
            if kind
        ]
        return max(found, default=0.0)

    def close(self) -> None:
        """Delete the reference."""
        self._reference.close()

    def _kind(self, index: int) -> str:
        """Return what an output is: a kind, or "" if nothing of it can be compared."""
        kinds, widths = set(), set()
        for sample in range(len(self._reference)):
            value = self._reference[sample][index]
            if isinstance(value, np.ndarray) and not value.size:
                continue  # says nothing, and loses nothing
            kinds.add(_kind_of(value, self.names[index]))
            widths.add(value.shape[-1:] if isinstance(value, np.ndarray) else ())
        kind = kinds.pop() if len(kinds) == 1 else "values" if kinds else ""
        # Without the same classes in all samples there is no mean distribution.
        return "values" if kind in _ROWS and len(widths) > 1 else kind

    def _mean(self, index: int, kind: str) -> Any:
        """Return the mean of an output's values or rows over all samples."""
        total: Any = 0.0
        count = 0
        for sample in range(len(self._reference)) if kind in _AVERAGED else ():
            value = self._reference[sample][index]
            if kind == "values":
                finite = np.asarray(value, np.float64)
                finite = finite[np.isfinite(finite)]
                total, count = total + finite.sum(), count + finite.size
            else:
                rows = _rows(kind, value)
                total, count = total + rows.sum(axis=0), count + len(rows)
        return total / max(count, 1)


def _kind_of(value: Any, name: str) -> str:
    if not isinstance(value, np.ndarray) or value.dtype.kind not in "biufV":
        return ""  # sequences, maps and text
    if value.dtype.kind in "biu":
        return "labels"
    if value.ndim < 2 or value.shape[-1] < 2:
        return "values"
    rows = np.asarray(value, np.float64)
    with np.errstate(invalid="ignore", over="ignore"):
        sums = rows.sum(axis=-1)
    if ((rows >= 0) & (rows <= 1 + _SUM)).all() and np.allclose(sums, 1, atol=_SUM):
        return "probabilities"
    # The classes of an image's pixels are in the second dimension.
    named = _LOGITS.search(name) and value.ndim < 4
    return "logits" if named and np.isfinite(rows).all() else "values"


def _damage(kind: str, want: Any, got: Any) -> float:
    if kind == "values":
        return _squared_error(want, got)
    if kind == "labels":
        return float(np.not_equal(want, got).sum())
    if not kind:
        return 0.0
    if not np.isfinite(np.asarray(got, np.float64)).all():
        return np.inf
    return _divergence(_rows(kind, want), _rows(kind, got))


def _variation(kind: str, want: Any, mean: Any) -> float:
    """Return the damage of a model that always gives the mean."""
    if kind == "values":
        return _squared_error(want, mean)
    if kind == "labels":
        return float(np.size(want))
    return _divergence(_rows(kind, want), mean[None]) if kind else 0.0


def _squared_error(want: Any, got: Any) -> float:
    """Return the error of all elements that are finite in the float model."""
    x = np.asarray(want, np.float64)
    finite = np.isfinite(x)
    x, y = x[finite], np.broadcast_to(np.asarray(got, np.float64), x.shape)[finite]
    with np.errstate(invalid="ignore", over="ignore"):
        total = float(np.square(x - y).sum())
    return total if np.isfinite(total) else np.inf


def _divergence(p: Floats, q: Floats) -> float:
    """Return KL(p‖q) of all rows together, in nats."""
    return max(float(np.vdot(p, np.log(p / q))), 0.0)


def _rows(kind: str, value: Any) -> Floats:
    """Return positive probabilities of sum 1, a row for each distribution."""
    if not np.size(value):
        return np.zeros((0, 1))
    rows = np.array(value, np.float64).reshape(-1, np.shape(value)[-1])
    if kind == "logits":
        rows -= rows.max(axis=-1, keepdims=True)
        np.exp(rows, out=rows)
        rows /= rows.sum(axis=-1, keepdims=True)
    np.maximum(rows, _TINY, out=rows)
    rows /= rows.sum(axis=-1, keepdims=True)
    return rows


def _ratio(damage: float, scale: float) -> float:
    """Return damage by scale; an output that never varies loses all by any damage."""
    if damage == 0:
        return 0.0
    return damage / scale if scale > 0 and np.isfinite(damage) else float("inf")
