"""Numbers and names in tables, pictures and messages."""

from __future__ import annotations

import math
from collections.abc import Sequence

NONE = "–"
"""The cell of a missing value."""

_SHOWN_BITS = 256  # 78 digits


def real(value: float | None) -> str:
    """Return a real number with three digits."""
    return NONE if value is None else f"{value:.3g}"


def shown(value: object, max_length: int | None = None) -> str:
    """Return the value of an argument as errors show it, cut to a length.

    Python refuses to write whole numbers of more than 4300 digits, also inside lists. The
    engine shows numbers in the same way.
    """
    if isinstance(value, int) and value.bit_length() > _SHOWN_BITS:
        sign = "a negative" if value < 0 else "a"
        return f"{sign} number of {value.bit_length()} bits"
    try:
        return repr(value)[:max_length]
    except ValueError:
        return f"a {type(value).__name__} that holds a number of too many digits"


def exact(value: float) -> str:
    """Return a real number with six digits, or with all if it has more."""
    short = f"{value:g}"
    return short if float(short) == value else repr(float(value))


def share(part: float) -> str:
    """Return a share of 0 to 1 in percent; only 0 is written as 0 %."""
    percent = 100 * part
    if percent in (0, 100):
        return f"{percent:.0f} %"
    if percent < 0.001:
        return "<0.001 %"
    if 99.9 < percent < 100:
        return ">99.9 %"
    digits = 3 if percent < 1 else 2 if percent < 10 else 1
    return f"{percent:.{digits}f} %"


def decibels(value: float) -> str:
    """Return a signal-to-noise ratio."""
    return "exact" if value == math.inf else f"{value:.1f} dB"


def amount(count: int) -> str:
    """Return a count, from ten thousand on in thousands, millions, …: "65.5K"."""
    if count < 10_000:
        return str(count)
    value = float(count)
    for unit in "KMGTPE":
        value /= 1000
        if value < 999.5 or unit == "E":
            break
    return f"{value:.3g}{unit}"


def plural(count: int, noun: str) -> str:
    """Return a count with its noun: "1 tensor", "2 tensors"."""
    return f"{count:,} {noun}" + ("" if count == 1 else "s")


def shorten(names: Sequence[str], width: int) -> list[str]:
    """Cut names to a width so that as many as possible stay distinct.

    Each loses a piece at the same place. It is the place nearest to the middle that leaves the
    most names distinct, so that "/model/layers.11/mlp/MatMul_output_0" keeps its layer.

    Parameters
    ----------
    names
        All that are shown together.
    width
        Characters, 3 or more. Names that fit are left whole.
    """
    if all(len(name) <= width for name in names):
        return list(names)
    middle = (width - 1) // 2
    heads = sorted(range(1, width), key=lambda head: abs(head - middle))
    best: list[str] = []
    distinct = 0
    for head in heads:
        cut = [_cut(name, width, head) for name in names]
        if len(set(cut)) > distinct:
            best, distinct = cut, len(set(cut))
        if distinct == len(set(names)):
            break
    return best


def _cut(name: str, width: int, head: int) -> str:
    if len(name) <= width:
        return name
    return f"{name[:head]}…{name[len(name) - (width - 1 - head) :]}"
