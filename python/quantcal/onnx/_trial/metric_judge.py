"""Judging by a caller's metric instead of the loss of the outputs."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quantcal._core import CalibrationError
from quantcal._text import shown
from quantcal.onnx._runtime.kept_samples import KeptSamples
from quantcal.onnx._runtime.sample_callables import load_callable
from quantcal.onnx._trial.judge import Floats, Judge

# A metric such as right or wrong is often equal. Then the loss of the outputs decides, up to
# a thousandth of the metric.
_TIE = 1e-3


def load_metric(metric: Callable[..., Any] | str) -> Callable[..., Any]:
    """Return a metric that is given as a callable or by its name.

    Raises
    ------
    CalibrationError
        When it is neither, or cannot be imported.
    """
    if isinstance(metric, str):
        return load_callable(metric)
    if not callable(metric):
        raise CalibrationError(
            f'metric is {shown(metric)}. Give a callable, or "python:module:callable".'
        )
    return metric


class MetricJudge(Judge):
    """The loss is what the metric's mean drops, from the float model to the quantized one.

    Parameters
    ----------
    names : sequence of str
        Of the outputs.
    metric : callable or str
        As for :func:`quantcal.onnx.evaluate`, or its name. Of several numbers the first
        counts. More is better.
    samples : KeptSamples
    """

    def __init__(
        self,
        names: Sequence[str],
        metric: Callable[..., Any] | str,
        samples: KeptSamples,
    ) -> None:
        super().__init__(names)
        self._metric = load_metric(metric)
        self._samples = samples
        self._float: list[float] = []

    @property
    def measures(self) -> dict[str, str]:
        """Always the metric."""
        return dict.fromkeys(self.names, "metric")

    def add(self, outputs: list[Any]) -> None:
        """Add the float model's outputs of the next sample."""
        number = len(self._float)
        found = self._measure(number, outputs, "float")
        if not math.isfinite(found):
            raise CalibrationError(
                f"{self._samples.where(number)}: the metric of the float model is {found}. "
                "It must be finite."
            )
        self._float.append(found)
        super().add(outputs)

    def damage(self, sample: int, outputs: Sequence[Any]) -> Floats:
        """Return the damage by output, and in the last place what the metric drops."""
        drop = self._float[sample] - self._measure(sample, outputs, "quantized")
        drop = drop if math.isfinite(drop) else math.inf
        return np.append(super().damage(sample, outputs), drop)

    def loss(self, damage: Floats, samples: Sequence[int] | NDArray[Any]) -> float:
        """Return the mean drop; equal drops are ordered by the loss of the outputs."""
        if not len(damage):
            return 0.0
        outputs = super().loss(damage[:, :-1], samples)
        return float(damage[:, -1].mean()) + _TIE * min(outputs, 1.0)

    @property
    def separates_early(self) -> bool:
        """Never: a metric of a few samples is coarse, and may be better than in float."""
        return False

    def sample_loss(self, damage: Floats) -> float:
        """Return the drop of one sample."""
        return float(damage[-1]) + _TIE * min(super().sample_loss(damage[:-1]), 1.0)

    def float_mean(self, samples: Sequence[int]) -> float:
        """Return the mean of the float model's metric."""
        return float(np.mean([self._float[sample] for sample in samples]))

    @staticmethod
    def mean_drop(damage: Floats) -> float:
        """Return what the metric's mean drops, from rows that :meth:`damage` returned."""
        return float(damage[:, -1].mean()) if len(damage) else 0.0

    def _measure(self, sample: int, outputs: Sequence[Any], model: str) -> float:
        where = self._samples.where(sample)
        try:
            named = dict(zip(self.names, outputs, strict=True))
            feed = self._samples.feed(sample)
            made = self._metric(self._samples.number(sample), feed, named)
            first = next(iter(made.values())) if isinstance(made, Mapping) else made
            return float(first)
        except Exception as error:  # the caller's code
            raise CalibrationError(
                f"{where}: the metric failed on the {model} model's outputs: "
                f"{type(error).__name__}: {error}"
            ) from error
