"""`TensorReport`: what was observed of one tensor, and the errors of its parameters."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from quantcal import _core
from quantcal.params import QuantParams


@dataclass(frozen=True)
class TensorReport:
    """What was observed of one tensor, and the errors of its parameters.

    Shares are of the finite values. By channel, the figures cover all channels together, each
    with its own parameters.

    Parameters
    ----------
    count
        Elements observed, non-finite ones included.
    min, max
        Finite extremes, exactly; None without finite values.
    zeros, nan, posinf, neginf
        Number of elements of each kind.
    clipped
        Share of the values that saturation moves further than rounding would: those more than
        half a step beyond the lowest or the highest code.
    rounded_to_zero
        Share of the values that round to zero, exact zeros included: |x| <= scale / 2.
    mse
        Expected squared error of a value.
    sqnr_db
        Signal to quantization noise ratio, in decibels; infinite without error.
    cosine
        Cosine of the angle between the values and what becomes of them: 1 without error.
    rule
        The pattern of the rule that applied.
    reason
        What the strategy reports on its choice, such as the distribution that fits. May be
        empty; always empty by channel.
    """

    count: int
    min: float | None
    max: float | None
    zeros: int
    nan: int
    posinf: int
    neginf: int
    clipped: float
    rounded_to_zero: float
    mse: float
    sqnr_db: float
    cosine: float
    rule: str
    reason: str = ""

    def _repr_html_(self) -> str:
        from quantcal.report import html

        return html.record("TensorReport", dict(vars(self)))

    @classmethod
    def of(
        cls,
        seen: _core.Histogram | _core.ChannelStats,
        params: QuantParams,
        rule: str,
        reason: str = "",
    ) -> TensorReport:
        """Score parameters against what was observed, as a whole or by channel."""
        grid: Any = (params.format, params.scale, params.zero_point)
        if isinstance(seen, _core.ChannelStats):
            histogram, score = seen.histogram, _core.channel_grid_error(seen, *grid)
        else:
            histogram, score = seen, _core.grid_error(seen, *grid)
        mse, sqnr_db, clipped, rounded_to_zero, cosine = score
        return cls(
            count=histogram.count,
            min=histogram.min,
            max=histogram.max,
            zeros=histogram.zeros,
            nan=histogram.nan,
            posinf=histogram.posinf,
            neginf=histogram.neginf,
            clipped=clipped,
            rounded_to_zero=rounded_to_zero,
            mse=mse,
            sqnr_db=sqnr_db,
            cosine=cosine,
            rule=rule,
            reason=reason,
        )
