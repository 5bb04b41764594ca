"""The columns of the tables of a comparison, whatever shows them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

from quantcal._text import NONE, decibels, real, share
from quantcal.comparison import Scored, StrategySummary


class Column(NamedTuple):
    """A heading and a cell a row; text starts on the left, numbers end on the right."""

    heading: str
    cells: list[str]
    left: bool = False


def of_scored(rows: Sequence[Scored], *, by_tensor: bool = False) -> list[Column]:
    """Return what strategies do to a tensor; `by_tensor` names the tensor of each row."""
    columns = [Column("strategy", [row.strategy for row in rows], left=True)]
    if by_tensor:
        columns.insert(0, Column("tensor", [row.tensor for row in rows], left=True))
    params = [row.params for row in rows]

    def number(heading: str, tell: Callable[[Scored], str]) -> None:
        cells = [NONE if row.params is None else tell(row) for row in rows]
        columns.append(Column(heading, cells))

    columns.append(Column("low", [NONE if p is None else real(p.low) for p in params]))
    columns.append(
        Column("high", [NONE if p is None else real(p.high) for p in params])
    )
    columns.append(
        Column("scale", [NONE if p is None else real(p.scale) for p in params])
    )
    if any(p is not None and p.zero_point for p in params):
        cells = [NONE if p is None else str(p.zero_point) for p in params]
        columns.append(Column("zero point", cells))
    number("clipped", lambda row: share(row.clipped))
    number("to zero", lambda row: share(row.rounded_to_zero))
    number("MSE", lambda row: real(row.mse))
    number("SQNR", lambda row: decibels(row.sqnr_db))
    number("cosine", lambda row: f"{row.cosine:.6f}")
    number("KL / nat", lambda row: real(row.divergence))
    number("entropy / bit", lambda row: f"{row.code_entropy:.2f}")
    number("time / ms", lambda row: f"{1000 * row.seconds:.2f}")
    return columns


def of_summary(rows: Sequence[StrategySummary]) -> list[Column]:
    """Return how strategies did over many tensors."""
    columns = [
        Column("strategy", [row.strategy for row in rows], left=True),
        Column("median SQNR", [_decibels(row.median_sqnr_db) for row in rows]),
        Column("least SQNR", [_decibels(row.min_sqnr_db) for row in rows]),
        Column("best for", [str(row.best) for row in rows]),
        Column("time / ms", [f"{1000 * row.seconds:.1f}" for row in rows]),
    ]
    if any(row.failed for row in rows):
        cells = [str(row.failed) for row in rows]
        columns.insert(4, Column("not for", cells))
    columns.append(Column("least on", [row.worst or NONE for row in rows], left=True))
    return columns


def _decibels(value: float) -> str:
    return NONE if math.isnan(value) else decibels(value)
