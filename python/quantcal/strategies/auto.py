"""Auto: the strategy that loses least on the model's outputs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from quantcal._core import CalibrationError
from quantcal._text import shown
from quantcal.strategies.mse import MSE

if TYPE_CHECKING:
    from quantcal import _core
    from quantcal.formats import QuantFormat

FOLDS = 4
SAMPLES = 128
"""Three quarters of these decide each range, and all of them judge it. Trials take time in
proportion."""
FLOAT_SHARE = 0.03
"""Time that hardly shows, and enough for logits, masks, and first layers."""


@dataclass(frozen=True)
class Auto:
    """Try strategies on the model, and take what its outputs lose least by.

    :func:`quantcal.onnx.quantize` does this with the samples of the calibration. They are
    divided into folds. The ranges that a fold is judged with come from the histograms of
    the other folds. A run that continues from a checkpoint tries only its own samples, and
    may choose otherwise than a run without a break.

    Histograms alone cannot tell what a model loses. For them, as in
    ``Calibrator.compute``, this is :class:`MSE`.

    Parameters
    ----------
    samples
        The number of samples to try strategies on at most, spread evenly over all. Fewer
        than 8 count as 8. More take longer and separate strategies better.
    metric
        Your measure of quality, where the loss of the outputs is not what counts: a
        callable as for :func:`quantcal.onnx.evaluate`, or its name as
        ``"python:module:callable"``. More is better.
    float_share
        The share of the multiply-adds that may stay in float, 0 to 1. A small node, such
        as that of the logits, stays there if that lowers the loss by a tenth. The share
        grows with the factor by which the loss falls, up to four times. 0 for none.
    time
        Seconds for all trials; None for no limit. Then the best so far is taken. The first
        strategy, :class:`MSE`, is always tried. With a limit the result may differ from
        machine to machine.

    Raises
    ------
    CalibrationError
        If an option is of another type or out of range.
    """

    samples: int = SAMPLES
    metric: str | Callable[..., Any] | None = None
    float_share: float = FLOAT_SHARE
    time: float | None = None

    def __post_init__(self) -> None:
        count = self.samples
        if not isinstance(count, int) or isinstance(count, bool) or count < 1:
            msg = f"samples is {shown(count)}, but it must be a whole number, 1 or more"
            raise CalibrationError(msg)
        if not (
            self.metric is None or isinstance(self.metric, str) or callable(self.metric)
        ):
            msg = f'metric is {shown(self.metric)}. Give a callable or "python:module:callable"'
            raise CalibrationError(msg)
        part = self.float_share
        number = isinstance(part, (int, float)) and not isinstance(part, bool)
        if not (number and 0 <= part <= 1):
            msg = f"float_share is {shown(part)}, but it must be a share from 0 to 1"
            raise CalibrationError(msg)
        seconds = self.time
        number = isinstance(seconds, (int, float)) and not isinstance(seconds, bool)
        if seconds is not None and not (number and seconds >= 0):
            msg = f"time is {shown(seconds)}, but it must be seconds, 0 or more"
            raise CalibrationError(msg)

    def range(
        self, histogram: _core.Histogram, format: QuantFormat
    ) -> tuple[float, float]:
        """Return the range of least squared error: a guess, without the model."""
        return MSE().range(histogram, format)

    def __str__(self) -> str:
        shown_as = {
            "samples": self.samples,
            "metric": _name_of(self.metric),
            "float_share": self.float_share,
            "time": self.time,
        }
        options = [
            f"{name}={value}"
            for name, value in shown_as.items()
            if value != getattr(type(self), name)
        ]
        return f"auto({', '.join(options)})" if options else "auto"


def _name_of(metric: Any) -> str | None:
    """Return a metric's name as a file would have it."""
    if metric is None or isinstance(metric, str):
        return metric
    kind = type(metric)
    module = getattr(metric, "__module__", kind.__module__)
    name = getattr(metric, "__qualname__", kind.__qualname__)
    return f"python:{module}:{name}"
