"""The formats that tensors were observed for, which a calibrator keeps beside its histograms.

Each tensor has a set of names. Merging unites the sets, so its order does not matter; a set of
several names is a question, which is put where the answer can be given.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from quantcal._core import CalibrationError
from quantcal._text import shown
from quantcal.formats import FORMATS, QuantFormat

Intended = dict[str, frozenset[str]]
"""Tensor → names of formats. Tensors that were observed for none are missing."""

DEFAULT = "int8"
"""The format of tensors that were observed for none: symmetric, which every runtime takes."""

_NONE: frozenset[str] = frozenset()


def pack(intended: Intended, names: Iterable[str]) -> dict[str, Any]:
    """Return the settings of a file; empty where no tensor has a format.

    "format" is what most tensors have, "formats" has the others by name.
    """
    found = {name: intended.get(name, _NONE) for name in sorted(names)}
    if not any(found.values()):
        return {}
    counts = Counter(found.values())
    usual = min(counts, key=lambda each: (-counts[each], sorted(each)))
    others = {name: sorted(each) for name, each in found.items() if each != usual}
    settings: dict[str, Any] = {"format": sorted(usual)}
    return settings | ({"formats": others} if others else {})


def unpack(usual: Any, others: Any, names: Iterable[str]) -> Intended:
    """Return what the settings of a file say; anything may stand there.

    Raises
    ------
    ValueError
        If they are not what `pack` returns.
    """
    if others is not None and not isinstance(others, dict):
        msg = f"formats is {shown(others, 60)}, but it must be a mapping of tensors"
        raise ValueError(msg)
    given = {name: _formats(each, name) for name, each in (others or {}).items()}
    default = _NONE if usual is None else _formats(usual, "format")
    known = list(names)
    strange = sorted(given.keys() - set(known))
    if strange:
        msg = f'formats names "{strange[0]:.60}", of which there is no histogram'
        raise ValueError(msg)
    found = {name: given.get(name, default) for name in known}
    return {name: each for name, each in found.items() if each}


def united(first: Intended, second: Mapping[str, frozenset[str]]) -> Intended:
    """Return what both say together."""
    return first | {name: first.get(name, _NONE) | s for name, s in second.items() if s}


def chosen(
    intended: Intended,
    names: Iterable[str],
    format: str | QuantFormat | None,
    symmetric: bool | None,
    power_of_two: bool | None,
) -> dict[str, QuantFormat]:
    """Return the format of each tensor: the one given, or the one it was observed for.

    Raises
    ------
    CalibrationError
        If a tensor was observed for several formats and none is given, or the format or the
        scaling is not known.
    """
    if format is not None:
        same = QuantFormat.of(format, symmetric, power_of_two)
        return dict.fromkeys(names, same)
    made: dict[str, QuantFormat] = {}
    found = {}
    for name in names:
        several = intended.get(name, _NONE)
        if len(several) > 1:
            listed = " and for ".join(sorted(several))
            msg = (
                f'Tensor "{name}" was observed for {listed}; give the format '
                "(format=, on the command line --format)."
            )
            raise CalibrationError(msg)
        text = next(iter(several), DEFAULT)
        if text not in made:
            made[text] = QuantFormat.of(text, symmetric, power_of_two)
        found[name] = made[text]
    return found


def _formats(given: Any, where: str) -> frozenset[str]:
    if not isinstance(given, list) or not all(each in FORMATS for each in given):
        msg = f'"{where:.60}" has {given!r:.60}, but it must be a list of known formats'
        raise ValueError(msg)
    return frozenset(given)
