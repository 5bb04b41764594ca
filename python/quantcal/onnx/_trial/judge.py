"""How much a quantized model loses on samples, by its outputs.

The loss of an output is a ratio. Above stands the damage: the squared error of all its
elements. Below stands what a model that always gives the mean would lose: the variance.
So 0 is the float model and 1 is useless, for every output of every model.

For probabilities and logits of classes the damage is the divergence KL(float‖quantized) of
each row. Below it stands the divergence from the mean distribution, which is the mutual
information of input and class. The worst output counts.
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

_TINY = 1e-12  # smaller probabilities count as this one
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
        self._kinds = [self._kind(index) for index in range(len(self.names))]
        means = [self._mean(index, kind) for index, kind in enumerate(self._kinds)]
        rows = []
        for sample in range(len(self._reference)):
            values = self._reference[sample]
            rows.append(
                [
                    _damage(kind, value, mean)
                    for kind, value, mean in zip(
                        self._kinds, values, means, strict=True
                    )
                ]
            )
        self.scale = np.array(rows, np.float64).reshape(len(rows), len(self.names))

    @property
    def measures(self) -> dict[str, str]:
        """Output → "squared error" or "KL", for the outputs that are compared."""
        texts = {"probabilities": "KL", "logits": "KL", "values": "squared error"}
        return {
            name: texts[kind]
            for name, kind in zip(self.names, self._kinds, strict=True)
            if kind
        }

    def damage(self, sample: int, outputs: Sequence[Any]) -> Floats:
        """Return the damage of one sample, by output; infinite when it is not finite."""
        wanted = self._reference[sample]
        found = []
        for kind, want, got in zip(self._kinds, wanted, outputs, strict=True):
            if kind and np.shape(want) != np.shape(got):
                raise CalibrationError(
                    f"An output has shape {list(np.shape(want))} in the float model, but "
                    f"{list(np.shape(got))} in the quantized one."
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
        """Return what an output is: "probabilities", "logits", "values" or ""."""
        kind = "probabilities"
        for sample in range(len(self._reference)):
            value = self._reference[sample][index]
            if not isinstance(value, np.ndarray) or value.dtype.kind not in "fV":
                return ""
            if value.ndim < 2 or value.shape[-1] < 2:
                kind = "values"
            elif value.size and kind == "probabilities":
                rows = value.astype(np.float64)
                sums = rows.sum(axis=-1)
                if not ((rows >= 0).all() and np.allclose(sums, 1, atol=_SUM)):
                    kind = "values"
            if kind == "values":
                logits = _LOGITS.search(self.names[index]) and value.ndim >= 2
                return "logits" if logits and value.shape[-1] > 1 else "values"
        return kind

    def _mean(self, index: int, kind: str) -> Any:
        total: Any = 0.0
        count = 0
        for sample in range(len(self._reference)):
            value = self._reference[sample][index]
            if not kind:
                return None
            if kind == "values":
                finite = value[np.isfinite(value.astype(np.float64))]
                total, count = total + finite.astype(np.float64).sum(), count + finite.size
            else:
                rows = _rows(kind, value)
                total, count = total + rows.sum(axis=0), count + len(rows)
        return total / max(count, 1)


def _damage(kind: str, want: Any, got: Any) -> float:
    if not kind:
        return 0.0
    if kind == "values":
        x = np.asarray(want, np.float64)
        y = np.asarray(got, np.float64)
        with np.errstate(invalid="ignore", over="ignore"):
            error = np.where((x == y) | (np.isnan(x) & np.isnan(y)), 0.0, x - y)
            total = float(np.square(error).sum())
        return total if np.isfinite(total) else np.inf
    p = _rows(kind, want)
    q = p if got is want else np.asarray(got, np.float64)
    if q.ndim != 1 and got is not want:
        q = _rows(kind, got)
    q = np.maximum(np.nan_to_num(q, nan=0.0), _TINY)
    q = q / q.sum(axis=-1, keepdims=True)
    terms = p * (np.log(np.maximum(p, _TINY)) - np.log(q))
    return max(float(terms.sum()), 0.0)


def _rows(kind: str, value: Any) -> Floats:
    """Return probabilities, a row for each distribution."""
    rows = np.asarray(value, np.float64).reshape(-1, np.shape(value)[-1])
    if kind == "probabilities":
        rows = np.maximum(rows, 0.0)
        return np.asarray(rows, np.float64)
    with np.errstate(invalid="ignore", over="ignore"):
        powers = np.exp(rows - rows.max(axis=-1, keepdims=True))
        return np.asarray(powers / powers.sum(axis=-1, keepdims=True), np.float64)


def _ratio(damage: float, scale: float) -> float:
    """Return damage by scale; an output that never varies loses all by any damage."""
    if scale > 0:
        return damage / scale
    return 0.0 if damage == 0 else float("inf")
