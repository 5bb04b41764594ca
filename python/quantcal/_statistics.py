"""The statistics of one tensor: adding an observation, and the checks before it."""

from __future__ import annotations

from typing import Any, NoReturn

import numpy as np

from quantcal import _core
from quantcal._core import CalibrationError
from quantcal._plain_values import as_whole
from quantcal._text import shown

Stats = _core.TensorStats | _core.ChannelStats
"""What a calibrator keeps of one tensor."""

_MAX_COUNT = (1 << 64) - 1


def new_stats(axis: int | None, mantissa_bits: int | None) -> Stats:
    """Return statistics without values, of a whole tensor or by channel."""
    if axis is None:
        return _core.TensorStats(mantissa_bits)
    return _core.ChannelStats(axis, mantissa_bits)


def add_observation(
    name: str, stats: Stats, values: Any, *, finite_only: bool, defer: bool = False
) -> Stats:
    """Add an observation to a tensor's statistics and return them.

    Parameters
    ----------
    name
        The tensor's name, for messages.
    stats
        Where the values are counted.
    values
        The array; see `Calibrator.observe`.
    finite_only
        Whether NaN and infinities are refused.
    defer
        Whether the statistics will be merged into others.

    Raises
    ------
    TypeError
        If the array has another element type, or is masked and observed by channel.
    CalibrationError
        If the array does not fit the axis, or a value is not finite.
    """
    by_channel = isinstance(stats, _core.ChannelStats)
    if by_channel and isinstance(values, np.ma.MaskedArray):
        msg = (
            f'Tensor "{name}": a masked array cannot be observed by channel; fill it, '
            "or observe it without axis"
        )
        raise TypeError(msg)
    try:
        if isinstance(stats, _core.ChannelStats):
            stats.observe(values, finite_only, defer=defer)
        else:
            stats.observe(values, finite_only)
    except (CalibrationError, TypeError) as error:
        raise_named(name, error, by_channel=by_channel)
    return stats


def raise_named(name: str, error: Exception, *, by_channel: bool = False) -> NoReturn:
    """Raise an error again, with the name of its tensor."""
    if not isinstance(error, _core.NonFiniteError):
        raise type(error)(f'Tensor "{name}": {error}') from error
    link = ", " if by_channel else " has "
    msg = (
        f'Tensor "{name}"{link}{error}; on_nonfinite="ignore" would count them '
        "and leave them out."
    )
    raise CalibrationError(msg) from None


def check_axis(name: str, stats: Stats, axis: int | None) -> None:
    """Refuse another axis than a tensor has; None is that of whole tensors."""
    have = stats.axis if isinstance(stats, _core.ChannelStats) else None
    if have == axis:
        if axis is not None and as_whole(axis) is None:  # True and 1.0 equal 1
            msg = f'Tensor "{name}": axis is {shown(axis, 40)}, which is not a whole number'
            raise TypeError(msg)
        return
    msg = (
        f'Tensor "{name}": axis is {shown(axis)}, but earlier observations had axis {have}; '
        "name the axis in the same way each time, or give the tensor another name"
    )
    raise CalibrationError(msg)


def check_mergeable(name: str, stats: Stats, part: Stats) -> None:
    """Refuse statistics along another axis, or of another number of channels."""
    if not isinstance(part, _core.ChannelStats):
        check_axis(name, stats, None)
        return
    check_axis(name, stats, part.axis)
    assert isinstance(stats, _core.ChannelStats)
    try:
        stats.check(part.axis, len(part))
    except CalibrationError as error:
        msg = f'Tensor "{name}": {error}'
        raise CalibrationError(msg) from None


def check_room(name: str, stats: Stats, values: int, observations: int) -> None:
    """Refuse more values than the counters can hold."""
    try:
        stats.check_room(min(values, _MAX_COUNT), min(observations, _MAX_COUNT))
    except CalibrationError as error:
        msg = f'Tensor "{name}": {error}'
        raise CalibrationError(msg) from None
