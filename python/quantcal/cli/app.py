"""Puts the commands together."""

from __future__ import annotations

from typing import Annotated

import typer

from quantcal._core import __version__
from quantcal.cli.advise import advise
from quantcal.cli.compare import compare
from quantcal.cli.compute import compute
from quantcal.cli.demo import demo
from quantcal.cli.errors import Commands
from quantcal.cli.evaluate import evaluate
from quantcal.cli.export import export
from quantcal.cli.inspect import inspect
from quantcal.cli.merge import merge
from quantcal.cli.observe import observe
from quantcal.cli.quantize import quantize
from quantcal.cli.report import report
from quantcal.cli.stability import stability
from quantcal.cli.times import times
from quantcal.cli.tune import tune

app = typer.Typer(
    name="quantcal",
    cls=Commands,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(wanted: bool) -> None:
    if wanted:
        print(f"quantcal {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool,
        typer.Option(
            "--version",
            callback=_show_version,
            is_eager=True,
            help="Print the version and exit.",
        ),
    ] = False,
) -> None:
    """Quantization calibration: observe once, choose ranges as often as you like.

    In one step:
      $ quantcal quantize model.onnx -o model.int8.onnx --samples calibration/

    Or observe once, and try ranges without running the model again:
      $ quantcal observe model.onnx -o stats.qcal --samples calibration/
      $ quantcal inspect stats.qcal --sort max
      $ quantcal compare stats.qcal
      $ quantcal compute stats.qcal -o table.json
      $ quantcal quantize model.onnx -o model.int8.onnx --from table.json

    Exit codes: 0 done, 1 error, 2 wrong usage, 3 a limit of evaluate broken,
    130 interrupted.
    """


# --help lists them in this order, in which a newcomer needs them.
for command in (
    quantize,
    evaluate,
    advise,
    tune,
    times,
    observe,
    inspect,
    compare,
    compute,
    export,
    merge,
    stability,
    report,
    demo,
):
    app.command(no_args_is_help=command is not demo)(command)
