"""What notebooks show of results: tables, and distributions as small pictures.

Colors are those of the notebook, so that light and dark ones are legible.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import numpy as np

from quantcal._core import Histogram
from quantcal._text import NONE, amount, decibels, plural, real, share
from quantcal.calibrator import Calibrator
from quantcal.channels import Channels
from quantcal.comparison.comparison import Comparison
from quantcal.report import columns, sparkline
from quantcal.report.columns import Column
from quantcal.report.records import of_histogram
from quantcal.stability import Stability
from quantcal.strategies.policy import Policy
from quantcal.table import CalibrationTable

_MAX_ROWS = 50
"""Rows of a table in a notebook; a network may have thousands of tensors."""

_WORDS = {"nan": "NaN", "posinf": "+∞", "neginf": "−∞"}


class _Picture(str):
    """A cell that is HTML already, which is not escaped."""

    __slots__ = ()


def comparison(shown: Comparison) -> str:
    """Return the strategies of one tensor, or a summary of them over several."""
    parts = [f"<caption>{escape(shown.title)}</caption>"]
    if len(shown.tensors) == 1:
        parts += table(columns.of_scores(shown))
        failed = [row for row in shown if row.error]
    else:
        parts += table(columns.of_summary(shown.summary()))
        failed = []
    notes = [f"<p>{escape(f'{row.strategy}: {row.error}')}</p>" for row in failed]
    return "\n".join(["<table>", *parts, "</table>", *notes])


def stability(shown: Stability) -> str:
    """Return the differences between two halves of the data, by tensor."""
    caption = f"<caption>two halves {escape(shown.summary())}</caption>"
    parts = table(columns.of_stability(shown))
    return "\n".join(["<table>", caption, *parts, "</table>"])


def histogram(shown: Histogram) -> str:
    """Return the shape of a distribution, with its counts and moments."""
    if not shown.count:
        return "<div>no values</div>"
    facts = of_histogram(shown)
    figures = [("values", amount(facts["count"]))]
    for name in ("zeros", "nan", "posinf", "neginf"):
        if facts[name]:
            figures.append((_WORDS.get(name, name), amount(facts[name])))
    figures += [(name, real(facts[name])) for name in ("mean", "std")]
    words = ", ".join(f"{escape(name)} {escape(value)}" for name, value in figures)
    if shown.mantissa_bits is not None:
        words += f", {shown.mantissa_bits} mantissa bits"
    return f"<div>{sparkline.large(shown)}<div>{words}</div></div>"


def channels(shown: Channels) -> str:
    """Return the distribution of each channel, of the first ones if there are many."""
    rows = range(min(len(shown), _MAX_ROWS))
    parts = [Column("channel", [str(k) for k in rows], 0)]
    parts += _statistics([shown[k] for k in rows])
    title = f"{plural(len(shown), 'channel')} along axis {shown.axis}"
    return _page(title, parts, len(shown), [shown[k] for k in rows])


def calibrator(shown: Calibrator) -> str:
    """Return the distribution of each tensor, of the first ones if there are many."""
    names = shown.names[:_MAX_ROWS]
    histograms = [shown[name] for name in names]
    parts = [Column("tensor", names, 0, left=True)]
    if any(shown.axis(name) is not None for name in names):
        cells = [
            NONE if shown.axis(name) is None else str(len(shown.channels(name)))
            for name in names
        ]
        parts.append(Column("channels", cells, 0))
    parts += _statistics(histograms)
    if shown.formats:
        cells = [", ".join(shown.formats.get(name, ())) or NONE for name in names]
        parts.append(Column("format", cells, 0, left=True))
    title = f"{plural(len(shown), 'tensor')}, {shown.nbytes / 1024:.0f} KB"
    return _page(title, parts, len(shown), histograms)


def calibration_table(shown: CalibrationTable) -> str:
    """Return the parameters of each tensor, the lowest SQNR first."""
    report = shown.report

    def sqnr(name: str) -> float:
        found = report[name].sqnr_db if name in report else math.inf
        return math.inf if math.isnan(found) else found

    names = sorted(shown, key=sqnr)[:_MAX_ROWS]
    params = [shown[name] for name in names]
    parts = [
        Column("tensor", names, 0, left=True),
        Column("format", [p.format for p in params], 0, left=True),
        *(
            Column(name, [columns.spread(getattr(p, name)) for p in params], 0)
            for name in ("low", "high", "scale")
        ),
        Column("zero point", [columns.spread(p.zero_point) for p in params], 0),
        Column("strategy", [p.strategy for p in params], 0, left=True),
    ]
    if report:
        known = [report.get(name) for name in names]
        parts += [
            Column("clipped", [share(r.clipped) if r else NONE for r in known], 0),
            Column(
                "SQNR", [decibels(sqnr(n)) if n in report else NONE for n in names], 0
            ),
        ]
    title = plural(len(shown), "tensor")
    title += ", the lowest SQNR first" if report and len(names) > 1 else ""
    return _page(title, parts, len(shown))


def policy(shown: Policy) -> str:
    """Return the rules in their order."""
    parts = [
        Column("pattern", [pattern for pattern, _ in shown.rules], 0, left=True),
        Column(
            "strategy", [str(strategy) for _, strategy in shown.rules], 0, left=True
        ),
    ]
    title = f"{plural(len(shown.rules), 'rule')}, the first that matches applies"
    return _page(title, parts, len(shown.rules))


def record(title: str, fields: Mapping[str, Any]) -> str:
    """Return the fields of one object, a row each."""
    parts = [
        Column("", [name.replace("_", " ") for name in fields], 0, left=True),
        Column("", [_cell(value) for value in fields.values()], 0, left=True),
    ]
    return "\n".join(
        ["<table>", f"<caption>{escape(title)}</caption>", *_body(parts), "</table>"]
    )


def text(shown: str) -> str:
    """Return aligned text as it is."""
    return f'<pre style="white-space: pre-wrap">{escape(shown)}</pre>'


def _cell(value: Any) -> str:
    if isinstance(value, np.ndarray):
        return f"{columns.spread(value)} ({len(value)} channels)"
    if value is None or value == "":
        return NONE
    return real(value) if isinstance(value, float) else str(value)


def _statistics(histograms: Sequence[Histogram]) -> list[Column]:
    """Return counts and extremes; columns of what never occurs are left out."""
    facts = [of_histogram(each) for each in histograms]
    parts = [Column("values", [amount(row["count"]) for row in facts], 0)]
    parts += [
        Column(name, [real(row[name]) for row in facts], 0)
        for name in ("min", "max", "mean", "std")
    ]
    parts += [
        Column(_WORDS.get(name, name), [amount(row[name]) for row in facts], 0)
        for name in ("zeros", "nan", "posinf", "neginf")
        if any(row[name] for row in facts)
    ]
    return parts


def _page(
    title: str,
    parts: Sequence[Column],
    total: int,
    histograms: Sequence[Histogram] = (),
) -> str:
    """Return a table, with a picture at the end of each row if there are histograms."""
    rows = len(parts[0].cells)
    cells: list[str] = [_Picture(sparkline.small(each)) for each in histograms]
    pictures = [Column("", cells, 0, left=True)] if cells else []
    caption = f"<caption>{escape(title)}</caption>"
    lines = ["<table>", caption, *table([*parts, *pictures]), "</table>"]
    if total > rows:
        lines.append(f"<p>and {total - rows:,} more</p>")
    return "\n".join(lines)


def _body(parts: Sequence[Column]) -> list[str]:
    rows = zip(*(part.cells for part in parts), strict=True)
    return ["<tbody>", *(_row("td", parts, cells) for cells in rows), "</tbody>"]


def table(parts: Sequence[Column]) -> list[str]:
    """Return the head and the body of a table."""
    lines = ["<thead>", _row("th", parts, [part.heading for part in parts]), "</thead>"]
    return [*lines, *_body(parts)]


def _row(tag: str, parts: Sequence[Column], cells: Sequence[str]) -> str:
    written = (
        f'<{tag} style="text-align: {"left" if part.left else "right"}">'
        f"{cell if isinstance(cell, _Picture) else escape(cell)}</{tag}>"
        for part, cell in zip(parts, cells, strict=True)
    )
    return f"<tr>{''.join(written)}</tr>"
