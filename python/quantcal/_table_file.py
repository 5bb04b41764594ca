"""The JSON of a calibration table: how it is written, and how it is checked when it is read."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, fields
from typing import Any

from quantcal._core import CalibrationError
from quantcal._io.json_text import parse_json
from quantcal.params import QuantParams
from quantcal.tensor_report import TensorReport

KIND = "quantcal calibration table"
_VERSION = 2
"""The newest version that is read. Tables by channel need it; others are written as 1."""

LARGEST = 1 << 30
"""The largest file that is read, in bytes: eight million channels. Parsed, it takes up to
twenty times that."""

_COUNTS = ("count", "zeros", "nan", "posinf", "neginf")
_NUMBERS = ("clipped", "rounded_to_zero", "mse", "cosine")
_OPTIONAL = ("min", "max", "sqnr_db")
_TEXTS = ("rule", "reason")


def text_of(
    params: Mapping[str, QuantParams],
    report: Mapping[str, TensorReport],
    unused_rules: Iterable[str],
) -> str:
    """Return the text that `parse` reads."""
    tensors = {
        name: {
            **each.to_dict(),
            "report": _written(report[name]) if name in report else None,
        }
        for name, each in params.items()
    }
    content = {
        "kind": KIND,
        "version": 1 if all(p.axis is None for p in params.values()) else 2,
        "unused_rules": list(unused_rules),
        "tensors": tensors,
    }
    return json.dumps(content, indent=1, allow_nan=False, ensure_ascii=False) + "\n"


def _written(report: TensorReport) -> dict[str, Any]:
    """Return the fields; JSON has no infinity, so an SQNR without error is null."""
    fields = asdict(report)
    if math.isinf(report.sqnr_db):
        fields["sqnr_db"] = None
    return fields


def parse(
    text: str,
) -> tuple[dict[str, QuantParams], dict[str, TensorReport], list[str]]:
    """Return parameters and reports by tensor, and the patterns of unused rules.

    Raises
    ------
    CalibrationError
        If the text is anything else, or from a newer version; names the tensor.
    """
    try:
        content = parse_json(text)
    except ValueError as error:
        raise CalibrationError(f"not a calibration table: {error}") from error
    if not isinstance(content, dict) or content.get("kind") != KIND:
        raise CalibrationError("not a calibration table that quantcal wrote")
    version = content.get("version")
    if type(version) is not int or version < 1:
        raise CalibrationError(f"version is {version!r:.40}, but it must be 1 or 2")
    if version > _VERSION:
        msg = f"table version {version} is newer than {_VERSION}; upgrade quantcal"
        raise CalibrationError(msg)
    tensors = content.get("tensors")
    if not isinstance(tensors, dict):
        msg = f"tensors is {tensors!r:.40}, but it must hold parameters by name"
        raise CalibrationError(msg)
    params: dict[str, QuantParams] = {}
    report: dict[str, TensorReport] = {}
    for name, entry in tensors.items():
        try:
            params[name], seen = _read_tensor(entry)
        except CalibrationError as error:
            raise CalibrationError(f'tensor "{name}": {error}') from error
        if seen is not None:
            report[name] = seen
    unused = content.get("unused_rules", [])
    if not (isinstance(unused, list) and all(isinstance(p, str) for p in unused)):
        msg = f"unused_rules is {unused!r:.40}, but it must be a list of patterns"
        raise CalibrationError(msg)
    return params, report, unused


def _read_tensor(entry: Any) -> tuple[QuantParams, TensorReport | None]:
    if not isinstance(entry, dict):
        raise CalibrationError(f"it is {entry!r:.40}, but it must be an object")
    values = dict(entry)
    if "report" not in values:
        raise CalibrationError("report is missing; it may be null")
    seen = values.pop("report")
    _check_fields(values, QuantParams)
    return QuantParams(**values), None if seen is None else _read_report(seen)


def _read_report(seen: Any) -> TensorReport:
    if not isinstance(seen, dict):
        raise CalibrationError(f"report is {seen!r:.40}, but it must be an object")
    _check_fields(seen, TensorReport)
    values: dict[str, Any] = dict(seen)
    for field in _COUNTS:
        if type(values[field]) is not int or not 0 <= values[field] < 2**63:
            raise _fault(field, values[field], "a whole number of 0 to 2^63")
    for field in (*_NUMBERS, *_OPTIONAL):
        missing = values[field] is None and field in _OPTIONAL
        if not missing and not _is_number(values[field]):
            raise _fault(field, values[field], "a number")
    for field in _TEXTS:
        if not isinstance(values.get(field, ""), str):
            raise _fault(field, values[field], "text")
    if values["sqnr_db"] is None:
        values["sqnr_db"] = math.inf
    return TensorReport(**values)


def _is_number(value: Any) -> bool:
    if type(value) is float:  # Python's JSON may hold NaN and Infinity
        return math.isfinite(value)
    return type(value) is int and abs(value) < 2**63


def _fault(field: str, value: Any, wanted: str) -> CalibrationError:
    return CalibrationError(
        f"{field} of its report is {value!r:.40}, but it must be {wanted}"
    )


def _check_fields(values: dict[str, Any], kind: type) -> None:
    """Refuse fields that are missing or not known."""
    optional = {"strategy", "axis", "reason"}
    known = [field.name for field in fields(kind)]
    for name in values:
        if name not in known:
            raise CalibrationError(
                f'"{name:.40}" is not known; it has {", ".join(known)}'
            )
    for name in known:
        if name not in values and name not in optional:
            raise CalibrationError(f"{name} is missing")
