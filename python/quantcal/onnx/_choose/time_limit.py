"""Time limits: seconds that a caller allows, and what is left of them."""

from __future__ import annotations

import math
import time

from quantcal._core import CalibrationError
from quantcal._text import shown


def end_of(time_limit: float | None) -> float | None:
    """Return the time of ``time.monotonic`` at which a limit ends; None for no limit.

    Raises
    ------
    CalibrationError
        When it is not a number of seconds, 0 or more.
    """
    if time_limit is None:
        return None
    number = isinstance(time_limit, (int, float)) and not isinstance(time_limit, bool)
    if not number or not time_limit >= 0 or math.isinf(time_limit):
        raise CalibrationError(
            f"time_limit is {shown(time_limit)}. Give seconds, 0 or more, or None for no "
            "limit."
        )
    return time.monotonic() + time_limit


def time_left(until: float | None) -> float | None:
    """Return the seconds until then, at least 0; None for no limit."""
    return None if until is None else max(0.0, until - time.monotonic())


def is_late(until: float | None) -> bool:
    """Whether a time of ``time.monotonic`` has passed; never without a limit."""
    return until is not None and time.monotonic() >= until
