"""`quantcal inspect`: look at saved histograms, or at a table of ranges."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable
from enum import Enum
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from quantcal._core import CalibrationError
from quantcal.cli.options import JsonOption, LimitOption
from quantcal.cli.output import records, text, views
from quantcal.cli.output.console import show, stdout
from quantcal.cli.output.facts import warn_of_nonfinite
from quantcal.cli.results import load_either

if TYPE_CHECKING:
    from quantcal.calibrator import Calibrator
    from quantcal.table import CalibrationTable
    from quantcal.tensor_report import TensorReport


class Sort(str, Enum):
    """Orders of the rows."""

    NAME = "name"
    MAX = "max"
    NONFINITE = "nonfinite"
    COUNT = "count"


def inspect(
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE",
            help="Histograms that `quantcal observe` wrote (.qcal), or a table that "
            "`quantcal compute` wrote (.json).",
        ),
    ],
    *,
    match: Annotated[
        str,
        typer.Option(
            "--match",
            metavar="GLOB",
            help="Only tensors whose names match, such as '*attn*'.",
        ),
    ] = "*",
    sort: Annotated[
        Sort,
        typer.Option(
            "--sort",
            metavar="name|max|nonfinite|count",
            help="'max' puts the largest magnitude first, 'nonfinite' the most "
            "NaN and infinities, 'count' the most values.",
        ),
    ] = Sort.NAME,
    limit: LimitOption = None,
    json_: JsonOption = False,
) -> None:
    """Show what is in a file: counts, extremes, percentiles, distributions.

    The distribution has a linear axis from min to max, as an integer grid
    divides it. The height is the logarithm of counts, which shows one value in
    millions. A block with small marks far away is a tensor with outliers.

    Examples:
      $ quantcal inspect stats.qcal --sort max --limit 10
      $ quantcal inspect stats.qcal --match '*attn*' --json
      $ quantcal inspect table.json
    """
    from quantcal.table import CalibrationTable

    found = load_either(file)
    if isinstance(found, CalibrationTable):
        _show_table(file, found, match=match, sort=sort, limit=limit, json_=json_)
    else:
        _show_histograms(file, found, match=match, sort=sort, limit=limit, json_=json_)


def _show_histograms(
    file: Path,
    calibrator: Calibrator,
    *,
    match: str,
    sort: Sort,
    limit: int | None,
    json_: bool,
) -> None:
    def key(name: str) -> float:
        h = calibrator[name]
        return _weight(sort, h.count, h.nan + h.posinf + h.neginf, (h.min, h.max))

    names = _chosen(calibrator.names, match, sort, limit, key)
    shown = records.of_histograms(calibrator, names)
    if json_:
        records.print_tensors("histograms", file, shown)
        return
    out = stdout()
    show(out, views.histograms(calibrator, shown, out))
    parts = [_of(names, len(calibrator)), *_formats(calibrator, names)]
    out.print("; ".join([*parts, _resolution(shown)]), style="dim")
    warn_of_nonfinite([r["name"] for r in shown if r["count"] > r["finite"]])


def _show_table(
    file: Path,
    table: CalibrationTable,
    *,
    match: str,
    sort: Sort,
    limit: int | None,
    json_: bool,
) -> None:
    report = table.report

    def nonfinite(r: TensorReport) -> int:
        return r.nan + r.posinf + r.neginf

    def key(name: str) -> float:
        r = report.get(name)
        if r is None:
            return -1.0
        return _weight(sort, r.count, nonfinite(r), (r.min, r.max))

    names = _chosen(list(table), match, sort, limit, key)
    if json_:
        records.print_tensors("ranges", file, records.of_table(table, names))
        return
    out = stdout()
    show(out, views.ranges(table, names, out))
    formats = sorted({table[name].format for name in names})
    out.print("; ".join([_of(names, len(table)), *formats]), style="dim")
    reported = [name for name in names if name in report]
    warn_of_nonfinite([name for name in reported if nonfinite(report[name])])


def _weight(
    sort: Sort, count: int, nonfinite: int, ends: tuple[float | None, float | None]
) -> float:
    """Return what decides a tensor's place; the largest comes first."""
    if sort is Sort.COUNT:
        return count
    if sort is Sort.NONFINITE:
        return nonfinite
    return max((abs(end) for end in ends if end is not None), default=-1.0)


def _chosen(
    names: list[str],
    match: str,
    sort: Sort,
    limit: int | None,
    weight: Callable[[str], float],
) -> list[str]:
    """Return the names to show, in their order.

    Raises
    ------
    CalibrationError
        If none matches; lists names like the pattern.
    """
    found = [n for n in names if n == match or fnmatchcase(n, match)]
    if not found and names:
        near = difflib.get_close_matches(match, names, n=3, cutoff=0.3) or names[:3]
        raise CalibrationError(
            f"--match {match!r} matches none of {text.plural(len(names), 'tensor')}. "
            f"Names are such as {', '.join(near)}."
        )
    found.sort(key=_natural)
    if sort is not Sort.NAME:
        found.sort(key=weight, reverse=True)
    return found[:limit]


def _formats(calibrator: Calibrator, names: list[str]) -> list[str]:
    """Return the formats that the tensors were observed for; empty where not known."""
    found = {each for name in names for each in calibrator.formats.get(name, ())}
    return [f"observed for {', '.join(sorted(found))}"] if found else []


def _resolution(shown: list[records.Record]) -> str:
    found = {views.bins(record) for record in shown if record["finite"]}
    if not found:
        return "no finite values"
    widths = sorted(found - {"exact"})
    if not widths:
        return "every value is known exactly"
    or_exact = " or exactly" if "exact" in found else ""
    return f"values are known within bins of {' or '.join(widths)}{or_exact}"


def _natural(name: str) -> list[tuple[int, str]]:
    """Order names as people count: layer.2 before layer.10."""
    parts = re.split(r"([0-9]+)", name)
    return [(int(p), "") if p.isdecimal() else (-1, p) for p in parts]


def _of(shown: list[str], total: int) -> str:
    if len(shown) == total:
        return text.plural(total, "tensor")
    return f"{len(shown):,} of {text.plural(total, 'tensor')}"
