"""Errors that say how the data would be read: in Python, and on the command line."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from quantcal._core import CalibrationError
from quantcal.data.option_names import FLAGS


@dataclass(frozen=True)
class Suggestion:
    """A line that reads the data.

    Attributes
    ----------
    reader
        A function of :mod:`quantcal.data`.
    path
        What it reads.
    options
        Its other arguments, of strings, numbers, pairs of numbers and mappings of numbers.
    remark
        What a user must still decide; empty if nothing.
    """

    reader: str
    path: str
    options: Mapping[str, Any] = field(default_factory=dict)
    remark: str = ""

    def call(self) -> str:
        """Return the line as Python."""
        options = "".join(f", {k}={_python(v)}" for k, v in self.options.items())
        return f"qc.data.{self.reader}({_python(self.path)}{options})"

    def flags(self) -> list[str]:
        """Return the arguments of the command line, without the path."""
        found: list[str] = []
        for name, value in self.options.items():
            pairs = value.items() if isinstance(value, Mapping) else [(None, value)]
            for key, each in pairs:
                text = _plain(each)
                found += [FLAGS[name], text if key is None else f"{key}={text}"]
        return found


class UnfitDataError(CalibrationError):
    """Data that a model cannot take as it is, with the line that would read it.

    The text has the line in Python; the command line shows its own.
    """

    def __init__(self, fault: str, suggestion: Suggestion) -> None:
        self.fault = fault
        self.suggestion = suggestion
        remark = f" {suggestion.remark}" if suggestion.remark else ""
        super().__init__(f"{fault} {suggestion.call()}{remark and '.'}{remark}")

    def __reduce__(self) -> tuple[type[UnfitDataError], tuple[str, Suggestion]]:
        return UnfitDataError, (self.fault, self.suggestion)


def _python(value: Any) -> str:
    return (
        json.dumps(value, ensure_ascii=False) if isinstance(value, str) else repr(value)
    )


def _plain(value: Any) -> str:
    if isinstance(value, (tuple, list)):
        return ",".join(map(str, value))
    return str(value)
