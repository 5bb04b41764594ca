"""Counting on the device that holds the data: only counts travel, and nobody waits for them.

The codes are the bits of float32 without the lowest: the engine's own (`src/float/code.rs`).
Whole tensors are counted in a table with a place for every code, tensors by channel as sorted
runs, of which there are at most as many as elements: so no size depends on the values, and no
call has to wait for the device. All arithmetic is on integers, whatever a device does to
subnormals. What arrives is equal to what the engine records, byte for byte.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from quantcal import CalibrationError, _core
from quantcal._decide import Stats

_NATIVE = {torch.float16: 10, torch.bfloat16: 7, torch.float32: 8, torch.float64: 8}
_BY_CHANNEL = 5
_MAGNITUDE = 0x7FFFFFFF
_INFINITY = 0x7F800000
_ZERO, _NAN, _POSINF, _NEGINF, _LEFT_OUT = range(5)  # places behind those of the codes


@dataclass
class Counted:
    """Counts of one observation, or of several, still on the device.

    `runs` are places with their counts, by channel; `table` is a count for every place.
    """

    mantissa_bits: int
    fixed: bool
    axis: int | None
    channels: int
    inexact: torch.Tensor
    """By channel, whether some finite value is not the edge of its bin."""
    low: torch.Tensor
    """By channel, the least finite value as its key; the largest int32 without one."""
    high: torch.Tensor
    table: torch.Tensor | None = None
    runs: list[tuple[torch.Tensor, torch.Tensor]] | None = None
    lows: list[torch.Tensor] | None = None
    """The extremes of each observation, of whole tensors."""
    highs: list[torch.Tensor] | None = None
    observations: int = 1

    @property
    def nbytes(self) -> int:
        """Bytes on the device."""
        tensors = [] if self.table is None else [self.table]
        tensors += [t for pair in self.runs or () for t in pair]
        return sum(t.numel() * t.element_size() for t in tensors)

    def fits(self, other: Counted) -> bool:
        """Whether another one can be added."""
        ours = (self.mantissa_bits, self.axis, self.channels, self.low.device)
        return ours == (
            other.mantissa_bits,
            other.axis,
            other.channels,
            other.low.device,
        )

    def copy(self) -> Counted:
        """Return a copy; only the table is ever changed in place."""
        table = None if self.table is None else self.table.clone()
        return replace(self, table=table)

    def add(self, other: Counted) -> None:
        """Add further observations, which may be used up by it."""
        self.inexact = self.inexact | other.inexact
        self.low = torch.minimum(self.low, other.low)
        self.high = torch.maximum(self.high, other.high)
        self.observations += other.observations
        if self.table is not None and other.table is not None:
            self.table += other.table
            self.lows = [*(self.lows or ()), *(other.lows or ())]
            self.highs = [*(self.highs or ()), *(other.highs or ())]
        else:
            self.runs = [*(self.runs or ()), *(other.runs or ())]

    def fetch(self) -> Stats:
        """Return what the engine would have recorded; waits for the device."""
        if self.axis is not None:
            histograms = list(self._histograms())
            return _core.ChannelStats.from_counts(
                self.axis, histograms, self.observations
            )
        (histogram,) = self._histograms()
        minima, maxima = (
            _histogram_of_keys(torch.stack(keys or []))
            for keys in (self.lows, self.highs)
        )
        return _core.TensorStats.from_counts(
            histogram, self.observations, minima, maxima
        )

    def _histograms(self) -> Iterator[_core.Histogram]:
        size = _places(self.mantissa_bits)
        places, counts = self._non_empty()
        ends = np.searchsorted(places, np.arange(self.channels + 1) * size)
        inexact = self.inexact.cpu().numpy()
        low, high = (_as_floats(keys) for keys in (self.low, self.high))
        for channel in range(self.channels):
            of_channel = slice(ends[channel], ends[channel + 1])
            yield _histogram(
                self.mantissa_bits,
                places[of_channel] - channel * size,
                counts[of_channel],
                extremes=(float(low[channel]), float(high[channel])),
                exact=not inexact[channel],
                fixed=self.fixed,
            )

    def _non_empty(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the places that were counted, rising, with their counts."""
        if self.table is not None:
            places = self.table.nonzero().squeeze(1)
            return places.cpu().numpy(), self.table[places].cpu().numpy()
        found = []
        for places, counts in self.runs or ():
            filled = counts > 0
            found.append((places[filled], counts[filled]))
        all_places, of = torch.unique(
            torch.cat([p for p, _ in found]), return_inverse=True
        )
        total = torch.zeros_like(all_places)
        total.scatter_add_(0, of, torch.cat([c for _, c in found]))
        return all_places.cpu().numpy(), total.cpu().numpy()


def count(
    tensor: torch.Tensor,
    keep: torch.Tensor | None,
    axis: int | None,
    mantissa_bits: int | None,
) -> Counted:
    """Count a tensor where it is; returns at once.

    Parameters
    ----------
    tensor
        Dense, of floats, without gradient; on any device.
    keep
        Which of the positions along the leading axes count; None for all.
    axis, mantissa_bits
        As for a `Calibrator`.

    Raises
    ------
    TypeError
        If the elements are no floats.
    CalibrationError
        If the tensor has no such axis.
    """
    if tensor.dtype not in _NATIVE:
        msg = (
            f"elements of type {tensor.dtype} cannot be read; quantcal takes float16, "
            "bfloat16, float32 and float64"
        )
        raise TypeError(msg)
    natural = _NATIVE[tensor.dtype] if axis is None else _BY_CHANNEL
    bits = natural if mantissa_bits is None else mantissa_bits
    words = _by_channel(_words(tensor), axis)
    channels = words.shape[0]
    kept = None
    if keep is not None:
        missing = tensor.ndim - keep.ndim
        spread = keep.reshape(*keep.shape, *[1] * missing).expand(tensor.shape)
        kept = _by_channel(spread, axis)
    magnitude = words & _MAGNITUDE
    finite = magnitude < _INFINITY
    if kept is not None:
        finite = finite & kept
    keys = torch.where(words < 0, -magnitude, magnitude)
    ends = _ends(keys, finite)
    dropped = (magnitude & ((1 << (23 - bits)) - 1)) != 0
    places = _places_of(words, magnitude, kept, bits)
    counted = Counted(
        mantissa_bits=bits,
        fixed=axis is not None or mantissa_bits is not None,
        axis=axis,
        channels=channels,
        inexact=(dropped & finite).any(1),
        low=ends[0],
        high=ends[1],
    )
    if axis is None:
        table = torch.zeros(_places(bits), dtype=torch.int64, device=tensor.device)
        ones = torch.ones((), dtype=torch.int64, device=tensor.device)
        counted.table = table.scatter_add_(0, places[0], ones.expand(places[0].shape))
        counted.lows, counted.highs = [ends[0][0]], [ends[1][0]]
    else:
        first = torch.arange(channels, device=tensor.device) * _places(bits)
        counted.runs = [_runs((places + first[:, None]).flatten())]
    return counted


def _places(mantissa_bits: int) -> int:
    """Return how many places there are: one for each code, and five more."""
    return (512 << mantissa_bits) + 5


def _words(tensor: torch.Tensor) -> torch.Tensor:
    """Return the bits of the values as float32, which holds all 16-bit ones."""
    if tensor.dtype == torch.bfloat16:
        return tensor.contiguous().view(torch.int16).to(torch.int32) << 16
    return tensor.to(torch.float32).contiguous().view(torch.int32)


def _by_channel(values: torch.Tensor, axis: int | None) -> torch.Tensor:
    """Return the values as [channels, elements]."""
    if axis is None:
        return values.reshape(1, -1)
    if not -values.ndim <= axis < values.ndim or not values.shape[axis]:
        empty = np.empty(tuple(values.shape), dtype=np.float32)
        _core.ChannelStats(axis).observe(empty)  # refuses
    return values.movedim(axis, 0).reshape(values.shape[axis], -1)


def _ends(
    keys: torch.Tensor, finite: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the least and the greatest key of each row; crossed if there is none."""
    limits = torch.iinfo(torch.int32)
    if not keys.shape[1]:
        full = keys.new_full((keys.shape[0],), limits.max)
        return full, full.neg()
    low = torch.where(finite, keys, limits.max).amin(1)
    return low, torch.where(finite, keys, -limits.max).amax(1)


def _places_of(
    words: torch.Tensor,
    magnitude: torch.Tensor,
    kept: torch.Tensor | None,
    mantissa_bits: int,
) -> torch.Tensor:
    codes = 512 << mantissa_bits
    # An int32 shifts its sign along: the code of a negative value gets its bit back.
    code = (words >> (23 - mantissa_bits)) & (codes - 1)
    code = torch.where(magnitude == 0, codes + _ZERO, code)
    infinite = torch.where(words < 0, codes + _NEGINF, codes + _POSINF)
    code = torch.where(magnitude == _INFINITY, infinite.to(code.dtype), code)
    code = torch.where(magnitude > _INFINITY, codes + _NAN, code)
    if kept is not None:
        code = torch.where(kept, code, codes + _LEFT_OUT)
    return code.to(torch.int64)


def _runs(places: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the distinct places and their counts, with counts of 0 to fill up."""
    ordered = places.sort().values
    first = torch.ones_like(ordered, dtype=torch.bool)
    first[1:] = ordered[1:] != ordered[:-1]
    number = first.cumsum(0) - 1
    counts = torch.zeros_like(ordered).scatter_add_(0, number, torch.ones_like(ordered))
    return torch.zeros_like(ordered).scatter_(0, number, ordered), counts


def _as_floats(keys: torch.Tensor) -> NDArray[np.float32]:
    """Turn keys back into the values, of which -0 is 0."""
    numbers: NDArray[np.int32] = keys.cpu().numpy()
    bits: NDArray[np.uint32] = np.abs(numbers).astype(np.uint32)
    bits |= np.where(numbers < 0, np.uint32(1 << 31), np.uint32(0))
    return bits.view(np.float32)


def _histogram(
    mantissa_bits: int,
    places: NDArray[np.int64],
    counts: NDArray[np.int64],
    *,
    extremes: tuple[float, float],
    exact: bool,
    fixed: bool,
) -> _core.Histogram:
    codes = 512 << mantissa_bits
    of_codes = places < codes
    beside = dict.fromkeys(range(5), 0) | dict(
        zip(
            (places[~of_codes] - codes).tolist(),
            counts[~of_codes].tolist(),
            strict=True,
        )
    )
    has_values = bool(of_codes.any()) or beside[_ZERO] > 0
    return _core.histogram_from_counts(
        mantissa_bits,
        places[of_codes].astype(np.uint64),
        counts[of_codes].astype(np.uint64),
        (beside[_ZERO], beside[_NAN], beside[_POSINF], beside[_NEGINF]),
        extremes if has_values else None,
        exact=exact,
        fixed=fixed,
    )


def _histogram_of_keys(keys: torch.Tensor) -> _core.Histogram:
    """Count the extremes of observations, those without a finite value left out."""
    sentinel = torch.iinfo(torch.int32).max
    numbers = keys.cpu()
    numbers = numbers[numbers.abs() != sentinel]
    histogram = _core.Histogram()
    if numbers.numel():
        histogram.observe(_as_floats(numbers))
    return histogram


def check_finite(name: str, stats: Stats) -> None:
    """Refuse statistics with values that are not finite."""
    histogram = stats.histogram
    if histogram.finite == histogram.count:
        return
    msg = (
        f'Tensor "{name}" has {histogram.nan} NaN, {histogram.posinf} +inf and '
        f"{histogram.neginf} -inf among {histogram.count} values; "
        'on_nonfinite="ignore" would count them and leave them out.'
    )
    raise CalibrationError(msg)
