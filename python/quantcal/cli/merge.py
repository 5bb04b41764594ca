"""`quantcal merge`: add histograms of several runs or machines."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from quantcal._core import CalibrationError
from quantcal._io.files import same_target
from quantcal.cli.errors import CommandError, check_outputs
from quantcal.cli.options import JsonOption
from quantcal.cli.output import records, text
from quantcal.cli.output.console import say_warning, stdout
from quantcal.cli.output.facts import print_facts
from quantcal.cli.results import load_stats

if TYPE_CHECKING:
    from quantcal.calibrator import Calibrator


def merge(
    files: Annotated[
        list[Path],
        typer.Argument(
            metavar="STATS", help="Files that `quantcal observe` wrote (.qcal)."
        ),
    ],
    *,
    output: Annotated[
        Path,
        typer.Option(
            "--output",
            "-o",
            metavar="PATH",
            help="Where to write the sum, none of the files; replaced when complete.",
        ),
    ],
    json_: JsonOption = False,
) -> None:
    """Add the histograms of several files: shards of the data, runs, machines.

    The result is, bit for bit, what one run over all the data would have
    written. Of two resolutions the coarser one is kept.

    Example:
      $ quantcal merge shard-*.qcal -o all.qcal
    """
    _refuse_doubles(files)
    check_outputs([output], files)
    total: Calibrator | None = None
    partial: dict[str, list[str]] = {}
    for file in files:  # one at a time: memory is that of two files
        part = load_stats(file)
        if total is None:
            total = part
            continue
        names = set(total.names) ^ set(part.names)
        if names:
            partial[str(file)] = sorted(names)
        try:
            total.merge(part)
        except CalibrationError as error:
            raise CommandError(
                f"{file} does not fit the files before it: {error}"
            ) from error
    assert total is not None  # typer asks for one file at least
    check_outputs([output], files)
    total.save(output)
    values = sum(total[name].count for name in total)
    figures = {"files": len(files), "tensors": len(total), "values": values}
    if json_:
        records.print_json({"kind": "merged", "file": str(output), **figures})
    else:
        print_facts(
            stdout(),
            {
                "written": f"{output} ({text.size(output.stat().st_size)})",
                "files": str(len(files)),
                "tensors": str(len(total)),
                "values": text.amount(values),
            },
        )
    several = [name for name, formats in total.formats.items() if len(formats) > 1]
    if several:
        were = "tensor was" if len(several) == 1 else "tensors were"
        say_warning(
            f"{len(several)} {were} observed for several formats "
            f"({text.listed(several, 3)}); `quantcal compute` needs --activation-type"
        )
    for name, differ in partial.items():
        say_warning(
            f"{name} and the files before it do not hold the same tensors: "
            f"{text.plural(len(differ), 'tensor')} in one of them only "
            f"({text.listed(differ, 3)})"
        )


def _refuse_doubles(files: list[Path]) -> None:
    for one, other in combinations(files, 2):
        if same_target(one, other):
            raise CommandError(
                f"{other} is given twice; its values would count twice. Give it once."
            )
