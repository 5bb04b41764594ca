"""The formats that tensors were observed for, which a calibrator keeps beside its histograms.

Each tensor has a set of format names. Merging unites the sets, so its order does not matter.
A tensor with several formats needs `format=` when ranges are computed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from quantcal._core import CalibrationError
from quantcal._text import shown
from quantcal.formats import FORMATS, QuantFormat

TensorFormats = dict[str, frozenset[str]]
"""Names of formats by tensor. Tensors that were observed for no format are missing."""

DEFAULT = "int8"
"""The format of tensors that were observed for none; every runtime takes symmetric int8."""

_NONE: frozenset[str] = frozenset()


def pack(formats: TensorFormats, names: Iterable[str]) -> dict[str, Any]:
    """Return the settings of a file; empty where no tensor has a format.

    "format" holds the most frequent formats, "formats" the others by tensor.
    """
    found = {name: formats.get(name, _NONE) for name in sorted(names)}
    if not any(found.values()):
        return {}
    counts = Counter(found.values())
    usual = min(counts, key=lambda each: (-counts[each], sorted(each)))
    others = {name: sorted(each) for name, each in found.items() if each != usual}
    settings: dict[str, Any] = {"format": sorted(usual)}
    return settings | ({"formats": others} if others else {})


def unpack(usual: Any, others: Any, names: Iterable[str]) -> TensorFormats:
    """Return the formats that the settings of a file hold; the settings may be anything.

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


def unite(first: TensorFormats, second: Mapping[str, Iterable[str]]) -> TensorFormats:
    """Return the formats of both for each tensor."""
    new = {name: frozenset(given) for name, given in second.items()}
    return first | {name: first.get(name, _NONE) | s for name, s in new.items() if s}


def choose_formats(
    observed: Mapping[str, Iterable[str]],
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
        several = sorted(observed.get(name, _NONE))
        if len(several) > 1:
            msg = (
                f'Tensor "{name}" was observed for {" and for ".join(several)}; give the '
                "format (format=, on the command line --activation-type)."
            )
            raise CalibrationError(msg)
        text = several[0] if several else DEFAULT
        if text not in made:
            made[text] = QuantFormat.of(text, symmetric, power_of_two)
        found[name] = made[text]
    return found


def _formats(given: Any, where: str) -> frozenset[str]:
    if not isinstance(given, list) or not all(each in FORMATS for each in given):
        msg = f'"{where:.60}" has {given!r:.60}, but it must be a list of known formats'
        raise ValueError(msg)
    return frozenset(given)
