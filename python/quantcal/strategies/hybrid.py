"""Hybrid: one strategy clips outliers, another refines the range."""

from __future__ import annotations

from dataclasses import dataclass, field

from quantcal import _core
from quantcal.formats import QuantFormat
from quantcal.strategies.base import Strategy, needs_observations, range_of
from quantcal.strategies.kl import KL
from quantcal.strategies.percentile import Percentile
from quantcal.strategies.registry import register, strategy_of


@dataclass(frozen=True)
class Hybrid:
    """Two strategies in a row: `then` sees only the values inside the range of `first`.

    A search on equal bins wastes bins on outliers. A percentile before it removes the
    outliers. The histogram is cut, so there is no second pass over the data. O(first + then).

    Parameters
    ----------
    first, then
        Strategies, names of strategies, or mappings such as
        {"strategy": "minmax", "reduce": "mean"}.

    Raises
    ------
    CalibrationError
        If a name or an option is not known.
    TypeError
        If it is none of these.

    Examples
    --------
    >>> import quantcal as qc
    >>> str(qc.Hybrid("percentile_99.9", "mse"))
    'hybrid(percentile_99.9, mse)'
    """

    first: Strategy = field(default=Percentile(99.99))
    then: Strategy = field(default=KL())

    def __post_init__(self) -> None:
        object.__setattr__(self, "first", strategy_of(self.first))
        object.__setattr__(self, "then", strategy_of(self.then))

    @property
    def needs_observations(self) -> bool:
        """Whether `first` requires the extremes of each observation."""
        return needs_observations(self.first)

    def range(
        self, histogram: _core.Histogram, format: QuantFormat
    ) -> tuple[float, float]:
        """Return the refined range."""
        return self._refined(histogram, self.first.range(histogram, format), format)

    def range_of(
        self, stats: _core.TensorStats, format: QuantFormat
    ) -> tuple[float, float]:
        """Return the refined range; `first` may use the observations."""
        return self._refined(
            stats.histogram, range_of(self.first, stats, format), format
        )

    def _refined(
        self,
        histogram: _core.Histogram,
        coarse: tuple[float, float],
        format: QuantFormat,
    ) -> tuple[float, float]:
        inside = histogram.cut(*coarse)
        return self.then.range(inside, format) if inside.count else coarse

    def __str__(self) -> str:
        return f"hybrid({self.first}, {self.then})"


register("hybrid", Hybrid)
