"""Loss of a quantized network on held-out samples, with an interval.

The loss of an output is its squared error over its variance, over all samples together.
The worst output counts. The interval is the 95 % percentile bootstrap over samples.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from benches.accuracy.collection.case import Array, Outputs

_RESAMPLES = 2000
_SEED = 20_260


class LossCounter:
    """Sums of each sample and output, from which any resample has its loss."""

    def __init__(self) -> None:
        self._names: list[str] = []
        self._sums: list[list[list[float]]] = []
        self._cosines: list[list[float]] = []

    def add(self, expected: Outputs, found: Outputs) -> None:
        """Add one sample; all have the same names."""
        self._names = list(expected)
        pairs = [_pair(expected[n], found[n]) for n in self._names]
        self._sums.append([_sums(a, b) for a, b in pairs])
        self._cosines.append([_cosine(a, b) for a, b in pairs])

    def result(self) -> dict[str, Any]:
        """Return the loss, its interval, the worst output and the cosines."""
        sums = np.array(self._sums)  # [sample, output, sum]
        losses = _losses(sums.sum(axis=0))
        if np.isnan(losses).all():
            raise ValueError(f"No output of {self._names} varies, so none has a loss.")
        worst = int(np.nanargmax(losses))
        found = resampled(sums[..., 1], sums[..., [0, 2, 3]])
        low, high = np.quantile(found, (0.025, 0.975))
        cosines = np.array(self._cosines)
        return {
            "loss": float(losses[worst]),
            "low": float(low),
            "high": float(high),
            "output": self._names[worst],
            "min_cosine": float(cosines.min(axis=0).min()),
            "mean_cosine": float(cosines.mean(axis=0).min()),
            "errors": [[float(f"{e:.6g}") for e in row] for row in sums[..., 1]],
        }

    def moments(self) -> list[list[list[float]]]:
        """Return count, sum and sum of squares of what is expected, by sample and output."""
        found: list[list[list[float]]] = np.array(self._sums)[..., [0, 2, 3]].tolist()
        return found


def resampled(errors: Array, moments: Array) -> Array:
    """Return the losses of resampled samples, the same samples for every method.

    Parameters
    ----------
    errors : float64 array, shape (samples, outputs)
        Sums of squared errors.
    moments : float64 array, shape (samples, outputs, 3)
        As :meth:`LossCounter.moments` returns them.
    """
    count = len(errors)
    rng = np.random.default_rng(_SEED)
    draws = rng.multinomial(count, np.full(count, 1 / count), _RESAMPLES)
    sums = np.insert(moments, 1, errors, axis=-1)
    with np.errstate(invalid="ignore"):
        losses = _losses(np.einsum("rs,sok->rok", draws, sums))
    found: Array = np.nanmax(losses, axis=1)
    return found


def _pair(expected: Array, found: Array) -> tuple[Array, Array]:
    if expected.shape != found.shape:
        raise ValueError(f"Shapes differ: {expected.shape} and {found.shape}.")
    return expected.ravel().astype(np.float64), found.ravel().astype(np.float64)


def _sums(a: Array, b: Array) -> list[float]:
    error = float(np.square(a - b).sum())
    if not np.isfinite(error):
        error = 1e30  # an output that is not finite loses everything
    return [float(a.size), error, float(a.sum()), float(np.square(a).sum())]


def _losses(sums: Array) -> Array:
    """Return error over variance; NaN for an output that does not vary."""
    count, error, total, squares = np.moveaxis(sums, -1, 0)
    spread = squares - total**2 / count
    varies = spread > 1e-9 * squares
    found: Array = np.where(varies, error / np.where(varies, spread, 1.0), np.nan)
    return found


def _cosine(a: Array, b: Array) -> float:
    norms = float(np.linalg.norm(a) * np.linalg.norm(b))
    if norms == 0:
        return float(np.array_equal(a, b))
    found = float(a @ b) / norms
    return found if np.isfinite(found) else -1.0
