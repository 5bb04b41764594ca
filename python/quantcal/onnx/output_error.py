"""The error of one tensor of a quantized model against the float model's, over all samples."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quantcal._notebook import Shown

Floats = NDArray[np.float64]

_TINY = 1e-12  # smaller probabilities count as this one
_SUM = 1e-3  # how far a sum of probabilities, or a length, may be from 1
_CHUNK = 1 << 16  # elements in float64 at a time, which caches hold


@dataclass(frozen=True, slots=True)
class OutputError(Shown):
    """A tensor of two models, compared; None where a figure has no meaning.

    Attributes
    ----------
    sqnr_db
        Signal to noise, 10 · log10(Σ x² / Σ (x − y)²) over all elements; infinite when equal.
    loss
        Squared error over variance, Σ (x − y)² / Σ (x − mean(x))² over all elements. 0 when
        equal; 1 is the error of the best constant. Unlike SQNR, an offset of all values does
        not hide the error. Infinite for an error in a tensor that is constant in float.
    cosine
        Cosine of the angle between all elements of both.
    max_error
        The largest |x − y|; infinite when one of them is not finite where the other is.
    kl
        Mean divergence KL(x‖y) in nats along the last axis, of outputs that are probabilities:
        not negative, and of sum 1.
    top1
        The share of places along the last axis with the same largest element, where that
        axis counts classes. It must have two or more elements, the same number in all
        samples. The output must be one of these: probabilities; an output with "logit" in
        its name; a matrix [N, C] whose rows do not all have length 1, as embeddings have.
        So it is None for sequences and maps of real values. For whole numbers and booleans
        it is the share of equal elements.
    """

    sqnr_db: float | None = None
    loss: float | None = None
    cosine: float | None = None
    max_error: float | None = None
    kl: float | None = None
    top1: float | None = None


class Comparison:
    """Sums over samples, in float64; constant memory.

    Parameters
    ----------
    name
        The output. A name with "logit" has classes along its last axis.
    elements_only
        Leave out ``kl`` and ``top1``, as for tensors inside a model.
    """

    def __init__(self, name: str = "", *, elements_only: bool = False) -> None:
        self._signal = self._noise = self._other = self._product = 0.0
        self._variation = _Variation()
        self._max_error = 0.0
        self._is_float = True
        self._elements = 0
        self._equal = 0
        self._classes = None if elements_only else _Classes("logit" in name.lower())

    def add(self, want: NDArray[Any], got: NDArray[Any]) -> None:
        """Add one sample's tensor of the float model and of the other, of one shape."""
        self._elements += want.size
        if want.dtype.kind not in "fV":
            self._is_float = False
            self._equal += int((want == got).sum())
            return
        for x, y in _chunks(want, got):
            self._add_elements(x, y)
        if self._classes is not None:
            self._classes.add(want, got)

    def _add_elements(self, x: Floats, y: Floats) -> None:
        with np.errstate(invalid="ignore", over="ignore"):
            error = x - y
            noise = float(error @ error)
        if not math.isfinite(noise):  # rare, and slower
            with np.errstate(over="ignore"):
                error = np.where((x == y) | (np.isnan(x) & np.isnan(y)), 0.0, error)
                error = np.nan_to_num(np.abs(error), nan=np.inf, posinf=np.inf)
                noise = float(error @ error)
            finite = np.isfinite(x) & np.isfinite(y)
            x, y = x[finite], y[finite]
        self._max_error = max(self._max_error, float(np.abs(error).max(initial=0)))
        self._noise += noise
        self._signal += float(x @ x)
        self._other += float(y @ y)
        self._product += float(x @ y)
        self._variation.add(x)

    def result(self) -> OutputError:
        """Return the figures of all samples so far."""
        if not self._elements:
            return OutputError()
        if not self._is_float:
            return OutputError(top1=self._equal / self._elements)
        return OutputError(
            sqnr_db=_decibels(self._signal, self._noise),
            loss=_loss(self._noise, self._variation.total),
            cosine=_cosine(self._product, self._signal, self._other),
            max_error=self._max_error,
            kl=self._classes.divergence() if self._classes else None,
            top1=self._classes.agreement() if self._classes else None,
        )


class _Variation:
    """Σ (x − mean)² of a stream, joined pairwise (Chan, Golub and LeVeque, 1979)."""

    def __init__(self) -> None:
        self._count = 0
        self._mean = 0.0
        self.total = 0.0

    def add(self, x: Floats) -> None:
        if not x.size:
            return
        mean = float(x.mean())
        count = self._count + x.size
        away = mean - self._mean
        rest = x - mean
        self.total += float(rest @ rest)
        self.total += away**2 * self._count * x.size / count
        self._mean += away * x.size / count
        self._count = count


class _Classes:
    """Whether the last axis counts classes, and how far both models agree on them."""

    def __init__(self, named: bool) -> None:
        self._named = named
        self._width: int | None = None
        self._one_width = True
        self._probable = True
        self._matrix = True
        self._of_length_1 = True
        self._rows = 0
        self._same = 0
        self._divergence = 0.0

    def add(self, want: NDArray[Any], got: NDArray[Any]) -> None:
        if not want.ndim or want.shape[-1] < 2:
            self._one_width = self._probable = False
            return
        self._one_width &= self._width in (None, want.shape[-1])
        self._width = want.shape[-1]
        self._matrix &= want.ndim == 2
        if not want.size or not (self._named or self._probable or self._matrix):
            return
        rows, others = (
            array.reshape(-1, self._width).astype(np.float64) for array in (want, got)
        )
        self._rows += len(rows)
        self._same += int((rows.argmax(axis=1) == others.argmax(axis=1)).sum())
        with np.errstate(over="ignore", invalid="ignore"):
            lengths = np.sqrt((rows**2).sum(axis=1))
            self._of_length_1 &= np.allclose(lengths, 1, atol=_SUM)
            self._probable &= bool((rows >= 0).all()) and np.allclose(
                rows.sum(axis=1), 1, atol=_SUM
            )
        if self._probable:
            q = np.maximum(np.nan_to_num(others, nan=0.0), _TINY)
            q = q / q.sum(axis=1, keepdims=True)
            terms = rows * (np.log(np.maximum(rows, _TINY)) - np.log(q))
            self._divergence += float(terms.sum())

    def divergence(self) -> float | None:
        return self._divergence / self._rows if self._rows and self._probable else None

    def agreement(self) -> float | None:
        logits = self._matrix and not self._of_length_1
        if not self._rows or not self._one_width:
            return None
        known = self._named or self._probable or logits
        return self._same / self._rows if known else None


def _chunks(want: NDArray[Any], got: NDArray[Any]) -> Iterator[tuple[Floats, Floats]]:
    """Yield both tensors in pieces that take little memory in float64."""
    x, y = want.reshape(-1), got.reshape(-1)
    for start in range(0, x.size, _CHUNK):
        part = slice(start, start + _CHUNK)
        yield x[part].astype(np.float64), y[part].astype(np.float64)


def _decibels(signal: float, noise: float) -> float:
    if noise == 0:
        return math.inf
    if signal == 0 or math.isinf(noise):
        return -math.inf
    return 10 * math.log10(signal / noise)


def _loss(noise: float, variation: float) -> float:
    if noise == 0:
        return 0.0
    return noise / variation if variation else math.inf


def _cosine(product: float, first: float, second: float) -> float | None:
    size = math.sqrt(first) * math.sqrt(second)
    return min(1.0, max(-1.0, product / size)) if size else None
