"""The JSON of measured times: how it is written, and how it is checked when it is read."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import MISSING, fields
from typing import Any, TypeVar

from quantcal._core import CalibrationError
from quantcal._io.json_text import parse_json

KIND = "quantcal node times"
_VERSION = 1

LARGEST = 1 << 28
"""The largest file that is read, in bytes: half a million nodes."""

_T = TypeVar("_T")


def text_of(content: dict[str, Any]) -> str:
    """Return the text that `content_of` reads."""
    whole = {"kind": KIND, "version": _VERSION, **content}
    return json.dumps(whole, indent=1, allow_nan=False, ensure_ascii=False) + "\n"


def content_of(data: bytes) -> dict[str, Any]:
    """Return the content of a file without its kind and version.

    Raises
    ------
    CalibrationError
        If the data is anything else, or from a newer version.
    """
    try:
        content = parse_json(data.decode())
    except ValueError as error:
        raise CalibrationError(f"not a file of times: {error}") from error
    if not isinstance(content, dict) or content.pop("kind", None) != KIND:
        raise CalibrationError(
            "not a file of times that quantcal wrote; `quantcal times` writes one"
        )
    version = content.pop("version", None)
    if type(version) is not int or version < 1:
        raise CalibrationError(f"version is {version!r:.40}, but it must be 1")
    if version > _VERSION:
        raise CalibrationError(
            f"version {version} is newer than {_VERSION}; upgrade quantcal"
        )
    return content


def build(kind: type[_T], values: Any, known: dict[str, Any] | None = None) -> _T:
    """Return a dataclass of values from a file.

    Parameters
    ----------
    kind : type
        A dataclass of numbers, texts, truth values and tuples of texts.
    values : object
        Its fields by name.
    known : dict, optional
        Fields that are already checked.

    Raises
    ------
    CalibrationError
        If a field is missing, not known, or of another type.
    """
    if not isinstance(values, dict):
        raise CalibrationError(f"it is {values!r:.40}, but it must be an object")
    checked = dict(known or {})
    listed = fields(kind)  # type: ignore[arg-type]
    names = [each.name for each in listed if each.name not in checked]
    for name in values:
        if name not in names:
            raise CalibrationError(
                f'"{name:.40}" is not known; it has {", ".join(names)}'
            )
    for each in listed:
        if each.name in checked:
            continue
        if each.name not in values:
            if each.default is MISSING:
                raise CalibrationError(f"{each.name} is missing")
            continue
        checked[each.name] = _checked(each.name, str(each.type), values[each.name])
    return kind(**checked)


def _checked(name: str, wanted: str, value: Any) -> Any:
    """Return a value of the type that an annotation names."""
    fits, expected = _TYPES[wanted]
    if not fits(value):
        raise CalibrationError(f"{name} is {value!r:.40}, but it must be {expected}")
    if wanted == "float":
        return float(value)
    return tuple(value) if isinstance(value, list) else value


def _is_number(value: Any) -> bool:
    if type(value) is float:  # Python's JSON may hold NaN and Infinity
        return math.isfinite(value)
    return _is_count(abs(value)) if type(value) is int else False


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value < 2**63


def _is_texts(value: Any) -> bool:
    return isinstance(value, list) and all(type(each) is str for each in value)


_TYPES: dict[str, tuple[Callable[[Any], bool], str]] = {
    "float": (_is_number, "a number"),
    "int": (_is_count, "a whole number of 0 to 2^63"),
    "bool": (lambda value: type(value) is bool, "true or false"),
    "str": (lambda value: type(value) is str, "text"),
    "tuple[str, ...]": (_is_texts, "a list of texts"),
}
"""Annotation → whether a value fits, and what it must be."""
