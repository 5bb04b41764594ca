"""Checks the arguments of `quantcal.torch.observe`, before any hook is attached."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from torch import nn

from quantcal._core import CalibrationError
from quantcal._plain_values import as_whole
from quantcal._text import shown
from quantcal.calibrator import Calibrator


def check_axis(option: str, value: object) -> int | None:
    """Return the axis of the channels as an int; None stays None."""
    axis = None if value is None else as_whole(value)
    if axis is None and value is not None:
        msg = (
            f"{option} is {shown(value)}. Give the number of an axis, such as -1 for the "
            "last, or None for one histogram a tensor."
        )
        raise CalibrationError(msg)
    return axis


def check_flags(flags: Mapping[str, object]) -> None:
    """Refuse what is neither True nor False, which would count as one of them."""
    for option, value in flags.items():
        if not isinstance(value, bool):
            msg = f"{option} is {shown(value)}. Give True or False."
            raise CalibrationError(msg)


def check_calibrator(value: object) -> None:
    """Refuse what is no calibrator."""
    if value is not None and not isinstance(value, Calibrator):
        msg = f"calibrator is {shown(value)}. Give a quantcal.Calibrator, or None."
        raise CalibrationError(msg)


def check_types(value: object) -> tuple[type[nn.Module], ...]:
    """Return the types of modules as a tuple."""
    types = tuple(value) if isinstance(value, Iterable) else ()
    if not types or not all(isinstance(each, type) for each in types):
        msg = (
            f"modules is {shown(value)}. Give types of modules, such as "
            "(torch.nn.Linear,)."
        )
        raise CalibrationError(msg)
    return types
