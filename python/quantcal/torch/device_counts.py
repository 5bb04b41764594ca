"""Counts a tensor on the device that holds it, so that only counts are transferred.

The codes are those of the engine: the bits of float32 without the lowest ones
(`src/float/code.rs`). A whole tensor is counted in a table with a slot for every code. A
tensor by channel is counted in sorted runs, of which there are at most as many as elements.
So no size depends on the values, and no call waits for the device. All arithmetic is on
integers, so that a device cannot flush subnormals. The result equals what the engine records,
byte for byte.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from quantcal import _core
from quantcal._core import CalibrationError
from quantcal._statistics import Stats

_TENSOR_BITS = {
    torch.float16: 10,
    torch.bfloat16: 7,
    torch.float32: 8,
    torch.float64: 8,
}
_CHANNEL_BITS = 5
_MAGNITUDE = 0x7FFFFFFF
_INFINITY = 0x7F800000
# The slots after those of the codes.
_ZERO, _NAN, _POSINF, _NEGINF, _MASKED = range(5)


@dataclass
class DeviceCounts:
    """Counts of one or more observations, still on the device.

    `runs` holds slots and their counts by channel; `table` holds a count for every slot.
    """

    mantissa_bits: int
    fixed: bool
    axis: int | None
    channels: int
    inexact: torch.Tensor
    """By channel, whether some finite value is not the edge of its bin."""
    low: torch.Tensor
    """By channel, the key of the minimum; the largest int32 if no value is finite."""
    high: torch.Tensor
    table: torch.Tensor | None = None
    runs: list[tuple[torch.Tensor, torch.Tensor]] | None = None
    lows: list[torch.Tensor] | None = None
    """The minimum of each observation of a whole tensor."""
    highs: list[torch.Tensor] | None = None
    """The maximum of each observation of a whole tensor."""
    observations: int = 1

    @property
    def nbytes(self) -> int:
        """Bytes on the device."""
        tensors = [] if self.table is None else [self.table]
        tensors += [t for pair in self.runs or () for t in pair]
        return sum(t.numel() * t.element_size() for t in tensors)

    def fits(self, other: DeviceCounts) -> bool:
        """Whether other counts can be added to these."""
        ours = (self.mantissa_bits, self.axis, self.channels, self.low.device)
        return ours == (
            other.mantissa_bits,
            other.axis,
            other.channels,
            other.low.device,
        )

    def copy(self) -> DeviceCounts:
        """Return a copy."""
        # Nothing but the table is changed in place.
        table = None if self.table is None else self.table.clone()
        return replace(self, table=table)

    def add(self, other: DeviceCounts) -> None:
        """Add the counts of other observations, which must not be used afterwards."""
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
        """Return what the engine would have recorded, after waiting for the device."""
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
        size = _num_slots(self.mantissa_bits)
        slots, counts = self._non_empty()
        bounds = np.searchsorted(slots, np.arange(self.channels + 1) * size)
        inexact = self.inexact.cpu().numpy()
        low, high = (_as_floats(keys) for keys in (self.low, self.high))
        for channel in range(self.channels):
            of_channel = slice(bounds[channel], bounds[channel + 1])
            yield _histogram(
                self.mantissa_bits,
                slots[of_channel] - channel * size,
                counts[of_channel],
                extremes=(float(low[channel]), float(high[channel])),
                exact=not inexact[channel],
                fixed=self.fixed,
            )

    def _non_empty(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the non-empty slots in rising order, with their counts."""
        if self.table is not None:
            slots = self.table.nonzero().squeeze(1)
            return slots.cpu().numpy(), self.table[slots].cpu().numpy()
        found = []
        for slots, counts in self.runs or ():
            filled = counts > 0
            found.append((slots[filled], counts[filled]))
        all_slots, number = torch.unique(
            torch.cat([p for p, _ in found]), return_inverse=True
        )
        total = torch.zeros_like(all_slots)
        total.scatter_add_(0, number, torch.cat([c for _, c in found]))
        return all_slots.cpu().numpy(), total.cpu().numpy()


def count_on_device(
    tensor: torch.Tensor,
    keep: torch.Tensor | None,
    axis: int | None,
    mantissa_bits: int | None,
) -> DeviceCounts:
    """Count a tensor on its device, without waiting for the device.

    Parameters
    ----------
    tensor
        A dense tensor of floats without gradient, on any device.
    keep
        A mask of the leading axes, true at the positions to count; None counts all.
    axis, mantissa_bits
        As for a `Calibrator`.

    Raises
    ------
    TypeError
        If the elements are no floats.
    CalibrationError
        If the tensor has no such axis.
    """
    if tensor.dtype not in _TENSOR_BITS:
        msg = (
            f"elements of type {tensor.dtype} cannot be read; quantcal takes float16, "
            "bfloat16, float32 and float64"
        )
        raise TypeError(msg)
    default = _TENSOR_BITS[tensor.dtype] if axis is None else _CHANNEL_BITS
    bits = default if mantissa_bits is None else mantissa_bits
    words = _as_channels(_float32_bits(tensor), axis)
    channels = words.shape[0]
    kept = None if keep is None else _as_channels(_expand(keep, tensor), axis)
    magnitude = words & _MAGNITUDE
    finite = magnitude < _INFINITY
    if kept is not None:
        finite = finite & kept
    keys = torch.where(words < 0, -magnitude, magnitude)
    low, high = _extremes(keys, finite)
    dropped = (magnitude & ((1 << (23 - bits)) - 1)) != 0
    slots = _slots_of(words, magnitude, kept, bits)
    counts = DeviceCounts(
        mantissa_bits=bits,
        fixed=axis is not None or mantissa_bits is not None,
        axis=axis,
        channels=channels,
        inexact=(dropped & finite).any(1),
        low=low,
        high=high,
    )
    if axis is None:
        table = torch.zeros(_num_slots(bits), dtype=torch.int64, device=tensor.device)
        ones = torch.ones((), dtype=torch.int64, device=tensor.device)
        counts.table = table.scatter_add_(0, slots[0], ones.expand(slots[0].shape))
        counts.lows, counts.highs = [low[0]], [high[0]]
    else:
        first = torch.arange(channels, device=tensor.device) * _num_slots(bits)
        counts.runs = [_runs((slots + first[:, None]).flatten())]
    return counts


def _num_slots(mantissa_bits: int) -> int:
    """Return the number of slots: one for each code, and five for the special values."""
    return (512 << mantissa_bits) + 5


def _float32_bits(tensor: torch.Tensor) -> torch.Tensor:
    """Return the bits of the values as float32, which holds all 16-bit floats exactly."""
    if tensor.dtype == torch.bfloat16:
        return tensor.contiguous().view(torch.int16).to(torch.int32) << 16
    return tensor.to(torch.float32).contiguous().view(torch.int32)


def _as_channels(values: torch.Tensor, axis: int | None) -> torch.Tensor:
    """Return the values as [channels, elements]."""
    if axis is None:
        return values.reshape(1, -1)
    if not -values.ndim <= axis < values.ndim or not values.shape[axis]:
        # The engine refuses such an axis, and its message names what is wrong.
        empty = np.empty(tuple(values.shape), dtype=np.float32)
        _core.ChannelStats(axis).observe(empty)
    return values.movedim(axis, 0).reshape(values.shape[axis], -1)


def _expand(keep: torch.Tensor, tensor: torch.Tensor) -> torch.Tensor:
    """Return a mask of leading axes in the shape of the tensor."""
    missing = tensor.ndim - keep.ndim
    return keep.reshape(*keep.shape, *[1] * missing).expand(tensor.shape)


def _extremes(
    keys: torch.Tensor, finite: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the minimum and maximum key of each row, in reverse order if it has none."""
    limits = torch.iinfo(torch.int32)
    if not keys.shape[1]:
        full = keys.new_full((keys.shape[0],), limits.max)
        return full, full.neg()
    low = torch.where(finite, keys, limits.max).amin(1)
    return low, torch.where(finite, keys, -limits.max).amax(1)


def _slots_of(
    words: torch.Tensor,
    magnitude: torch.Tensor,
    kept: torch.Tensor | None,
    mantissa_bits: int,
) -> torch.Tensor:
    """Return the slot of each value: its code, or one of the special slots."""
    codes = 512 << mantissa_bits
    # The shift of an int32 copies the sign, so the mask restores the bits of the code.
    code = (words >> (23 - mantissa_bits)) & (codes - 1)
    code = torch.where(magnitude == 0, codes + _ZERO, code)
    infinite = torch.where(words < 0, codes + _NEGINF, codes + _POSINF)
    code = torch.where(magnitude == _INFINITY, infinite.to(code.dtype), code)
    code = torch.where(magnitude > _INFINITY, codes + _NAN, code)
    if kept is not None:
        code = torch.where(kept, code, codes + _MASKED)
    return code.to(torch.int64)


def _runs(slots: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the distinct slots and their counts, padded with counts of 0."""
    ordered = slots.sort().values
    first = torch.ones_like(ordered, dtype=torch.bool)
    first[1:] = ordered[1:] != ordered[:-1]
    number = first.cumsum(0) - 1
    counts = torch.zeros_like(ordered).scatter_add_(0, number, torch.ones_like(ordered))
    return torch.zeros_like(ordered).scatter_(0, number, ordered), counts


def _as_floats(keys: torch.Tensor) -> NDArray[np.float32]:
    """Return the values of keys; -0 becomes 0."""
    numbers: NDArray[np.int32] = keys.cpu().numpy()
    bits: NDArray[np.uint32] = np.abs(numbers).astype(np.uint32)
    bits |= np.where(numbers < 0, np.uint32(1 << 31), np.uint32(0))
    return bits.view(np.float32)


def _histogram(
    mantissa_bits: int,
    slots: NDArray[np.int64],
    counts: NDArray[np.int64],
    *,
    extremes: tuple[float, float],
    exact: bool,
    fixed: bool,
) -> _core.Histogram:
    codes = 512 << mantissa_bits
    is_code = slots < codes
    specials = dict.fromkeys(range(5), 0) | dict(
        zip(
            (slots[~is_code] - codes).tolist(),
            counts[~is_code].tolist(),
            strict=True,
        )
    )
    has_values = bool(is_code.any()) or specials[_ZERO] > 0
    return _core.histogram_of_counts(
        mantissa_bits,
        slots[is_code].astype(np.uint64),
        counts[is_code].astype(np.uint64),
        (specials[_ZERO], specials[_NAN], specials[_POSINF], specials[_NEGINF]),
        extremes if has_values else None,
        exact=exact,
        fixed=fixed,
    )


def _histogram_of_keys(keys: torch.Tensor) -> _core.Histogram:
    """Return the histogram of the extremes of observations that have a finite value."""
    sentinel = torch.iinfo(torch.int32).max
    numbers = keys.cpu()
    numbers = numbers[numbers.abs() != sentinel]
    histogram = _core.Histogram()
    if numbers.numel():
        histogram.observe(_as_floats(numbers))
    return histogram


def check_finite(name: str, stats: Stats) -> None:
    """Refuse statistics with values that are not finite.

    Raises
    ------
    CalibrationError
        If there are any; names the tensor and their numbers.
    """
    histogram = stats.histogram
    if histogram.finite == histogram.count:
        return
    msg = (
        f'Tensor "{name}" has {histogram.nan} NaN, {histogram.posinf} +inf and '
        f"{histogram.neginf} -inf among {histogram.count} values; "
        'on_nonfinite="ignore" would count them but exclude them from every range.'
    )
    raise CalibrationError(msg)
