"""Whether a change lowers a loss by enough."""

from __future__ import annotations

import math


def gains(before: float, after: float, share: float) -> bool:
    """Whether a loss falls by a share of itself; that of a metric may be below zero.

    Parameters
    ----------
    before, after : float
    share : float
        From 0 to 1. An infinite loss must become finite.
    """
    if not math.isfinite(before):
        return math.isfinite(after)
    return after < before and after <= before - share * abs(before)
