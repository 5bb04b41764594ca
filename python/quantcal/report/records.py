"""Tables as records: one flat dict a row, for pandas or JSON."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from quantcal import _core
from quantcal._core import Histogram
from quantcal._process import imports

if TYPE_CHECKING:
    import pandas as pd

    from quantcal.calibrator import Calibrator
    from quantcal.channels import Channels
    from quantcal.stability import Stability
    from quantcal.table import CalibrationTable

_COUNTS = ("count", "zeros", "nan", "posinf", "neginf")
_PARAMS = (
    "format",
    "symmetric",
    "low",
    "high",
    "scale",
    "zero_point",
    "strategy",
    "axis",
)
_REPORT = (
    *("count", "min", "max", "zeros", "nan", "posinf", "neginf"),
    *("clipped", "rounded_to_zero", "mse", "sqnr_db", "cosine", "rule", "reason"),
)


def plain(value: Any) -> Any:
    """Return a value as JSON has it: arrays as lists, numbers that are not finite as None."""
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def of_histogram(histogram: Histogram) -> dict[str, Any]:
    """Return counts, extremes and moments."""
    fields: dict[str, Any] = {name: getattr(histogram, name) for name in _COUNTS}
    fields |= {"min": histogram.min, "max": histogram.max}
    fields |= {"mean": histogram.mean(), "std": histogram.std()}
    return {name: plain(value) for name, value in fields.items()}


def of_calibrator(calibrator: Calibrator) -> list[dict[str, Any]]:
    """Return the statistics of each tensor."""
    rows = []
    for name in calibrator.names:
        stats = calibrator.stats(name)
        by_channel = isinstance(stats, _core.ChannelStats)
        rows.append(
            {
                "tensor": name,
                "observations": stats.observations,
                **of_histogram(stats.histogram),
                "axis": stats.axis if isinstance(stats, _core.ChannelStats) else None,
                "channels": len(calibrator.channels(name)) if by_channel else None,
                "format": ", ".join(calibrator.formats.get(name, ())) or None,
                "nbytes": stats.nbytes,
            }
        )
    return rows


def of_channels(channels: Channels) -> list[dict[str, Any]]:
    """Return the statistics of each channel."""
    return [{"channel": k, **of_histogram(each)} for k, each in enumerate(channels)]


def of_table(table: CalibrationTable) -> list[dict[str, Any]]:
    """Return parameters and report of each tensor; by channel, parameters are lists."""
    rows = []
    for name, params in table.items():
        row = {"tensor": name, **{f: plain(getattr(params, f)) for f in _PARAMS}}
        report = table.report.get(name)
        rows.append(row | {f: plain(getattr(report, f, None)) for f in _REPORT})
    return rows


def of_stability(stability: Stability) -> list[dict[str, Any]]:
    """Return the ranges of both halves of each tensor, and how they differ."""
    rows = []
    for each in stability:
        row: dict[str, Any] = {"tensor": each.name}
        for half, params in (("first", each.first), ("second", each.second)):
            for end in ("low", "high"):
                row[f"{half}_{end}"] = plain(getattr(params, end, None))
        row |= {"difference": plain(each.difference), "loss_db": plain(each.loss_db)}
        rows.append(row)
    return rows


def frame(records: Iterable[Mapping[str, Any]], index: str | None) -> pd.DataFrame:
    """Return records as a pandas data frame.

    Raises
    ------
    ImportError
        If pandas is missing; says how to install it.
    """
    imports.require(("pandas",), "to_pandas needs", "pandas", "pandas")
    import pandas as pd

    made = pd.DataFrame.from_records(list(records))
    return made if index is None or made.empty else made.set_index(index)
