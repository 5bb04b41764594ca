"""Names of tensors."""

from __future__ import annotations

from quantcal._core import CalibrationError
from quantcal._meant import swap_hint


def check_name(name: object, values: object = None) -> None:
    """Refuse names that no file can hold.

    Parameters
    ----------
    name
        The name.
    values
        What was given as the tensor's values; text there means that both are swapped.

    Raises
    ------
    TypeError
        If it is not a str.
    CalibrationError
        If it holds half a surrogate pair.
    """
    if not isinstance(name, str):
        msg = f"a tensor's name must be a str, not {type(name).__name__}"
        msg += swap_hint(name, values)
        raise TypeError(msg)
    if not name.isascii() and any("\ud800" <= c <= "\udfff" for c in name):
        msg = f"the name {name!r} holds half a surrogate pair, which no file can hold"
        raise CalibrationError(msg)
