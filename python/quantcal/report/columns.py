"""The columns of tables of strategies and tensors, for the terminal, text and HTML.

Each column has its rank here, which decides what a narrow terminal leaves out.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from quantcal._text import NONE, decibels, real, share
from quantcal.comparison.score import Score, StrategySummary
from quantcal.params import QuantParams
from quantcal.stability import TensorStability


class Column(NamedTuple):
    """A column of a table.

    Parameters
    ----------
    heading
        Its title.
    cells
        One per row.
    rank
        Columns with the highest rank are left out first when the terminal is too narrow. Those
        with 0 always stay.
    left
        Whether it is text, which starts on the left; numbers end on the right.
    """

    heading: str
    cells: list[str]
    rank: int
    left: bool = False


def of_scores(rows: Sequence[Score], *, by_tensor: bool = False) -> list[Column]:
    """Return the figures of strategies; `by_tensor` names the tensor of each row."""
    columns = [Column("strategy", [row.strategy for row in rows], 0, left=True)]
    if by_tensor:
        columns.insert(0, Column("tensor", [row.tensor for row in rows], 0, left=True))
    params = [row.params for row in rows]

    def number(
        heading: str, rank: int, figure: str, format: Callable[[float], str]
    ) -> None:
        cells = [format(getattr(r, figure)) if r.has(figure) else NONE for r in rows]
        columns.append(Column(heading, cells, rank))

    for heading, rank in (("low", 1), ("high", 1), ("scale", 8)):
        cells = [NONE if p is None else spread(getattr(p, heading)) for p in params]
        columns.append(Column(heading, cells, rank))
    if any(p is not None and np.any(p.zero_point) for p in params):
        cells = [NONE if p is None else spread(p.zero_point) for p in params]
        columns.append(Column("zero point", cells, 9))
    number("clipped", 0, "clipped", share)
    number("to zero", 3, "rounded_to_zero", share)
    number("MSE", 2, "mse", real)
    number("SQNR", 0, "sqnr_db", decibels)
    number("cosine", 7, "cosine", lambda x: f"{x:.6f}")
    number("KL / nat", 4, "divergence", real)
    number("entropy / bit", 6, "code_entropy", lambda x: f"{x:.2f}")
    number("time / ms", 5, "seconds", lambda x: f"{1000 * x:.2f}")
    return columns


def of_summary(rows: Sequence[StrategySummary]) -> list[Column]:
    """Return the figures of strategies over many tensors."""
    columns = [
        Column("strategy", [row.strategy for row in rows], 0, left=True),
        Column("median SQNR", [_decibels(row.median_sqnr_db) for row in rows], 0),
        Column("min SQNR", [_decibels(row.min_sqnr_db) for row in rows], 0),
        Column("best for", [str(row.best) for row in rows], 0),
        Column("time / ms", [f"{1000 * row.seconds:.1f}" for row in rows], 5),
    ]
    if any(row.failed for row in rows):
        cells = [str(row.failed) for row in rows]
        columns.insert(4, Column("not for", cells, 0))
    columns.append(
        Column("worst tensor", [row.worst or NONE for row in rows], 4, left=True)
    )
    return columns


def of_stability(rows: Sequence[TensorStability]) -> list[Column]:
    """Return the differences between two halves of the data."""
    return [
        Column("tensor", [row.name for row in rows], 0, left=True),
        Column("first half", [_range(row.first) for row in rows], 1),
        Column("second half", [_range(row.second) for row in rows], 2),
        Column("difference", [_finite(row.difference, share) for row in rows], 0),
        Column(
            "loss", [_finite(row.loss_db, lambda x: f"{x:.2f} dB") for row in rows], 0
        ),
    ]


def _range(params: QuantParams | None) -> str:
    if params is None:
        return "not seen"
    return f"{real(float(np.min(params.low)))} … {real(float(np.max(params.high)))}"


def _finite(value: float, format: Callable[[float], str]) -> str:
    return format(value) if math.isfinite(value) else NONE


def spread(values: float | NDArray[Any]) -> str:
    """Return a number with three digits; by channel, the minimum and maximum."""
    if not isinstance(values, np.ndarray):
        return str(values) if isinstance(values, int) else real(values)
    ends = [real(float(end)) for end in (values.min(), values.max())]
    return ends[0] if ends[0] == ends[1] else " … ".join(ends)


def _decibels(value: float) -> str:
    return NONE if math.isnan(value) else decibels(value)
