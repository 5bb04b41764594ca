"""The error of one output of a quantized model against the float model's, over all samples."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

_TINY = 1e-12  # smaller probabilities count as this one


@dataclass(frozen=True, slots=True)
class OutputError:
    """An output of two models, compared; None where a figure has no meaning.

    Attributes
    ----------
    sqnr_db
        Signal to noise, 10 · log10(Σ x² / Σ (x − y)²) over all elements; infinite when equal.
    cosine
        Cosine of the angle between all elements of both.
    max_error
        The largest |x − y|; infinite when one of them is not finite where the other is.
    kl
        Mean divergence KL(x‖y) in nats along the last axis, of outputs that are probabilities:
        not negative, and of sum 1.
    top1
        The share of places along the last axis with the same largest element, when it has
        two or more; for whole numbers and booleans the share of equal elements.
    """

    sqnr_db: float | None
    cosine: float | None
    max_error: float | None
    kl: float | None
    top1: float | None


class Comparison:
    """Sums over samples, in float64; constant memory."""

    def __init__(self) -> None:
        self._signal = self._noise = self._other = self._product = 0.0
        self._max_error = 0.0
        self._divergence = 0.0
        self._rows = 0
        self._same = 0
        self._places = 0
        self._is_float = True
        self._probable = True
        self._elements = 0

    def add(self, want: NDArray[Any], got: NDArray[Any]) -> None:
        """Add one sample's output of the float model and of the other."""
        self._elements += want.size
        if want.dtype.kind not in "fV":
            self._is_float = False
            self._same += int((want == got).sum())
            self._places += want.size
            return
        x, y = want.astype(np.float64), got.astype(np.float64)
        with np.errstate(invalid="ignore", over="ignore"):
            error = np.where((x == y) | (np.isnan(x) & np.isnan(y)), 0.0, x - y)
        error = np.nan_to_num(np.abs(error), nan=np.inf, posinf=np.inf)
        finite = np.isfinite(x) & np.isfinite(y)
        self._max_error = max(self._max_error, float(error.max(initial=0)))
        self._noise += float((error**2).sum())
        self._signal += float((x[finite] ** 2).sum())
        self._other += float((y[finite] ** 2).sum())
        self._product += float((x[finite] * y[finite]).sum())
        if x.ndim and x.shape[-1] > 1 and x.size:
            self._along_the_last_axis(x, y)

    def _along_the_last_axis(self, x: NDArray[Any], y: NDArray[Any]) -> None:
        rows, others = x.reshape(-1, x.shape[-1]), y.reshape(-1, y.shape[-1])
        self._same += int((rows.argmax(axis=1) == others.argmax(axis=1)).sum())
        self._places += len(rows)
        self._rows += len(rows)
        self._probable &= bool(
            (rows >= 0).all() and np.allclose(rows.sum(axis=1), 1, atol=1e-3)
        )
        if self._probable:
            p = np.maximum(rows, 0)
            q = np.maximum(np.nan_to_num(others, nan=0.0), _TINY)
            q = q / q.sum(axis=1, keepdims=True)
            terms = p * (np.log(np.maximum(p, _TINY)) - np.log(q))
            self._divergence += float(terms.sum())

    def result(self) -> OutputError:
        """Return the figures of all samples so far."""
        top1 = self._same / self._places if self._places else None
        if not self._is_float or not self._elements:
            return OutputError(None, None, None, None, top1)
        return OutputError(
            sqnr_db=_decibels(self._signal, self._noise),
            cosine=_cosine(self._product, self._signal, self._other),
            max_error=self._max_error,
            kl=self._divergence / self._rows if self._rows and self._probable else None,
            top1=top1,
        )


def _decibels(signal: float, noise: float) -> float:
    if noise == 0:
        return math.inf
    if signal == 0 or math.isinf(noise):
        return -math.inf
    return 10 * math.log10(signal / noise)


def _cosine(product: float, first: float, second: float) -> float | None:
    size = math.sqrt(first) * math.sqrt(second)
    return min(1.0, max(-1.0, product / size)) if size else None
