"""A promise about accuracy: how much a quantized model may lose, and whether it keeps that."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from quantcal.onnx._trial.judge import Floats, Judge
from quantcal.onnx._trial.metric_judge import MetricJudge


@dataclass(frozen=True, slots=True)
class Promise:
    """The largest drop that is allowed.

    Attributes
    ----------
    judge
        Of the samples on which it is checked.
    max_drop
        With a metric, a share of the float model's mean. Else the loss of the outputs.
    """

    judge: Judge
    max_drop: float

    @property
    def measure(self) -> str:
        """What the drop is of."""
        if isinstance(self.judge, MetricJudge):
            return "metric"
        return ", ".join(dict.fromkeys(self.judge.measures.values()))

    def drop(self, damage: Floats, samples: Sequence[int]) -> float:
        """Return the drop on these samples.

        Parameters
        ----------
        damage : float64 array, shape (samples, outputs)
        samples : sequence of int
        """
        if not isinstance(self.judge, MetricJudge):
            return self.judge.loss(damage, samples)
        mean = abs(self.judge.float_mean(samples))
        lost = self.judge.mean_drop(damage)
        return lost / mean if mean else lost

    def is_kept(self, drop: float) -> bool:
        """Whether a drop is within the promise."""
        return drop <= self.max_drop
