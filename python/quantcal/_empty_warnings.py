"""Warnings about tensors and channels without a finite value: no data supports their ranges."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence

import numpy as np

from quantcal import _core
from quantcal._statistics import Stats
from quantcal._text import plural
from quantcal.params import QuantParams
from quantcal.table import CalibrationTable

_MAX_NAMED = 5
_FIXED = "fixed"  # the strategy whose range never comes from data


def warn_of_empty(
    tensors: Mapping[str, Stats], table: CalibrationTable, stacklevel: int = 3
) -> None:
    """Warn of the tensors whose ranges come from no finite value, by name."""
    empty = []
    for name, params in table.items():
        stats = tensors[name]
        by_channel = isinstance(stats, _core.ChannelStats)
        if by_channel or table.report[name].min is None:
            why = _reason(stats, params)
            empty += [f'"{name}" ({why})'] if why else []
    if empty:
        have = "tensor has" if len(empty) == 1 else "tensors have"
        more = f" and {len(empty) - _MAX_NAMED} more" if len(empty) > _MAX_NAMED else ""
        msg = (
            f"{len(empty)} {have} no finite value, so no data supports the range: "
            f"{', '.join(empty[:_MAX_NAMED])}{more}."
        )
        warnings.warn(msg, UserWarning, stacklevel=stacklevel)


def warn_of_empty_values(
    stats: Stats, params: QuantParams, stacklevel: int = 3
) -> None:
    """Warn when the range of one array comes from no finite value."""
    why = _reason(stats, params)
    if why:
        msg = f"There is no finite value ({why}), so no data supports the range."
        warnings.warn(msg, UserWarning, stacklevel=stacklevel)


def _reason(stats: Stats, params: QuantParams) -> str:
    """Return what there is instead of finite values; empty if there are some."""
    if params.strategy.startswith(_FIXED):
        return ""
    if isinstance(stats, _core.ChannelStats):
        bare = np.flatnonzero(np.isnan(stats.min)).tolist()
        if 0 < len(bare) < len(stats):
            return f"{_listed(bare)} of {len(stats)}"
        if not bare:
            return ""
    h = stats.histogram
    if h.finite:
        return ""
    parts = {"NaN": h.nan, "infinite": h.posinf + h.neginf}
    found = " and ".join(f"{count:,} {what}" for what, count in parts.items() if count)
    return found or plural(0, "value")


def _listed(channels: Sequence[int]) -> str:
    head = ", ".join(map(str, channels[:_MAX_NAMED]))
    more = (
        f" and {len(channels) - _MAX_NAMED} more" if len(channels) > _MAX_NAMED else ""
    )
    return f"{'channel' if len(channels) == 1 else 'channels'} {head}{more}"
