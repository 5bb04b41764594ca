"""Which tensors the calibration data covers, and why the others have no range.

A tensor without a finite value has no range: any range would be invented.
"""

from __future__ import annotations

from collections.abc import Mapping

from quantcal.calibrator import Calibrator
from quantcal.params import QuantParams
from quantcal.table import CalibrationTable

NEVER_RAN = "never reached by the calibration data"
EMPTY = f"{NEVER_RAN}: always empty"
NOT_FINITE = f"{NEVER_RAN}: only NaN or infinities"

Coverage = Mapping[str, str | None]
"""Tensor → None if it has finite values, else the reason why it has none."""


def histogram_coverage(calibrator: Calibrator) -> dict[str, str | None]:
    """Return the coverage of the tensors in histograms."""
    histograms = ((name, calibrator[name]) for name in calibrator)
    return {name: _reason(h.count, h.min) for name, h in histograms}


def table_coverage(table: Mapping[str, QuantParams]) -> dict[str, str | None]:
    """Return the coverage of the tensors in a table; without a report they count as covered."""
    report = table.report if isinstance(table, CalibrationTable) else {}
    return {
        name: _reason(report[name].count, report[name].min) if name in report else None
        for name in table
    }


def _reason(count: int, minimum: float | None) -> str | None:
    if minimum is not None:
        return None
    return NOT_FINITE if count else EMPTY
