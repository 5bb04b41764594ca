"""The text of `--help`: plain, readable at 80 columns, without another package.

Options stand in groups. Names and values take the left column, the text the right one, which is
at least 50 characters wide. Longer names take a separate line.
"""

from __future__ import annotations

import os
import textwrap
from collections.abc import Iterator, Mapping
from enum import Enum
from typing import Any

from quantcal.cli.parsing.exit_codes import describe_exit_codes

_LEFT = 25
"""The column where texts begin."""

_OPTIONS = "Options"

_GENERAL = "General options"
_COMMON = ("json_", "quiet", "help", "version", "install_completion", "show_completion")
"""Options that every command has: they come last, where they do not hide its own."""


def write_help(
    command: Any, ctx: Any, formatter: Any, commands: Mapping[str, str]
) -> None:
    """Write the help of a command, or of the group of all `commands`.

    Parameters
    ----------
    command, ctx, formatter
        What typer gives to ``format_help``.
    commands
        Names of subcommands with a line about each; empty for a command.
    """
    width = formatter.width
    parameters = [p for p in command.get_params(ctx) if not getattr(p, "hidden", False)]
    blocks = [command.get_usage(ctx), command.help or ""]
    if commands:
        rows = [(name, text) for name, text in commands.items()]
        blocks.append(_section("Commands", rows, width))
    arguments = [p for p in parameters if p.param_type_name == "argument"]
    if arguments:
        rows = [(argument_name(p), _text(p, ctx)) for p in arguments]
        blocks.append(_section("Arguments", rows, width))
    groups: dict[str, list[tuple[str, str]]] = {_OPTIONS: [], _GENERAL: []}
    for parameter in parameters:
        if parameter.param_type_name == "option":
            panel = getattr(parameter, "rich_help_panel", None) or _OPTIONS
            if parameter.name in _COMMON:
                panel = _GENERAL
            row = (option_names(parameter), _text(parameter, ctx))
            groups.setdefault(panel, []).append(row)
    groups[_GENERAL] = groups.pop(_GENERAL)
    blocks += [_section(title, rows, width) for title, rows in groups.items() if rows]
    blocks.append(command.epilog or describe_exit_codes())
    formatter.write("\n\n".join(block.rstrip() for block in blocks if block) + "\n")


def argument_name(parameter: Any) -> str:
    """Return an argument as the usage shows it."""
    name = parameter.metavar or parameter.name.upper()
    return f"{name}..." if parameter.nargs == -1 else str(name)


def option_names(parameter: Any) -> str:
    """Return the names of an option, the short one first, and what stands for its value."""
    names = sorted(parameter.opts, key=lambda name: name.startswith("--"))
    text = ", ".join(names)
    if parameter.secondary_opts:
        text = f"{text}/{parameter.secondary_opts[0]}"
    if getattr(parameter, "is_flag", False) or getattr(parameter, "count", False):
        return text
    return f"{text} {parameter.metavar or parameter.name.upper()}"


def _section(title: str, rows: list[tuple[str, str]], width: int) -> str:
    lines = [_bold(f"{title}:")]
    for name, text in rows:
        lines += _row(name, text, width)
    return "\n".join(lines)


def _row(name: str, text: str, width: int) -> Iterator[str]:
    """Yield the lines of an option or a command."""
    indent = " " * _LEFT
    lines = textwrap.wrap(
        text,
        width - _LEFT,
        break_long_words=False,
        break_on_hyphens=False,
    )
    if len(name) > _LEFT - 4:
        yield f"  {name}"
    else:
        first = lines.pop(0) if lines else ""
        yield f"  {name:<{_LEFT - 2}}{first}".rstrip()
    for line in lines:
        yield f"{indent}{line}"


def _text(parameter: Any, ctx: Any) -> str:
    """Return the help of a parameter with its default."""
    text = parameter.help or ""
    if parameter.required:
        more = "[required]" if parameter.param_type_name == "option" else ""
    else:
        default = _default(parameter, ctx)
        more = f"[default: {default}]" if default else ""
    return f"{text} {more}".strip()


def _default(parameter: Any, ctx: Any) -> str:
    """Return the default as text; empty where the help says it, or there is none."""
    shown = getattr(parameter, "show_default", True)
    if isinstance(shown, str):
        return "" if shown == "none" else shown
    value = parameter.get_default(ctx, call=False)
    if not shown or value is None or value is False or callable(value):
        return ""
    if isinstance(value, bool) and parameter.secondary_opts:
        return str(parameter.opts[0])
    return str(value.value if isinstance(value, Enum) else value)


def _bold(text: str) -> str:
    """Return bold text; typer removes the codes where no terminal shows them."""
    return text if os.environ.get("NO_COLOR") else f"\x1b[1m{text}\x1b[0m"
