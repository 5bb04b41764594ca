"""`quantcal compute`: choose ranges from saved histograms."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from quantcal.cli.options import (
    FormatOption,
    JsonOption,
    PowerOfTwoOption,
    StatsArgument,
    StrategyOption,
    SymmetricOption,
    one_format,
)
from quantcal.cli.output import records
from quantcal.cli.output.console import stdout
from quantcal.cli.output.facts import (
    print_facts,
    warn_of_nothing,
    warn_of_unused_rules,
)
from quantcal.cli.rules import parse_strategy
from quantcal.cli.stats_run import StatsRun
from quantcal.formats import QuantFormat

if TYPE_CHECKING:
    from quantcal.table import CalibrationTable


def compute(
    stats: StatsArgument,
    *,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="PATH",
            show_default=False,
            help="Where to write the table of ranges (.json). Needed unless --json is "
            "given.",
        ),
    ] = None,
    strategy: StrategyOption = None,
    activation_type: FormatOption = None,
    symmetric: SymmetricOption = None,
    power_of_two: PowerOfTwoOption = False,
    json_: JsonOption = False,
) -> None:
    """Choose range, scale and zero point of every tensor from histograms.

    Takes milliseconds per tensor and needs neither the model nor the samples, so
    try several strategies.

    Examples:
      $ quantcal compute stats.qcal -o table.json
      $ quantcal compute stats.qcal -o table.json -s mse -s '*attn*=minmax'
      $ quantcal compute stats.qcal -o table.json -s policy.toml
    """
    from quantcal.cli.output.summary import names_without_values, print_most_affected

    if output is None and not json_:
        raise typer.BadParameter("Give -o FILE, or --json.", param_hint="'--output'")
    scaling: dict[str, Any] = {
        "format": one_format(activation_type),
        "symmetric": symmetric,
        "power_of_two": power_of_two,
    }
    rules = parse_strategy(strategy)
    run = StatsRun(stats, output, strategy or (), **scaling)  # may be policy files
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # the same is printed below
        table = run.work(lambda calibrator: calibrator.compute(rules, **scaling))
    if output is not None:
        table.save(output)
    warn_of_unused_rules(table)
    if json_:
        records.print_tensors("ranges", output, records.of_table(table, table))
        warn_of_nothing(names_without_values(table))
        return
    print_facts(
        stdout(),
        {
            "written": str(output),
            "tensors": str(len(table)),
            "format": _formats(table, power_of_two=power_of_two),
            "time": f"{run.seconds:.2f} s",
        },
    )
    print_most_affected(table)


def _formats(table: CalibrationTable, *, power_of_two: bool) -> str:
    """Return the formats of a table, with their scaling."""
    found = dict.fromkeys((p.format, p.symmetric) for p in table.values())
    return ", ".join(
        str(QuantFormat(name, symmetric, power_of_two)) for name, symmetric in found
    )
