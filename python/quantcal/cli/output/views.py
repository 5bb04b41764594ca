"""Histograms and ranges as tables."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from quantcal.cli.output import text
from quantcal.cli.output.records import Record
from quantcal.cli.output.sparkline import draw_sparkline
from quantcal.cli.output.tables import Column, tensor_table

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from quantcal.calibrator import Calibrator
    from quantcal.params import QuantParams
    from quantcal.table import CalibrationTable
    from quantcal.tensor_report import TensorReport


_WIDE = 100
"""Columns of a terminal with room for distributions of full width."""


def histograms(
    calibrator: Calibrator, records: Sequence[Record], out: Console
) -> Table:
    """Return the table of histograms that fits a console."""
    from rich.text import Text

    def drawn(name: str) -> Text:
        line = draw_sparkline(
            calibrator[name],
            20 if out.width >= _WIDE else 14,
            ascii_only=out.options.ascii_only,
        )
        return Text(line, style="cyan")

    def cells_of(show: Callable[[Record], str]) -> list[str]:
        return [show(record) for record in records]

    def percentile(p: str, rank: int) -> Column:
        cells = cells_of(lambda r: text.real(r["percentiles"][p]))
        return Column(f"{p} %", cells, rank=rank)

    names = [record["name"] for record in records]
    nonfinite = [_nonfinite(record) for record in records]
    columns = [Column("count", cells_of(lambda r: text.amount(r["count"])))]
    if any(record["channels"] for record in records):
        columns.append(Column("channels", cells_of(_channels)))
    if any(map(str, nonfinite)):
        columns.append(Column("NaN/inf", nonfinite))
    columns += [
        Column("zeros", cells_of(_zeros), rank=4),
        Column("min", cells_of(lambda r: text.real(r["min"]))),
        percentile("0.1", rank=2),
        percentile("50", rank=3),
        percentile("99.9", rank=1),
        Column("max", cells_of(lambda r: text.real(r["max"]))),
        Column("distribution", list(map(drawn, names)), left=True),
    ]
    if len(set(map(bins, records))) > 1:
        columns.append(Column("bins", cells_of(bins), rank=5))
    return tensor_table(names, columns, out)


def _channels(record: Record) -> str:
    """Return how many channels there are and along which axis; empty without any."""
    channels = record["channels"]
    return f"{channels} × axis {record['axis']}" if channels else ""


def _channels_of(params: QuantParams) -> str:
    import numpy as np

    if params.axis is None:
        return ""
    return f"{np.size(params.scale)} × axis {params.axis}"


def _nonfinite(record: Record) -> Text:
    """Return how many NaN and infinities there are, in red; empty without any."""
    from rich.text import Text

    infinite = record["posinf"] + record["neginf"]
    parts = []
    if record["nan"]:
        parts.append(f"{text.amount(record['nan'])} NaN")
    if infinite:
        parts.append(f"{text.amount(infinite)} inf")
    return Text(" ".join(parts), style="bold red")


def _zeros(record: Record) -> str:
    finite = record["finite"]
    return text.share(record["zeros"] / finite) if finite else text.NONE


def bins(record: Record) -> str:
    """Return the resolution at which a tensor's values are known."""
    if not record["finite"]:
        return text.NONE
    return (
        "exact" if record["exact"] else f"{100 / (1 << record['mantissa_bits']):.2g} %"
    )


def ranges(table: CalibrationTable, names: Sequence[str], out: Console) -> Table:
    """Return the table of ranges and of their effect on the data, for a console."""
    from quantcal.report.columns import spread

    params = [table[name] for name in names]
    report = table.report

    def cells_of(show: Callable[[TensorReport], str]) -> list[str]:
        found = (report.get(name) for name in names)
        return [text.NONE if r is None else show(r) for r in found]

    columns = []
    if any(p.axis is not None for p in params):
        columns.append(Column("channels", [_channels_of(p) for p in params]))
    columns += [
        Column("low", [spread(p.low) for p in params]),
        Column("high", [spread(p.high) for p in params]),
        Column("min seen", cells_of(lambda r: text.real(r.min)), rank=2),
        Column("max seen", cells_of(lambda r: text.real(r.max)), rank=2),
        Column("clipped", cells_of(lambda r: text.share(r.clipped))),
        Column("to zero", cells_of(lambda r: text.share(r.rounded_to_zero))),
        Column("SQNR", cells_of(lambda r: text.decibels(r.sqnr_db))),
        Column("scale", [spread(p.scale) for p in params], rank=3),
        Column("zero point", [spread(p.zero_point) for p in params], rank=4),
        Column("strategy", [p.strategy for p in params], left=True, rank=1),
    ]
    return tensor_table(names, columns, out)
