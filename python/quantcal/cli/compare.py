"""`quantcal compare`: what every strategy would do, before you choose one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict
from enum import Enum
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Annotated, Any

import typer

from quantcal.cli.options import (
    FewOption,
    FormatOption,
    JsonOption,
    PowerOfTwoOption,
    StatsArgument,
    SymmetricOption,
    one_format,
)
from quantcal.cli.output import records
from quantcal.cli.output.console import show, stdout
from quantcal.cli.output.facts import print_facts, warn_of_nonfinite
from quantcal.cli.output.tables import Column, tensor_table
from quantcal.cli.stats_run import StatsRun

if TYPE_CHECKING:
    from quantcal.report import columns


if TYPE_CHECKING:
    from rich.table import Table

    from quantcal.comparison.comparison import Comparison


class Sort(str, Enum):
    """Orders of the strategies."""

    SQNR = "sqnr_db"
    MSE = "mse"
    COSINE = "cosine"
    CLIPPED = "clipped"
    TO_ZERO = "rounded_to_zero"
    DIVERGENCE = "divergence"
    ENTROPY = "code_entropy"
    SECONDS = "seconds"
    STRATEGY = "strategy"


def compare(
    stats: StatsArgument,
    *,
    activation_type: FormatOption = None,
    symmetric: SymmetricOption = None,
    power_of_two: PowerOfTwoOption = False,
    strategy: Annotated[
        list[str] | None,
        typer.Option(
            "--strategy",
            "-s",
            metavar="RULE",
            show_default="all",
            help="A strategy to compare, such as mse or percentile_99.9. Repeat it for "
            "several.",
        ),
    ] = None,
    tensor: Annotated[
        list[str] | None,
        typer.Option(
            "--tensor",
            metavar="NAME",
            show_default="all",
            help="Only this tensor, with all figures of each strategy. Repeat it for "
            "several.",
        ),
    ] = None,
    sort: Annotated[
        Sort | None,
        typer.Option(
            "--sort",
            metavar="FIGURE",
            show_default="as given",
            help="Put the best strategies by this figure first; over several tensors, "
            "by its median. " + f"Figures: {', '.join(each.value for each in Sort)}.",
        ),
    ] = None,
    limit: FewOption = 10,
    plot: Annotated[
        Path | None,
        typer.Option(
            "--plot",
            metavar="FILE",
            show_default="none",
            help="Also draw what each strategy loses on each tensor, or one --tensor "
            "with all ranges: .png, .svg or .pdf.",
        ),
    ] = None,
    json_: JsonOption = False,
) -> None:
    """Show what every strategy would do to every tensor.

    First the result of each strategy over all tensors. Then the tensors with the
    worst result of the best strategy: candidates for more bits or for float. SQNR
    is the signal to quantization noise of the activations, computed from their
    histograms. It does not say which tensors a network is sensitive to.

    Examples:
      $ quantcal compare stats.qcal --sort sqnr_db
      $ quantcal compare stats.qcal --tensor decoder.0.ffn --plot ffn.png
      $ quantcal compare stats.qcal -s mse -s percentile_99.9 -a int4 --json
    """
    from quantcal.comparison.api import compare as compare_strategies
    from quantcal.report import columns
    from quantcal.report.picture import save_comparison

    scaling: dict[str, Any] = {"symmetric": symmetric, "power_of_two": power_of_two}
    format_name = one_format(activation_type)
    run = StatsRun(stats, plot, format=format_name, **scaling)
    tensors = list(tensor or run.calibrator.names)
    comparison = run.work(
        lambda calibrator: compare_strategies(
            calibrator, format_name, strategies=strategy, tensors=tensors, **scaling
        )
    )
    if plot is not None:
        save_comparison(comparison, plot)
    names = _order(comparison, sort)
    if json_:
        _print_json(stats, comparison, names)
        return
    out = stdout()
    facts = {
        "format": comparison.formats_text,
        "tensors": str(len(tensors)),
        "time": f"{run.seconds:.2f} s",
    }
    if plot is not None:
        facts = {"written": str(plot), **facts}
    print_facts(out, facts)
    out.print()
    if len(tensors) == 1:
        rows = sorted(comparison, key=lambda row: names.index(row.strategy))
        show(out, _table("strategy", columns.of_scores(rows), out))
        for row in rows:
            if row.error:
                out.print(f"{row.strategy}: {row.error}", style="dim")
    else:
        summary = sorted(comparison.summary(), key=lambda s: names.index(s.strategy))
        show(out, _table("strategy", columns.of_summary(summary), out))
        _print_worst(comparison, limit)
    warn_of_nonfinite(
        [n for n, h in comparison.histograms.items() if h.count > h.finite]
    )


def _order(comparison: Comparison, sort: Sort | None) -> list[str]:
    """Return the names of the strategies, the best first. Those that never apply come last."""
    from quantcal.comparison.score import HIGHER_IS_BETTER

    names = comparison.strategies
    if sort is None:
        return names
    if sort is Sort.STRATEGY:
        return sorted(names)
    sign = -1 if sort.value in HIGHER_IS_BETTER else 1
    figures: dict[str, list[float]] = {name: [] for name in names}
    for row in comparison:
        if row.has(sort.value) and comparison.histograms[row.tensor].finite:
            figures[row.strategy].append(getattr(row, sort.value))
    return sorted(
        names, key=lambda n: sign * median(figures[n]) if figures[n] else math.inf
    )


def _print_worst(comparison: Comparison, limit: int) -> None:
    """Print the tensors with the lowest SQNR under their best strategy."""
    from quantcal.report import columns

    seen = [name for name in comparison.tensors if comparison.histograms[name].finite]
    usable = [name for name in seen if any(row.params for row in comparison[name])]
    best = [comparison[name].best() for name in usable]
    best.sort(key=lambda row: row.sqnr_db)
    if not best:
        return
    out = stdout()
    out.print()
    of = f" {limit} of {len(best)}" if limit < len(best) else ""
    out.print(f"Worst{of} tensors, each with its best strategy:", style="bold")
    shown = columns.of_scores(best[:limit], by_tensor=True)
    kept = [column for column in shown if column.heading != "time / ms"]
    show(out, _table("tensor", kept, out))


def _table(heading: str, parts: Sequence[columns.Column], out: Any) -> Table:
    names, *others = parts
    return tensor_table(
        names.cells,
        [Column(c.heading, c.cells, c.left, c.rank) for c in others],
        out,
        heading=heading,
    )


def _print_json(file: Path, comparison: Comparison, names: list[str]) -> None:
    summary = sorted(comparison.summary(), key=lambda s: names.index(s.strategy))
    rows = sorted(comparison, key=lambda row: names.index(row.strategy))
    content = {
        "kind": "comparison",
        "file": str(file),
        "format": comparison.formats_text,
        "summary": [records.finite_numbers(asdict(each)) for each in summary],
        "rows": [row.record() for row in rows],
    }
    records.print_json(content)
