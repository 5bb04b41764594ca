"""The flags of the options of `quantcal.onnx`, made of what is known of each option.

A command names its options in `@takes_flags` and has a parameter `flags`. The command
line then shows one flag for each option, and `flags` holds those that were given.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from enum import Enum
from functools import wraps
from typing import Annotated, Any

import typer

from quantcal.cli.rules import parse_rules, parse_strategy
from quantcal.onnx.options import PANELS, OptionFlag, OptionInfo, QuantizeOptions

_KNOWN = QuantizeOptions.describe()
_PARAMETER = "flags"


class Flags:
    """The flags of a command as they were given; None for those that were not."""

    def __init__(self, raw: Mapping[str, Any]) -> None:
        self._raw = dict(raw)

    def raw(self, *names: str) -> dict[str, Any]:
        """Return the values of options by the names of their flags, to refuse them."""
        return {flag_of(name).name: self._raw[name] for name in names}

    def values(self) -> dict[str, Any]:
        """Return the options that were given, as the library takes them.

        Raises
        ------
        typer.BadParameter
            If rules are wrong.
        CalibrationError
            If a policy file cannot be read.
        """
        given = {name: raw for name, raw in self._raw.items() if raw is not None}
        return dict(pair for name in given for pair in _values(name, given[name]))


def takes_flags(*names: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command the flags of these options in place of its parameter `flags`."""
    ordered = [
        name
        for panel in PANELS
        for name in _KNOWN
        if name in names and flag_of(name).panel == panel
    ]

    def change(command: Callable[..., None]) -> Callable[..., None]:
        signature = inspect.signature(command, eval_str=True)
        parameters: list[inspect.Parameter] = []
        for parameter in signature.parameters.values():
            if parameter.name == _PARAMETER:
                parameters += map(_parameter, ordered)
            else:
                parameters.append(parameter)

        @wraps(command)
        def wrapper(**arguments: Any) -> None:
            raw = {name: arguments.pop(name) for name in ordered}
            command(**arguments, **{_PARAMETER: Flags(raw)})

        wrapper.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
        wrapper.__annotations__ = {each.name: each.annotation for each in parameters}
        return wrapper

    return change


def flag_of(name: str) -> OptionFlag:
    """Return the flag of an option."""
    flag = _KNOWN[name].flag
    assert flag is not None, name
    return flag


def option_of(name: str, *, model: bool = True) -> Any:
    """Return what typer needs to know of the flag of an option.

    `model` says whether the command reads a model.
    """
    flag = flag_of(name)
    more = f" {flag.for_models}" if model and flag.for_models else ""
    return typer.Option(
        flag.name,
        *([flag.short] if flag.short else []),
        metavar=flag.metavar or "|".join(_words(name)) or None,
        rich_help_panel=flag.panel,
        show_default=flag.shown,
        help=f"{flag.help}{more}",
        min=flag.minimum,
        max=flag.maximum,
    )


def _parameter(name: str) -> inspect.Parameter:
    annotation: Any = Annotated[_type(name, _KNOWN[name]) | None, option_of(name)]
    kind = inspect.Parameter.KEYWORD_ONLY
    return inspect.Parameter(name, kind, default=None, annotation=annotation)


def _type(name: str, info: OptionInfo) -> Any:
    flag = flag_of(name)
    if flag.repeated:
        return list[str]
    if words := _words(name):
        title = "".join(map(str.title, name.split("_")))
        return Enum(title, {word: word for word in words}, type=str)
    return bool if "/" in flag.name else int


def _words(name: str) -> tuple[str, ...]:
    """Return the words that an option takes; empty where it takes others."""
    flag = flag_of(name)
    if flag.repeated:
        return ()
    return _KNOWN[name].choices or tuple(flag.words or ())


def _values(name: str, raw: Any) -> Iterator[tuple[str, Any]]:
    """Yield the options that a flag gives, with their values."""
    flag = flag_of(name)
    if name == "strategy":
        yield name, parse_strategy(raw)
    elif flag.rules is not None:
        plain, rules = parse_rules(raw, flag.name, "format")
        # Both, so that the flag replaces all that a file says about these formats.
        yield name, plain
        yield flag.rules, rules or None
    elif flag.repeated and _KNOWN[name].choices:
        yield name, [each for text in raw for each in text.split(",")]
    elif isinstance(raw, Enum):
        yield name, flag.words[raw.value] if flag.words else raw.value
    elif flag.unit != 1:
        yield name, raw * flag.unit
    else:
        yield name, raw
