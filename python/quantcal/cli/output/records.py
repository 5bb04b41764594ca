"""What is known of each tensor, as plain data: for tables and for JSON alike."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sized
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from quantcal.calibrator import Calibrator
    from quantcal.stability import Stability
    from quantcal.table import CalibrationTable


PERCENTILES = (0.01, 0.1, 1.0, 50.0, 99.0, 99.9, 99.99)

Record = dict[str, Any]


def of_histograms(calibrator: Calibrator, names: Iterable[str]) -> list[Record]:
    """Return one record per tensor; figures without finite values are None."""
    records = []
    for name in names:
        stats = calibrator.stats(name)
        h = stats.histogram
        records.append(
            finite_numbers(
                {
                    "name": name,
                    "count": h.count,
                    "finite": h.finite,
                    "zeros": h.zeros,
                    "nan": h.nan,
                    "posinf": h.posinf,
                    "neginf": h.neginf,
                    "min": h.min,
                    "max": h.max,
                    "mean": h.mean(),
                    "std": h.std(),
                    "kurtosis": h.kurtosis(),
                    "percentiles": {f"{p:g}": h.quantile(p / 100) for p in PERCENTILES},
                    "observations": stats.observations,
                    "axis": calibrator.axis(name),
                    "channels": _channels(stats),
                    "mantissa_bits": h.mantissa_bits,
                    "exact": h.exact,
                }
            )
        )
    return records


def _channels(stats: object) -> int | None:
    return len(stats) if isinstance(stats, Sized) else None


def of_table(table: CalibrationTable, names: Iterable[str]) -> list[Record]:
    """Return one record per tensor; "report" is None for ranges without data."""
    report = table.report
    return [
        {
            "name": name,
            **table[name].to_dict(),
            "report": finite_numbers(asdict(report[name])) if name in report else None,
        }
        for name in names
    ]


def of_stability(found: Stability) -> list[Record]:
    """Return one record per tensor; figures are None where a half lacks it."""
    return [
        finite_numbers(
            {
                "name": tensor.name,
                "first": tensor.first and tensor.first.to_dict(),
                "second": tensor.second and tensor.second.to_dict(),
                "difference": tensor.difference,
                "loss_db": tensor.loss_db,
            }
        )
        for tensor in found
    ]


def finite_numbers(fields: Record) -> Record:
    """Return the same with None for infinities and NaN, which JSON does not have."""
    return {
        key: None if isinstance(value, float) and not math.isfinite(value) else value
        for key, value in fields.items()
    }


def print_tensors(kind: str, file: Path | None, records: list[Record]) -> None:
    """Print records of tensors to stdout as one JSON object."""
    name = None if file is None else str(file)
    print_json({"kind": kind, "file": name, "tensors": records})


def print_json(content: Record) -> None:
    """Print an object to stdout as JSON."""
    print(json.dumps(content, indent=1, allow_nan=False, ensure_ascii=False))
