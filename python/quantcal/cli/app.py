"""Puts the commands together."""

from __future__ import annotations

from typing import Annotated

import typer

from quantcal.cli.parsing.commands import SETTINGS, Commands

app = typer.Typer(
    name="quantcal",
    cls=Commands,
    no_args_is_help=True,
    add_completion=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings=SETTINGS,
)


def _show_version(wanted: bool) -> None:
    if wanted:
        from quantcal._core import __version__

        print(f"quantcal {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool,
        typer.Option(
            "--version",
            "-V",
            callback=_show_version,
            is_eager=True,
            help="Print the version and exit.",
        ),
    ] = False,
) -> None:
    """Quantization calibration: observe once, choose ranges as often as you like.

    In one step:
      $ quantcal quantize model.onnx -o model.int8.onnx --samples calibration/

    Is it accurate and fast enough?
      $ quantcal evaluate model.onnx model.int8.onnx --samples validation/
      $ quantcal tune model.onnx -o model.int8.onnx --samples calibration/

    Or observe once, and try ranges without running the model again:
      $ quantcal observe model.onnx -o stats.qcal --samples calibration/
      $ quantcal compare stats.qcal
      $ quantcal quantize model.onnx -o model.int8.onnx --from stats.qcal -s mse

    `quantcal COMMAND --help` shows the options and examples of a command.
    """
