"""Any result as HTML for notebooks: its summary, or a table of its fields."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from html import escape
from typing import Any

import numpy as np

from quantcal._text import NONE, real
from quantcal.report import html
from quantcal.report.columns import Column
from quantcal.table import CalibrationTable

_LONGEST = 120
"""Maximum characters of a cell."""

_MAX_ROWS = 50
"""Rows of a table of parts; the rest is counted."""


def of(shown: Any) -> str:
    """Return the summary of a result and its table, or its fields and tables of its parts."""
    summary = getattr(shown, "summary", None)
    fields = {f.name: getattr(shown, f.name) for f in dataclasses.fields(shown)}
    if callable(summary):
        found = [v for v in fields.values() if isinstance(v, CalibrationTable)]
        ranges = [html.calibration_table(table) for table in found]
        return "\n".join([html.text(summary()), *ranges])
    public = {name: v for name, v in fields.items() if not name.startswith("_")}
    tables = {name: parts for name, value in public.items() if (parts := _parts(value))}
    rows = {name: _short(value) for name, value in public.items() if name not in tables}
    lines = [html.record(type(shown).__name__, rows)] if rows else []
    lines += [_table(name, parts) for name, parts in tables.items()]
    return "\n".join(lines)


def _parts(value: Any) -> dict[str, Any]:
    """Return parts that have fields too, by name or number; empty for plain values."""
    if isinstance(value, Mapping):
        found: dict[str, Any] = {}
        for key, each in value.items():  # of outputs, each has several arithmetics
            inner = each.items() if isinstance(each, Mapping) else [("", each)]
            found |= {f"{key}, {name}" if name else str(key): v for name, v in inner}
    elif isinstance(value, (tuple, list)):
        found = {str(number): each for number, each in enumerate(value)}
    else:
        return {}
    same = len({type(each) for each in found.values()}) == 1
    return found if same and all(map(_has_fields, found.values())) else {}


def _has_fields(value: Any) -> bool:
    return dataclasses.is_dataclass(value) and not isinstance(value, type)


def _table(name: str, parts: Mapping[str, Any]) -> str:
    """Return a table with a row for each part and a column for each of its fields."""
    some = dict(list(parts.items())[:_MAX_ROWS])
    columns = [Column("", list(some), 0, left=True)]
    for field in dataclasses.fields(next(iter(some.values()))):
        cells = [_short(getattr(each, field.name)) for each in some.values()]
        numbers = all(
            isinstance(getattr(p, field.name), (int, float)) for p in some.values()
        )
        heading = field.name.replace("_", " ")
        columns.append(Column(heading, cells, 0, left=not numbers))
    caption = f"<caption>{escape(name.replace('_', ' '))}</caption>"
    lines = ["<table>", caption, *html.table(columns), "</table>"]
    if len(parts) > len(some):
        lines.append(f"<p>and {len(parts) - len(some):,} more</p>")
    return "\n".join(lines)


def _short(value: Any) -> str:
    """Return a value in a few words."""
    if value is None or (isinstance(value, (str, tuple, list, dict)) and not value):
        return NONE
    if isinstance(value, float):
        return real(value)
    if isinstance(value, np.ndarray):
        return f"{value.dtype} of shape {value.shape}"
    if isinstance(value, Mapping):
        text = _joined(f"{key}: {_short(each)}" for key, each in value.items())
    elif isinstance(value, (tuple, list, set, frozenset)):
        text = _joined(_short(each) for each in value)
    elif _has_fields(value) and "__str__" not in vars(type(value)):
        text = _joined(
            f"{f.name.replace('_', ' ')} {_short(getattr(value, f.name))}"
            for f in dataclasses.fields(value)
        )
    else:
        text = " ".join(str(value).split())
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"


def _joined(parts: Iterable[str]) -> str:
    found = list(parts)
    shown = ", ".join(found[:8])
    return shown if len(found) <= 8 else f"{shown}, … ({len(found):,} in all)"
