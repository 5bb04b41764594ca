"""The formats that can be calibrated for, and how each is scaled unless told otherwise."""

from __future__ import annotations

from quantcal._core import CalibrationError

# Symmetric scaling keeps zero at code 0, which signed kernels want; unsigned codes would
# lose half of their range to it.
SYMMETRIC_BY_DEFAULT = {"int8": True, "uint8": False}


def resolve(format: str, symmetric: bool | None) -> tuple[str, bool]:
    """Check a format's name and settle its scaling.

    Parameters
    ----------
    format
        "int8" or "uint8".
    symmetric
        None for the format's own default: symmetric for int8, affine for uint8.

    Raises
    ------
    CalibrationError
        If the format is not known; the message lists those that are.
    """
    default = SYMMETRIC_BY_DEFAULT.get(format)
    if default is None:
        known = ", ".join(SYMMETRIC_BY_DEFAULT)
        msg = f'Format "{format}" is not known. Known formats: {known}.'
        raise CalibrationError(msg)
    return format, default if symmetric is None else bool(symmetric)
