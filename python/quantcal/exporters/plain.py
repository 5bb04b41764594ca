"""Writes ranges as CSV and JSON, for spreadsheets and other programs.

To read ranges into quantcal again, save the table (`CalibrationTable.save`).
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from quantcal._io.files import write_text
from quantcal.params import QuantParams

__all__ = ["COLUMNS", "write_csv", "write_json"]

COLUMNS = (
    "tensor",
    "channel",
    "low",
    "high",
    "scale",
    "zero_point",
    "format",
    "symmetric",
    "strategy",
)
"""The columns of the CSV file; `channel` is empty for a range of the whole tensor."""


def write_csv(table: Mapping[str, QuantParams], path: str | Path) -> None:
    """Write one line per tensor or channel, after a header line; RFC 4180, UTF-8.

    Numbers have all digits, so reading them as float64 gives the same values.

    Raises
    ------
    CalibrationError
        If the file cannot be written.
    """
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(COLUMNS)
    for name, params in table.items():
        writer.writerows(_rows(name, params))
    write_text(path, text.getvalue())


def write_json(table: Mapping[str, QuantParams], path: str | Path) -> None:
    """Write one object per tensor: its range, scale, zero_point, format and strategy.

    By channel the first four are lists; `axis` is null for a range of the whole tensor.

    Raises
    ------
    CalibrationError
        If the file cannot be written.
    """
    content = {
        name: {key: _plain(value) for key, value in _fields(params).items()}
        for name, params in table.items()
    }
    text = json.dumps(content, indent=1, allow_nan=False, ensure_ascii=False)
    write_text(path, f"{text}\n")


def _fields(params: QuantParams) -> dict[str, Any]:
    names = (*COLUMNS[2:], "axis")
    return {name: getattr(params, name) for name in names}


def _rows(name: str, params: QuantParams) -> Iterator[list[Any]]:
    numbers = [np.atleast_1d(getattr(params, key)) for key in COLUMNS[2:6]]
    rest = [getattr(params, key) for key in COLUMNS[6:]]
    for channel, row in enumerate(zip(*numbers, strict=True)):
        index = "" if params.axis is None else channel
        yield [name, index, *(repr(value.item()) for value in row), *rest]


def _plain(value: Any) -> Any:
    return value.tolist() if isinstance(value, (np.ndarray, np.generic)) else value


def __dir__() -> list[str]:
    return sorted(__all__)
