"""What the commands do with errors: one red line, and the exit code.

Only errors that a user can correct are reported this way. Anything else is a defect of
quantcal and keeps its traceback, which a bug report needs.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import typer
from typer.core import TyperGroup

from quantcal._core import CalibrationError
from quantcal._io.files import INPUT, Used, check_target, same_target
from quantcal._process.signals import INTERRUPTED
from quantcal.cli.output.console import say_error, say_line, stderr
from quantcal.cli.output.corrected_line import correct_line
from quantcal.cli.usage import UsageError, reword
from quantcal.data.faults import UnfitDataError

_ARGUMENTS = "quantcal.arguments"
LIMIT_BROKEN = 3
"""The exit code of a run that worked, but whose result breaks a limit of the caller.

Neither an error (1) nor wrong usage (2), so that a script can tell them apart.
"""


class CommandError(Exception):
    """An error whose message a command prints as it is; it may have several lines."""


def check_outputs(
    outputs: Sequence[Path | None], inputs: Iterable[str | Path | None] = ()
) -> list[Used]:
    """Refuse outputs that cannot be written, or would replace what the command reads.

    Parameters
    ----------
    outputs
        None stands for an output that is not written.
    inputs
        Files that are read, and folders of samples.

    Returns
    -------
    What the command reads, for another check when it writes.

    Raises
    ------
    CalibrationError
        If one is not a regular file, its folder is missing, or it is an input.
    typer.BadParameter
        If two are the same file.
    """
    used = [Used(Path(source), INPUT) for source in inputs if source is not None]
    given = [output for output in outputs if output is not None]
    for output in given:
        check_target(output, used)
    refuse_same(given)
    return used


def refuse_same(outputs: Sequence[Path]) -> None:
    """Refuse to write a file twice, under whatever names."""
    for one, other in combinations(outputs, 2):
        if same_target(one, other):
            also = "" if one == other else f", also as {one},"
            raise typer.BadParameter(f"{other} is to be written twice{also}.")


class Commands(TyperGroup):
    """The group of all commands; prints their errors and sets the exit code."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Keep what was typed, for errors that show how it would be right."""
        ctx.meta[_ARGUMENTS] = list(args)
        return super().parse_args(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        """Run a command."""
        try:
            return super().invoke(ctx)
        except UnfitDataError as error:
            say_error(" ".join(error.fault.split()))
            line = correct_line(ctx.meta.get(_ARGUMENTS, ()), error.suggestion)
            say_line(line, error.suggestion.remark)
        except UsageError as error:  # typer prints it with the usage
            reword(error)
            raise
        except BrokenPipeError:  # `quantcal … | head`: typer ends quietly
            raise
        except KeyboardInterrupt as error:
            more = f". {error}" if str(error) else ""
            stderr().print(f"interrupted{more}", style="yellow", soft_wrap=True)
            raise typer.Exit(INTERRUPTED) from None
        except CommandError as error:
            say_error(str(error))
        except OSError as error:
            say_error(_of_system(error))
        except (CalibrationError, ImportError) as error:
            # Quoted errors of onnx and onnxruntime have many lines.
            say_error(" ".join(str(error).split()))
        raise typer.Exit(1)


def _of_system(error: OSError) -> str:
    if error.filename is None or error.strerror is None:
        return str(error)
    return f"{error.filename}: {error.strerror}"
