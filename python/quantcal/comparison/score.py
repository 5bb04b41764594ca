"""The figures of one strategy for one tensor, and for many."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from quantcal import _core
from quantcal._core import Histogram
from quantcal.formats import QuantFormat
from quantcal.params import QuantParams
from quantcal.tensor_report import TensorReport

LOWER_IS_BETTER = ("mse", "clipped", "rounded_to_zero", "divergence", "seconds")
HIGHER_IS_BETTER = ("sqnr_db", "cosine", "code_entropy")
FIGURES = (*HIGHER_IS_BETTER, *LOWER_IS_BETTER)
"""The figures that a comparison can be ordered by, besides the names."""

LONE = "values"
"""The name of an array or histogram without a name."""

_NUM_BINS = 2048
"""Bins of the divergence, as many as `KL` takes, so that it is what "kl" minimizes."""

_NAN = math.nan


@dataclass(frozen=True)
class Score:
    """The range of one strategy for one tensor, and its errors.

    All figures are computed from the histogram of the values; shares are of the finite ones.

    Parameters
    ----------
    tensor
        The tensor's name; "values" for an array or histogram without a name.
    strategy
        The strategy's name.
    params
        Range, scale and zero point; None if the strategy does not apply to this tensor. Then
        the figures are NaN, and `error` says why.
    clipped
        Share of the values that saturation moves further than rounding would.
    rounded_to_zero
        Share of the values that round to zero, exact zeros included.
    mse
        Mean squared error of a value.
    sqnr_db
        Signal to quantization noise ratio, in decibels; infinite without error.
    cosine
        Cosine of the angle between the values and the quantized values.
    divergence
        Kullback-Leibler divergence of the quantized distribution from the clipped one, in
        nats, on 2048 equal bins from the minimum to the maximum. For symmetric scaling "kl"
        minimizes it over the magnitudes, so another strategy may have a lower figure here.
        All levels count as evenly spaced, those of floats too.
    code_entropy
        Shannon entropy of the codes, in bits; at most the bits of the format. By channel,
        entropy and divergence are NaN.
    seconds
        Wall time of the search for the range, without the scoring.
    reason
        The strategy's reason for its choice; may be empty.
    error
        Why the strategy does not apply; empty if it does.
    """

    tensor: str
    strategy: str
    params: QuantParams | None
    clipped: float = _NAN
    rounded_to_zero: float = _NAN
    mse: float = _NAN
    sqnr_db: float = _NAN
    cosine: float = _NAN
    divergence: float = _NAN
    code_entropy: float = _NAN
    seconds: float = _NAN
    reason: str = ""
    error: str = ""

    def has(self, figure: str) -> bool:
        """Whether the row has this figure or name."""
        value = getattr(self, figure)
        lacking = isinstance(value, float) and math.isnan(value)
        return self.params is not None and not lacking

    def _repr_html_(self) -> str:
        from quantcal.report import html

        return html.record(f"{self.strategy}, {self.tensor}", self.record())

    def record(self) -> dict[str, Any]:
        """Return all fields as one flat dict; figures that are not finite are None.

        By channel, low, high, scale and zero_point are lists.
        """
        params = self.params
        fields: dict[str, Any] = {"tensor": self.tensor, "strategy": self.strategy}
        for name in ("format", "symmetric", "low", "high", "scale", "zero_point"):
            value = getattr(params, name, None)
            fields[name] = value.tolist() if isinstance(value, np.ndarray) else value
        for name in (*FIGURES, "reason", "error"):
            fields[name] = getattr(self, name)
        return {
            name: None
            if isinstance(value, float) and not math.isfinite(value)
            else value
            for name, value in fields.items()
        }


@dataclass(frozen=True)
class StrategySummary:
    """The figures of one strategy over all tensors.

    Parameters
    ----------
    strategy
        The strategy's name.
    tensors
        Tensors with finite values that it applies to; the other figures are of these.
    failed
        Tensors that it does not apply to.
    median_sqnr_db, min_sqnr_db
        Median and minimum SQNR over the tensors, in decibels; NaN without tensors.
    worst
        The tensor with the minimum SQNR; empty without tensors.
    best
        Number of tensors on which no other strategy has a lower squared error.
    seconds
        Time of all its searches.
    """

    strategy: str
    tensors: int
    failed: int
    median_sqnr_db: float
    min_sqnr_db: float
    worst: str
    best: int
    seconds: float


def score_tensor(
    tensor: str,
    params: QuantParams,
    report: TensorReport,
    seconds: float,
    histogram: Histogram,
    format: QuantFormat,
) -> Score:
    """Return the figures of one range for all values of a tensor."""
    low, high = float(params.low), float(params.high)
    scale, zero_point = float(params.scale), int(params.zero_point)
    return replace(
        score_channels(tensor, params, report, seconds),
        divergence=_core.divergence(histogram, low, high, _NUM_BINS, format),
        code_entropy=_core.code_entropy(histogram, format, scale, zero_point),
    )


def score_channels(
    tensor: str, params: QuantParams, report: TensorReport, seconds: float
) -> Score:
    """Return the figures that exist by channel, too: without divergence and entropy."""
    return Score(
        tensor=tensor,
        strategy=params.strategy,
        params=params,
        clipped=report.clipped,
        rounded_to_zero=report.rounded_to_zero,
        mse=report.mse,
        sqnr_db=report.sqnr_db,
        cosine=report.cosine,
        seconds=seconds,
        reason=report.reason,
    )
