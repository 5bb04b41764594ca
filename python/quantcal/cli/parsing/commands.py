"""The group of all commands: finds them, runs them and reports their errors.

A command's module is imported when it is asked for, so that help is quick. Only errors that a
user can correct are reported in one red line. Anything else is a defect of quantcal and keeps
its traceback, which a bug report needs.
"""

from __future__ import annotations

import functools
import importlib
import re
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from quantcal._core import CalibrationError
from quantcal._process.signals import INTERRUPTED, deferred
from quantcal.cli.errors import CommandError
from quantcal.cli.parsing.common import take_common
from quantcal.cli.parsing.exit_codes import ERROR
from quantcal.cli.parsing.help import argument_name, write_help
from quantcal.cli.parsing.names import COMMANDS
from quantcal.cli.parsing.usage import UsageError, reword, suggest_command

SETTINGS = {"help_option_names": ["-h", "--help"]}


_TYPED = "quantcal.typed"
_SAMPLES = re.compile("^--data(?==|$)")


class Command(TyperCommand):
    """One command, with help that needs no other package."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse; `--data`, as many tools call it, is `--samples`."""
        known = {name for p in self.params for name in p.opts}
        if "--samples" in known:
            args = [_SAMPLES.sub("--samples", arg) for arg in args]
        parsed: list[str] = super().parse_args(ctx, args)
        return parsed

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """Return what follows the command's name in its usage."""
        arguments = [p for p in self.get_params(ctx) if p.param_type_name == "argument"]
        return [*map(argument_name, arguments), "[OPTIONS]"]

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write the help."""
        write_help(self, ctx, formatter, {})


@functools.cache
def find_command(name: str) -> Any:
    """Import the module of a command, and return it as typer runs it."""
    function = getattr(importlib.import_module(f"quantcal.cli.{name}"), name)
    app = typer.Typer(
        add_completion=False,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings=SETTINGS,
    )
    settings: dict[str, Any] = {"no_args_is_help": name != "demo"}
    app.command(name, cls=Command, context_settings=SETTINGS, **settings)(
        take_common(function)
    )
    return typer.main.get_command(app)


class Commands(TyperGroup):
    """The group of all commands; prints their errors and sets the exit code."""

    def get_params(self, ctx: Any) -> list[Any]:
        """Return the options of the group."""
        found: list[Any] = super().get_params(ctx)
        for parameter in found:
            # typer would import pydantic to check that None is no flag.
            if getattr(parameter, "is_flag", False) and parameter.default is None:
                parameter.default = False
        return found

    def list_commands(self, ctx: Any) -> list[str]:
        """Return the names of the commands, in the order of the help."""
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Return a command; None if there is none of that name."""
        return find_command(cmd_name) if cmd_name in COMMANDS else None

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """Return what follows the program's name in its usage."""
        return ["COMMAND", "[OPTIONS]"]

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write the help."""
        write_help(self, ctx, formatter, COMMANDS)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Find the command of these arguments; a wrong name gets near ones."""
        try:
            return super().resolve_command(ctx, args)
        except UsageError as error:
            suggest_command(error, args[0])
            raise

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Keep what was typed, for errors that show how it would be right."""
        ctx.meta[_TYPED] = list(args)
        parsed: list[str] = super().parse_args(ctx, args)
        return parsed

    def invoke(self, ctx: Any) -> Any:
        """Run a command."""
        try:
            return super().invoke(ctx)
        except UsageError as error:  # typer prints it with the usage
            reword(error)
            raise
        except BrokenPipeError:  # `quantcal … | head`: typer ends quietly
            raise
        except KeyboardInterrupt as error:
            more = f". {error}" if str(error) else ""
            _say(f"interrupted{more}", "yellow")
            raise typer.Exit(INTERRUPTED) from None
        except CommandError as error:
            _say_error(str(error))
        except OSError as error:
            _say_error(_of_system(error))
        except (CalibrationError, ImportError) as error:
            if (getattr(error, "name", None) or "").startswith("rich"):
                raise  # without it nothing can be printed
            # Quoted errors of onnx and onnxruntime have many lines.
            fault = getattr(error, "fault", error)
            _say_error(" ".join(str(fault).split()))
            if hasattr(error, "suggestion"):
                _say_line(ctx.meta.get(_TYPED, ()), error.suggestion)
        raise typer.Exit(ERROR)


def _say_error(message: str) -> None:
    _say(f"error: {message}", "red")


def _say(message: str, style: str) -> None:
    with deferred():
        from quantcal.cli.output.console import say
    say(message, style)


def _say_line(typed: list[str], suggestion: Any) -> None:
    """Print the command that would read the data."""
    from quantcal.cli.output.console import say_line
    from quantcal.cli.output.corrected_line import correct_line

    say_line(correct_line(typed, suggestion), suggestion.remark)


def _of_system(error: OSError) -> str:
    if error.filename is None or error.strerror is None:
        return str(error)
    return f"{error.filename}: {error.strerror}"
