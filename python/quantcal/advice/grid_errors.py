"""What a grid does to the values of a histogram, bin by bin."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from quantcal._core import CalibrationError, ChannelStats, Histogram
from quantcal.params import QuantParams

# Fractions of the steps of float formats are multiples of this.
_SMALLEST_LEVEL = 2.0**-16

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class BinnedValues:
    """The values of a tensor, one a bin, and what becomes of them.

    A bin is at most 0.4 % wide for float32, so its middle stands for its values. Values of 16
    bits are exact.

    Parameters
    ----------
    values
        The middle of each bin that has values.
    counts
        The number of values in each bin.
    quantized
        What the grid makes of each value.
    levels
        The same in steps of the scale.
    clipped
        Whether a value lies outside the range.
    """

    values: Floats
    counts: Floats
    quantized: Floats
    levels: Floats
    clipped: NDArray[np.bool_]

    @classmethod
    def of(cls, seen: Histogram | ChannelStats, params: QuantParams) -> BinnedValues:
        """Quantize the bins of a histogram, or those of each channel.

        Raises
        ------
        CalibrationError
            If the parameters are by channel and the histograms are not, or their numbers
            of channels differ.
        """
        if params.axis is None:
            histogram = seen.histogram if isinstance(seen, ChannelStats) else seen
            return cls._of_grid(histogram, params)
        scales = np.asarray(params.scale)
        if not isinstance(seen, ChannelStats):
            msg = (
                f"the parameters have {len(scales)} channels, but the histogram is of the "
                "whole tensor; give the statistics by channel"
            )
            raise CalibrationError(msg)
        if len(seen) != len(scales):
            msg = (
                f"the parameters have {len(scales)} channels, but the statistics have "
                f"{len(seen)}; give those of one tensor"
            )
            raise CalibrationError(msg)
        parts = [
            cls._of_grid(seen.channel(k), _channel(params, k)) for k in range(len(seen))
        ]
        fields = ("values", "counts", "quantized", "levels", "clipped")
        return cls(
            *(np.concatenate([getattr(p, field) for p in parts]) for field in fields)
        )

    @classmethod
    def _of_grid(cls, histogram: Histogram, params: QuantParams) -> BinnedValues:
        low, high, counts = histogram.bins()
        values = (low + high) / 2
        quantized = params.fake_quantize(values.astype(np.float32)).astype(np.float64)
        steps = quantized / float(params.scale)
        return cls(
            values=values,
            counts=counts.astype(np.float64),
            quantized=quantized,
            levels=np.round(steps / _SMALLEST_LEVEL) * _SMALLEST_LEVEL,
            clipped=(values < float(params.low)) | (values > float(params.high)),
        )

    @property
    def squares(self) -> Floats:
        """The squares of all values, summed by bin."""
        return self.counts * np.square(self.values)

    @property
    def errors(self) -> Floats:
        """The squared errors of all values, summed by bin."""
        return self.counts * np.square(self.values - self.quantized)

    @property
    def relative_error(self) -> float:
        """The squared error over the squares; 0 without values other than 0."""
        power = float(self.squares.sum())
        return float(self.errors.sum()) / power if power else 0.0

    @property
    def clipping_share(self) -> float:
        """The part of the squared error that clipping makes; rounding makes the rest."""
        whole = float(self.errors.sum())
        return float(self.errors[self.clipped].sum()) / whole if whole else 0.0

    def magnitudes(self) -> tuple[Floats, Floats]:
        """Return the magnitudes of the values other than 0, rising, and their counts."""
        magnitudes = np.abs(self.values)
        order = np.argsort(magnitudes, kind="stable")
        order = order[magnitudes[order] > 0]
        return magnitudes[order], self.counts[order]


def relative_error(values: NDArray[np.float32], params: QuantParams) -> float:
    """Return the squared error of an array's codes over its squares.

    Parameters
    ----------
    values
        The array, such as the weights of a layer; float32, any shape.
    params
        Its grid, of the whole array or by channel.

    Returns
    -------
    0 for an array of zeros. -10 log10 of it is the SQNR in decibels.
    """
    exact = np.asarray(values, np.float64)
    power = float(np.square(exact).sum())
    error = np.square(exact - params.fake_quantize(values)).sum()
    return float(error) / power if power else 0.0


def _channel(params: QuantParams, channel: int) -> QuantParams:
    fields = (params.scale, params.zero_point, params.low, params.high)
    scale, zero_point, low, high = (np.asarray(field)[channel] for field in fields)
    return QuantParams(
        float(scale),
        int(zero_point),
        float(low),
        float(high),
        params.format,
        params.symmetric,
    )
