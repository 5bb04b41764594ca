"""`quantcal stability`: do the samples suffice? The ranges of two files side by side."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from quantcal._io.files import same_target
from quantcal._settings import STABLE
from quantcal.cli.errors import CommandError
from quantcal.cli.options import (
    FewOption,
    FormatOption,
    JsonOption,
    StrategyOption,
    check_format,
    one_format,
)
from quantcal.cli.output import records
from quantcal.cli.output.console import saying_warnings, show, stdout
from quantcal.cli.output.facts import print_facts
from quantcal.cli.output.tables import Column, tensor_table
from quantcal.cli.results import load_stats
from quantcal.cli.rules import parse_strategy


def stability(
    first: Annotated[
        Path,
        typer.Argument(
            metavar="FIRST",
            help="Histograms of one half of the samples (.qcal), or of one shard.",
        ),
    ],
    second: Annotated[
        Path, typer.Argument(metavar="SECOND", help="Those of the other half.")
    ],
    *,
    strategy: StrategyOption = None,
    activation_type: FormatOption = None,
    tolerance: Annotated[
        float,
        typer.Option(
            "--tolerance",
            min=0,
            metavar="SHARE",
            help="Name the tensors whose ranges differ by more than this share.",
        ),
    ] = STABLE,
    limit: FewOption = 10,
    json_: JsonOption = False,
) -> None:
    """Check whether the samples suffice: how far two halves of them agree.

    The ranges of both halves should be nearly the same. Where they are not, few
    samples decide: take more, or a strategy that clips. `quantcal quantize`
    reports the same for its samples.

    Examples:
      $ quantcal stability shard-1.qcal shard-2.qcal
      $ quantcal stability shard-1.qcal shard-2.qcal -s minmax --tolerance 0.05
    """
    from quantcal.report import columns
    from quantcal.stability import check_stability

    if same_target(first, second):
        raise CommandError(
            f"{first} is given twice. Give the histograms of two halves."
        )
    format_name = one_format(activation_type)
    check_format(format_name)
    halves = load_stats(first), load_stats(second)
    rules = parse_strategy(strategy)
    with saying_warnings():
        found = check_stability(*halves, rules, format=format_name)
    if json_:
        content = {"kind": "stability", "file": None, "tolerance": tolerance}
        named = {"beyond": found.beyond(tolerance)}
        tensors = {"tensors": records.of_stability(found)}
        records.print_json({**content, **named, **tensors})
        return
    out = stdout()
    facts = {"tensors": str(len(found)), "two halves": found.summary(tolerance)}
    print_facts(out, facts)
    out.print()
    names, *parts = columns.of_stability(found[:limit])
    shown = [Column(part.heading, part.cells, rank=part.rank) for part in parts]
    show(out, tensor_table(names.cells, shown, out))
