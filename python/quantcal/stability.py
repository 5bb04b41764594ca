"""`check_stability`: compares the ranges of one half of the samples with those of the other.

Where both halves give nearly the same ranges, more data would hardly change them. Where they do
not, the ranges depend on a few samples.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, overload

import numpy as np

from quantcal._compute import compute_table
from quantcal._core import CalibrationError, ChannelStats
from quantcal._empty_warnings import warn_of_empty
from quantcal._meant import load_hint
from quantcal._param_checks import as_number
from quantcal._settings import STABLE
from quantcal._statistics import Stats
from quantcal._tensor_formats import choose_formats
from quantcal._text import share
from quantcal.calibrator import Calibrator
from quantcal.formats import FormatLike
from quantcal.params import QuantParams
from quantcal.strategies.policy import Policy, StrategyLike
from quantcal.table import CalibrationTable
from quantcal.tensor_report import TensorReport

if TYPE_CHECKING:
    import pandas as pd

_FEW = 0.1
"""The share of tensors that may differ where the samples suffice for most."""


@dataclass(frozen=True)
class TensorStability:
    """How much the ranges of one tensor differ between two halves of the data.

    Parameters
    ----------
    name
        The tensor's name.
    first, second
        The ranges of the halves; None if a half has no finite value of the tensor.
    difference
        The distance of their lower ends plus that of their upper ends, as a share of the range
        of all data. For symmetric ranges this is the relative difference of the scales.
        Infinite if a half has no range; by channel, the maximum of all channels.
    loss_db
        The SQNR that a half loses with the other's range, in decibels; the larger of both.
        0 if neither loses.
    """

    name: str
    first: QuantParams | None
    second: QuantParams | None
    difference: float
    loss_db: float


class Stability(Sequence[TensorStability]):
    """The differences between two halves of the data by tensor, the largest first.

    Equal differences keep the order of the tensors. It prints as a table.
    """

    def __init__(self, tensors: Sequence[TensorStability]) -> None:
        self._tensors = sorted(tensors, key=lambda tensor: -tensor.difference)

    @classmethod
    def of(
        cls,
        halves: tuple[Calibrator, Calibrator],
        tables: tuple[CalibrationTable, CalibrationTable],
        table: CalibrationTable,
    ) -> Stability:
        """Compare ranges that are computed already.

        Parameters
        ----------
        halves
            The calibrator of each half.
        tables
            The ranges of each half.
        table
            The ranges of all data together.
        """
        ranges = _with_values(tables[0]), _with_values(tables[1])
        return cls([_compare(name, halves, ranges, table[name]) for name in table])

    @overload
    def __getitem__(self, index: int) -> TensorStability: ...
    @overload
    def __getitem__(self, index: slice) -> list[TensorStability]: ...
    def __getitem__(
        self, index: int | slice
    ) -> TensorStability | list[TensorStability]:
        return self._tensors[index]

    def __len__(self) -> int:
        return len(self._tensors)

    def __iter__(self) -> Iterator[TensorStability]:
        return iter(self._tensors)

    @property
    def largest(self) -> float:
        """The largest difference; 0 without tensors."""
        return self._tensors[0].difference if self._tensors else 0.0

    @property
    def median(self) -> float:
        """The median difference; 0 without tensors."""
        found = [tensor.difference for tensor in self._tensors]
        return statistics.median(found) if found else 0.0

    def beyond(self, tolerance: float = STABLE) -> list[str]:
        """Return the names of the tensors that differ by more than this share of a range.

        Raises
        ------
        CalibrationError
            If the tolerance is no number.
        """
        limit = as_number("tolerance", tolerance)
        return [t.name for t in self._tensors if t.difference > limit]

    @property
    def verdict(self) -> str:
        """Whether the samples suffice, in a few words."""
        return self._verdict(STABLE)

    def _verdict(self, tolerance: float) -> str:
        beyond = len(self.beyond(tolerance))
        if not beyond:
            return "enough samples"
        if beyond <= _FEW * len(self):
            return "enough samples for most tensors"
        return "too few samples for some tensors"

    def summary(self, tolerance: float = STABLE) -> str:
        """Return the differences as one line of text; a tolerance is that of `beyond`."""
        if not self._tensors:
            return "no tensor"
        median, largest = _share(self.median), _share(self.largest)
        verdict = self._verdict(tolerance)
        text = f"{verdict}: differ by {median} (median), {largest} at most"
        names = self.beyond(tolerance)
        if not names:
            return text
        more = f" and {len(names) - 3} more" if len(names) > 3 else ""
        of = f"{len(names)} of {len(self)} by more than {_share(tolerance)}"
        return f"{text}; {of}: {', '.join(names[:3])}{more}"

    def __str__(self) -> str:
        from quantcal.report import columns, text

        return "\n".join(text.table(columns.of_stability(self)))

    __repr__ = __str__

    def _repr_html_(self) -> str:
        from quantcal.report import html

        return html.stability(self)

    def records(self) -> list[dict[str, Any]]:
        """Return one flat dict per tensor, for pandas or JSON.

        It holds the ranges of both halves, lists by channel, and their difference. Infinite
        figures are None: a half has no range.
        """
        from quantcal.report import records

        return records.of_stability(self)

    def to_pandas(self) -> pd.DataFrame:
        """Return `records` as a pandas data frame, with the names as index.

        Raises
        ------
        ImportError
            If pandas is missing; says how to install it.
        """
        from quantcal.report import records

        return records.frame(self.records(), "tensor")


def check_stability(
    first: Calibrator,
    second: Calibrator,
    strategy: StrategyLike = "mse",
    *,
    format: FormatLike | None = None,
    symmetric: bool | None = None,
    power_of_two: bool | None = None,
    **options: Any,
) -> Stability:
    """Compare the ranges of two halves of the data, tensor by tensor.

    Give every second sample to the other calibrator, so that both halves are alike. That costs
    nothing, as ``first + second`` is exactly what one calibrator would hold. The ends of a
    range from all samples are then uncertain by about half the difference. Ranges are computed
    three times: of each half, and of both. :func:`quantcal.onnx.quantize` does all this itself.

    Parameters
    ----------
    first, second
        The calibrator of each half. If one lacks a tensor, its difference is infinite.
    strategy, format, symmetric, power_of_two, options
        As for `Calibrator.compute`. Without a format, the formats that the halves were observed
        for. "minmax" differs most, as single values determine it.

    Returns
    -------
    A `Stability`: a sequence of `TensorStability`, the largest difference first.

    Raises
    ------
    TypeError
        If a half is not a calibrator.
    CalibrationError
        If a calibrator has observed nothing, or as in `Calibrator.compute` and `merge`.

    Examples
    --------
    >>> rng, halves = np.random.default_rng(0), (qc.Calibrator(), qc.Calibrator())
    >>> for number in range(8):
    ...     x = rng.standard_normal(1000, dtype=np.float32)
    ...     halves[number % 2].observe("x", x)
    >>> qc.check_stability(*halves, "percentile_99")[0].difference < 0.05
    True
    """
    for half in (first, second):
        if not isinstance(half, Calibrator):
            kind = type(half).__name__
            msg = f"each half must be a Calibrator, not {kind}{load_hint(half)}"
            raise TypeError(msg)
        if not len(half):
            msg = "A half has observed nothing; give each of them samples."
            raise CalibrationError(msg)
    policy = Policy.of(strategy, **options)
    both = first + second
    formats = choose_formats(both.formats, both, format, symmetric, power_of_two)
    tables = (
        compute_table(_statistics(first), policy, formats),
        compute_table(_statistics(second), policy, formats),
    )
    seen = _statistics(both)
    table = compute_table(seen, policy, formats)
    warn_of_empty(seen, table)
    return Stability.of((first, second), tables, table)


def _statistics(calibrator: Calibrator) -> dict[str, Stats]:
    return {name: calibrator.stats(name) for name in calibrator}


def _compare(
    name: str,
    halves: tuple[Calibrator, Calibrator],
    ranges: tuple[Mapping[str, QuantParams], Mapping[str, QuantParams]],
    whole: QuantParams,
) -> TensorStability:
    first, second = (found.get(name) for found in ranges)
    if first is None or second is None:
        return TensorStability(name, first, second, math.inf, math.inf)
    width = np.asarray(whole.high, np.float64) - np.asarray(whole.low, np.float64)
    low = np.abs(np.subtract(first.low, second.low, dtype=np.float64))
    high = np.abs(np.subtract(first.high, second.high, dtype=np.float64))
    apart = low + high
    with np.errstate(divide="ignore", invalid="ignore"):
        shares = np.where(apart > 0, apart / width, 0.0)
    loss = max(
        _loss(halves[0], name, first, second), _loss(halves[1], name, second, first)
    )
    return TensorStability(name, first, second, float(shares.max()), loss)


def _with_values(table: CalibrationTable) -> dict[str, QuantParams]:
    """Return the ranges that are supported by a finite value."""
    report = table.report
    return {
        name: params
        for name, params in table.items()
        if name not in report or report[name].min is not None
    }


def _loss(half: Calibrator, name: str, own: QuantParams, other: QuantParams) -> float:
    """Return the decibels that a half loses with the other's range."""
    if own == other:
        return 0.0
    stats = half.stats(name)
    seen = stats if isinstance(stats, ChannelStats) else stats.histogram
    best, got = (TensorReport.of(seen, params, "").sqnr_db for params in (own, other))
    return 0.0 if got >= best or math.isnan(got) else best - got


def _share(part: float) -> str:
    return "without bound" if math.isinf(part) else share(part)
