"""`diagnose`: why a range loses a tensor's accuracy, in words with their figures.

Everything comes from histograms that were recorded anyway. No model runs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

import numpy as np

from quantcal._core import ChannelStats, Histogram, TensorStats
from quantcal._text import plural, share
from quantcal.advice.grid_errors import BinnedValues
from quantcal.advice.sample_growth import range_growth
from quantcal.channels import Channels
from quantcal.formats import QuantFormat
from quantcal.params import QuantParams

Kind: TypeAlias = Literal[
    "massive activation",
    "outlier channels",
    "dense near zero",
    "long tail",
    "clipping",
    "too few samples",
    "16-bit overflow",
    "weights",
]

BULK = 0.999
"""The share of the values that counts as the bulk. Sun et al. (2024) find a handful of massive
activations among some 40,000 values of a token's window; a thousandth is far above that."""

MASSIVE = 50.0
"""A value this many times the bulk's largest is massive. With 8 bits the bulk keeps 5 codes
or fewer. The maximum of a Gauss or Laplace distribution is 2 to 3 times this quantile."""

OUTLIER_CHANNEL = 8.0
"""A channel with this many times the median channel's maximum is an outlier. It takes 3 of
8 bits from the median channel. Channels of like distributions differ by less than 2."""

MOST = 0.9
"""The share of a channel's values that is compared where a few massive values set maxima."""

FEW_CHANNELS = 1 / 16
"""Outliers are at most this share of the channels, or one. If more channels are large, the
median is no measure of the others."""

DENSE = 0.75
"""Two codes that hold this share of the values tell little about them. Of a Gauss distribution
on 4 bits the two fullest codes hold less than half."""

DENSE_LOSS = 0.1
"""These values must lose a tenth of their squares (10 dB). Values that lie on two codes, such
as 0 and 1, lose nothing."""

LONG_TAIL = 20.0
"""Kurtosis. Gauss has 3, Laplace 6, the product of two Gauss variables 9. Above 20 no range
of 8 bits reaches 30 dB without clipping."""

CLIPPED = 0.8
"""Clipping that makes this share of the error: a wider range would lose less. At the minimum
of the squared error, clipping makes less than half of it."""

NOTICEABLE = 1e-3
"""A squared error below this share of the squares (30 dB) rarely changes a model's result."""

GROWTH = 0.1
"""A range that grows by a tenth with the second half of the samples needs more of them. It is
the tolerance of `check_stability`; maxima of a Laplace distribution grow by some 5 %."""

OVERFLOW = 1e-5
"""One wrong sum in 100,000. An output of 1000 pairs then has a wrong sum in a hundred."""


@dataclass(frozen=True)
class Diagnosis:
    """One reason why a tensor loses accuracy.

    Parameters
    ----------
    kind
        "massive activation", "outlier channels", "dense near zero", "long tail", "clipping",
        "too few samples", "16-bit overflow" or "weights".
    figure
        What was compared with the limit of this kind:

        * massive activation: the largest magnitude over that of the bulk
        * outlier channels: the largest channel's maximum over the median channel's
        * dense near zero: the share of the values other than 0 on one or two codes
        * long tail: the kurtosis
        * clipping: the share of the error that clipping makes
        * too few samples: the share of the range that the second half of them adds
        * 16-bit overflow: the share of the sums that overflow
        * weights: their squared error over their squares
    text
        The reason in words, with its figures.
    """

    kind: Kind
    figure: float
    text: str


def diagnose(
    seen: Histogram | TensorStats | ChannelStats,
    params: QuantParams,
    *,
    channels: ChannelStats | Channels | None = None,
    weight: float | None = None,
    samples: int | None = None,
    overflow: float | None = None,
) -> tuple[Diagnosis, ...]:
    """Return the reasons why a range loses a tensor's accuracy.

    Parameters
    ----------
    seen
        What was observed of the tensor, as `Calibrator.stats` returns it. A `Histogram` has
        no extremes of single observations, so it cannot show whether samples are too few.
    params
        The range that was chosen. With a range for each channel, the statistics must be by
        channel, and only clipping, density, overflow and weights are examined.
    channels
        The tensor by channel, to find outlier channels. None takes `seen`, if it is by channel.
    weight
        The squared error of the weights' codes over their squares; `relative_error` computes
        it.
    samples
        The number of samples that were observed. None takes the number of observations.
    overflow
        The share of sums of two products that saturate in 16 bits, 0 to 1: `share` of
        :func:`quantcal.onnx.find_saturation`.

    Returns
    -------
    In the order of `Diagnosis.kind`; empty if nothing was found. Text is for users, `kind` and
    `figure` for programs.

    Raises
    ------
    TypeError
        If the statistics are of another type.
    CalibrationError
        If the parameters are by channel and the statistics are not, or differ in channels.

    Notes
    -----
    Massive activations: Sun et al., "Massive Activations in Large Language Models", 2024.
    Outlier channels: Xiao et al., "SmoothQuant", 2023, section 3.
    """
    if not isinstance(seen, (Histogram, TensorStats, ChannelStats)):
        msg = f"statistics must be those of a calibrator, not {type(seen).__name__}"
        raise TypeError(msg)
    histogram = seen if isinstance(seen, Histogram) else seen.histogram
    of_channels = channels.stats if isinstance(channels, Channels) else channels
    if of_channels is None and isinstance(seen, ChannelStats):
        of_channels = seen
    binned = BinnedValues.of(
        seen if isinstance(seen, ChannelStats) else histogram, params
    )
    found = [_dense_near_zero(binned, params), _clipping(binned)]
    if params.axis is None:
        # Either of the first two explains a long tail.
        massive = _massive_activation(binned, params)
        tail = massive, _outlier_channels(of_channels, massive is not None)
        if not any(tail):
            found.append(_long_tail(histogram, binned))
        found += [*tail, _few_samples(seen, params, samples)]
    found += [_overflow(overflow), _weights(weight, binned)]
    order = get_args(Kind)
    made = [each for each in found if each is not None]
    return tuple(sorted(made, key=lambda each: order.index(each.kind)))


def _massive_activation(binned: BinnedValues, params: QuantParams) -> Diagnosis | None:
    magnitudes, counts = binned.magnitudes()
    if not len(counts):
        return None
    below = np.cumsum(counts)
    bulk = float(magnitudes[np.searchsorted(below, BULK * below[-1])])
    largest = float(magnitudes[-1])
    if largest <= MASSIVE * bulk:
        return None
    # The two sizes lie far apart, so their geometric mean divides them.
    large = magnitudes > (largest * bulk) ** 0.5
    number = int(counts[large].sum())
    smallest = _round_down(float(magnitudes[large][0]))
    inside = np.abs(binned.values) <= bulk
    codes = len(np.unique(binned.levels[inside]))
    bits = QuantFormat(params.format).bits
    width = max(float(params.high), -float(params.low))
    holds = width >= largest / 2
    what = "hold the range" if holds else f"are clipped to {_number(width)}"
    if number == 1:
        what = what.replace("hold", "holds").replace("are", "is")
    text = (
        f"{plural(number, 'value')} above {_number(smallest)} {what}: "
        f"{100 * BULK:.3g} % lie below {_number(bulk)}; {bits} bits leave "
        f"{plural(codes, 'code')} for them"
    )
    return Diagnosis("massive activation", largest / bulk, text)


def _outlier_channels(channels: ChannelStats | None, massive: bool) -> Diagnosis | None:
    if channels is None or len(channels) < 2:
        return None
    largest = np.fmax(np.abs(channels.min), np.abs(channels.max)).astype(np.float64)
    if massive:  # A channel with a few massive values is none for all other values.
        each = (channels.channel(k) for k in range(len(channels)))
        largest = np.array([c.abs_quantile(MOST) or 0.0 for c in each])
    known = np.nan_to_num(largest)
    median = float(np.median(known))
    if not median:
        return None
    outliers = np.flatnonzero(known > OUTLIER_CHANNEL * median)
    if not 0 < len(outliers) <= max(1, FEW_CHANNELS * len(known)):
        return None
    first = outliers[np.argsort(-known[outliers], kind="stable")]
    figure = float(known[first[0]]) / median
    named = ", ".join(str(k) for k in first[:3]) + (", …" if len(first) > 3 else "")
    text = (
        f"{len(first)} of {plural(len(known), 'channel')} ({named}) reach "
        f"{_number(known[first[0]])}: the median channel reaches {_number(median)}"
    )
    return Diagnosis("outlier channels", figure, text)


def _dense_near_zero(binned: BinnedValues, params: QuantParams) -> Diagnosis | None:
    used = binned.values != 0
    counts, squares = binned.counts[used], binned.squares[used]
    levels, errors = binned.levels[used], binned.errors[used]
    number = counts.sum()
    if not number:
        return None
    codes, places = np.unique(levels, return_inverse=True)
    shares = np.bincount(places, counts) / number
    fullest = np.argsort(-shares, kind="stable")[:2]
    if shares[fullest[0]] >= DENSE:
        fullest = fullest[:1]
    held = float(shares[fullest].sum())
    among = np.isin(places, fullest)
    lost = errors[among].sum() / squares[among].sum()
    if held < DENSE or lost < DENSE_LOSS:
        return None
    zero = float(shares[codes == 0].sum())
    all_codes = 2 ** QuantFormat(params.format).bits
    text = (
        f"{share(held)} of the values lie on {len(fullest)} of {all_codes:,} codes; "
        f"{share(zero)} round to zero"
    )
    return Diagnosis("dense near zero", held, text)


def _long_tail(histogram: Histogram, binned: BinnedValues) -> Diagnosis | None:
    kurtosis = histogram.kurtosis()
    if kurtosis is None or not kurtosis > LONG_TAIL:
        return None
    if binned.relative_error < NOTICEABLE:  # such as many zeros, which lose nothing
        return None
    clipping = binned.clipping_share
    text = (
        f"kurtosis {_number(kurtosis)} (Gauss: 3): clipping makes {share(clipping)} of the "
        f"error, rounding {share(1 - clipping)}"
    )
    return Diagnosis("long tail", float(kurtosis), text)


def _clipping(binned: BinnedValues) -> Diagnosis | None:
    clipping = binned.clipping_share
    if clipping < CLIPPED or binned.relative_error < NOTICEABLE:
        return None
    part = float(binned.counts[binned.clipped].sum() / binned.counts.sum())
    text = (
        f"the range clips {share(part)} of the values, which makes {share(clipping)} of the "
        "error; a wider range loses less"
    )
    return Diagnosis("clipping", clipping, text)


def _few_samples(
    seen: Histogram | TensorStats | ChannelStats,
    params: QuantParams,
    samples: int | None,
) -> Diagnosis | None:
    if samples == 1:
        return Diagnosis("too few samples", 1.0, "the range comes from a single sample")
    if not isinstance(seen, TensorStats):
        return None
    growth = range_growth(seen, params)
    if growth is None or growth <= GROWTH:
        return None
    if seen.observations == 1:
        if samples is not None:  # of several samples at once
            return None
        return Diagnosis(
            "too few samples", 1.0, "the range comes from a single observation"
        )
    number = seen.observations if samples is None else samples
    text = (
        f"the second half of {plural(number, 'sample')} adds {share(growth)} of the range; "
        "more samples would widen it further"
    )
    return Diagnosis("too few samples", growth, text)


def _overflow(overflow: float | None) -> Diagnosis | None:
    if overflow is None or not overflow > OVERFLOW:
        return None
    text = (
        f"{share(overflow)} of the sums of two products overflow 16 bits on processors "
        "without VNNI"
    )
    return Diagnosis("16-bit overflow", float(overflow), text)


def _weights(weight: float | None, binned: BinnedValues) -> Diagnosis | None:
    of_activation = binned.relative_error
    if weight is None or not weight > max(of_activation, NOTICEABLE):
        return None
    decibels = -10 * np.log10(weight)
    text = f"the weights lose more than the activation: {decibels:.1f} dB remain"
    if of_activation:
        text += f", {-10 * np.log10(of_activation):.1f} dB of the activation"
    return Diagnosis("weights", float(weight), text)


def _round_down(value: float) -> float:
    """Return a positive number cut to two digits."""
    unit = 10.0 ** (np.floor(np.log10(value)) - 1)
    return float(np.floor(value / unit) * unit)


def _number(value: float) -> str:
    """Return a number of three digits, without an exponent where it can be read."""
    text = f"{value:.3g}"
    return f"{float(text):,.12g}" if 1e-4 <= abs(value) < 1e9 else text
