"""`calibrate`: the parameters of one array, without a calibrator."""

from __future__ import annotations

from typing import Any

from quantcal import _core
from quantcal._compute import compute_params
from quantcal._core import Histogram
from quantcal._empty_warnings import warn_of_empty_values
from quantcal._statistics import Stats
from quantcal.calibrator import Calibrator
from quantcal.channels import Channels
from quantcal.formats import FormatLike, QuantFormat
from quantcal.params import QuantParams
from quantcal.strategies.base import Strategy
from quantcal.strategies.policy import Policy


def calibrate(
    values: Any,
    strategy: str | Strategy = "mse",
    *,
    format: FormatLike = "int8",
    symmetric: bool | None = None,
    power_of_two: bool | None = None,
    axis: int | None = None,
    **options: Any,
) -> QuantParams:
    """Return the parameters for one array.

    Parameters
    ----------
    values
        An array (any shape, float), a `Histogram` or `Channels`.
    strategy, format, symmetric, power_of_two, options
        As in `Calibrator.compute`.
    axis
        The axis of the channels. Each channel gets its own parameters, so they are arrays.
        Negative axes count from the end. None for one range of the whole array.

    Raises
    ------
    TypeError
        If the values are not floats, or an axis is given with a histogram.
    CalibrationError
        If a name, format or option is not known, or the array has no such axis.

    Warns
    -----
    UserWarning
        If there is no finite value, in the array or in a channel. No data supports its range.

    Examples
    --------
    >>> import numpy as np, quantcal as qc
    >>> x = np.random.default_rng(0).normal(size=100_000).astype(np.float32)
    >>> p = qc.calibrate(x, "percentile", percentile=99.99, format="uint8")
    >>> p.format, p.zero_point, p.strategy
    ('uint8', 128, 'percentile_99.99')
    """
    format = QuantFormat.of(format, symmetric, power_of_two)
    pattern, chosen = Policy.of(strategy, **options).match("values")
    stats = stats_of(values, axis)
    params = compute_params([("values", stats, pattern, chosen)], format)[0][0]
    warn_of_empty_values(stats, params)
    return params


def stats_of(values: Any, axis: int | None) -> Stats:
    """Return the statistics of an array, or those in histograms."""
    if isinstance(values, (Histogram, Channels)):
        if axis is not None:
            msg = f"axis is {axis}, but only an array takes an axis, not histograms"
            raise TypeError(msg)
        if isinstance(values, Channels):
            return values.stats
        return _core.TensorStats.from_histogram(values)
    cal = Calibrator()
    cal.observe("values", values, axis=axis)
    return cal.stats("values")
