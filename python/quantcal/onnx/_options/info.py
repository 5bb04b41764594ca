"""What is known of one option: its text, its choices, its place in a file and its flag."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

TEXT = "text"
BOOL = "true or false"
INT = "a whole number"
LIST = "a list of text"
TABLE = "a table of text"
"""What a TOML file holds for an option, as errors name it."""

_KEY = "option"


@dataclass(frozen=True, slots=True)
class OptionFlag:
    """How the command line takes an option.

    Attributes
    ----------
    name
        Such as ``"--target"`` or ``"--per-channel/--per-tensor"``.
    panel
        The group in ``--help``.
    help
        The text in ``--help``.
    shown
        The default in ``--help``, with its reason.
    metavar
        What stands for the value.
    short
        A second name of one letter.
    repeated
        Whether it may be given several times.
    rules
        The option that takes ``PATTERN=VALUE``, where this flag takes such rules too.
    words
        Values by the words that stand for them, where these are not the choices.
    unit
        The value is multiplied by it.
    minimum, maximum
        Limits of a number.
    for_models
        More of the help, for commands that read a model.
    """

    name: str
    panel: str
    help: str
    shown: str
    metavar: str | None = None
    short: str | None = None
    repeated: bool = False
    rules: str | None = None
    words: Mapping[str, object] | None = None
    unit: int = 1
    minimum: int | None = None
    maximum: int | None = None
    for_models: str = ""


@dataclass(frozen=True, slots=True)
class OptionInfo:
    """What is known of an option.

    Attributes
    ----------
    doc
        The text in docstrings.
    toml
        The kinds of values in a TOML file; empty for what does not change the result.
    choices
        All values, where there are few.
    flag
        Its flag; None for what the command line does not take, or takes with another.
    """

    doc: str
    toml: tuple[str, ...] = ()
    choices: tuple[str, ...] = ()
    flag: OptionFlag | None = None


def option(
    default: Any,
    doc: str,
    *,
    toml: str | Sequence[str] = (),
    choices: Sequence[str] = (),
    flag: OptionFlag | None = None,
) -> Any:
    """Return the field of a dataclass that knows all of this about an option."""
    kinds = (toml,) if isinstance(toml, str) else tuple(toml)
    info = OptionInfo(doc, kinds, tuple(choices), flag)
    return field(default=default, metadata={_KEY: info})


def info_of(metadata: Mapping[str, Any]) -> OptionInfo | None:
    """Return what is known of a field; None when it is no option."""
    return metadata.get(_KEY)
