"""`quantcal compute`: choose ranges from saved histograms."""

from __future__ import annotations

import time
import warnings
from pathlib import Path
from typing import Annotated

import typer

from quantcal.cli import records, views
from quantcal.cli.console import show, stdout
from quantcal.cli.errors import check_outputs
from quantcal.cli.facts import (
    print_facts,
    warn_of_nonfinite,
    warn_of_nothing,
    warn_of_unused_rules,
)
from quantcal.cli.options import (
    FormatOption,
    JsonOption,
    PowerOfTwoOption,
    StatsArgument,
    StrategyOption,
    SymmetricOption,
    check_format,
    parse_strategy,
)
from quantcal.cli.results import load_stats
from quantcal.formats import QuantFormat
from quantcal.table import CalibrationTable

_MOST = 5


def compute(
    stats: StatsArgument,
    *,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE",
            show_default=False,
            help="Where to write the table of ranges (.json). Needed unless --json is "
            "given.",
        ),
    ] = None,
    strategy: StrategyOption = None,
    format_: FormatOption = None,
    symmetric: SymmetricOption = None,
    power_of_two: PowerOfTwoOption = False,
    json_: JsonOption = False,
) -> None:
    """Choose range, scale and zero point of every tensor from histograms.

    Takes milliseconds a tensor and needs neither the model nor the data, so try
    several strategies.

    Examples:
      $ quantcal compute stats.qcal -o table.json
      $ quantcal compute stats.qcal -o table.json -s mse -s '*attn*=minmax'
      $ quantcal compute stats.qcal -o table.json -s policy.toml
    """
    if output is None and not json_:
        raise typer.BadParameter("Give -o FILE, or --json.", param_hint="'--output'")
    check_format(format_, symmetric, power_of_two)
    read = (stats, *(strategy or ()))  # which may be a policy file
    check_outputs([output], read)
    rules = parse_strategy(strategy)
    calibrator = load_stats(stats)
    started = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # the same is said below
        table = calibrator.compute(
            rules, format=format_, symmetric=symmetric, power_of_two=power_of_two
        )
    seconds = time.perf_counter() - started
    if output is not None:
        check_outputs([output], read)
        table.save(output)
    warn_of_unused_rules(table)
    if json_:
        records.print_json("ranges", output, records.of_table(table, table))
        warn_of_nothing(_without_values(table))
        return
    print_facts(
        stdout(),
        {
            "written": str(output),
            "tensors": str(len(table)),
            "format": _formats(table, power_of_two=power_of_two),
            "time": f"{seconds:.2f} s",
        },
    )
    print_most_affected(table)


def print_most_affected(table: CalibrationTable) -> None:
    """Print the tensors that lose the largest share of values, and name odd ones."""
    from quantcal.onnx.result import widest_clipped

    out = stdout()
    names = [clipped.name for clipped in widest_clipped(table, _MOST)]
    out.print()
    if names:
        more = sum(report.clipped > 0 for report in table.report.values()) - len(names)
        tail = f", of {more + len(names)}" if more else ""
        out.print(f"Most clipped{tail}:", style="bold")
        show(out, views.ranges(table, names, out))
    else:
        out.print("No tensor is clipped.", style="bold")
    report = table.report
    warn_of_nonfinite(
        [name for name, r in report.items() if r.nan or r.posinf or r.neginf]
    )
    warn_of_nothing(_without_values(table))


def _without_values(table: CalibrationTable) -> list[str]:
    return [name for name, r in table.report.items() if r.min is None]


def _formats(table: CalibrationTable, *, power_of_two: bool) -> str:
    """Return the formats of a table, with their scaling."""
    found = dict.fromkeys((p.format, p.symmetric) for p in table.values())
    return ", ".join(
        str(QuantFormat(name, symmetric, power_of_two)) for name, symmetric in found
    )
