"""What the commands do with errors: one red line, and the exit code.

Only errors that a user can mend are told this way. Anything else is a defect of
quantcal and keeps its traceback, which a report needs.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import typer
from typer.core import TyperGroup

from quantcal import CalibrationError
from quantcal.cli import INTERRUPTED
from quantcal.cli.console import say_error, stderr


class CommandError(Exception):
    """An error that a command tells as it is; the message may have several lines."""


def refuse_overwriting(output: Path, source: str | Path) -> None:
    """Refuse an output that would replace what the command reads: a file, or a sample."""
    given = Path(source)
    if not (output.is_file() and given.exists()):
        return
    is_sample = (
        given.is_dir()
        and output.suffix.lower() in (".npz", ".npy")
        and output.parent.samefile(given)
    )
    if is_sample or output.samefile(given):
        raise CommandError(
            f"The output {output} is an input, which would be lost. Give another path."
        )


class Commands(TyperGroup):
    """The group of all commands; tells their errors and sets the exit code."""

    def invoke(self, ctx: Any) -> Any:
        """Run a command."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError:  # `quantcal … | head`: typer ends quietly
            raise
        except KeyboardInterrupt as error:
            told = f". {error}" if str(error) else ""
            stderr().print(f"interrupted{told}", style="yellow", soft_wrap=True)
            raise typer.Exit(INTERRUPTED) from None
        except CommandError as error:
            say_error(str(error))
        except OSError as error:
            say_error(_of_system(error))
        except (CalibrationError, ImportError) as error:
            # Those of onnx and onnxruntime, which are quoted, spread over many lines.
            say_error(" ".join(str(error).split()))
        raise typer.Exit(1)


def _of_system(error: OSError) -> str:
    if error.filename is None or error.strerror is None:
        return str(error)
    return f"{error.filename}: {error.strerror}"
