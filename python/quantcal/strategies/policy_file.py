"""Policies in files: TOML or JSON with a list of rules."""

from __future__ import annotations

import difflib
import json
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from quantcal._core import CalibrationError
from quantcal._io.files import read_bytes, write_text
from quantcal._io.json_text import parse_json
from quantcal._io.toml_text import parse_toml
from quantcal.strategies.base import Strategy
from quantcal.strategies.patterns import Pattern
from quantcal.strategies.registry import strategy_of

_EXAMPLE = 'rules = [{pattern = "*", strategy = "mse"}]'

# Rules for twenty thousand tensors; parsed, a file takes up to a hundred times its size.
_LARGEST = 2_000_000


def read(path: str | os.PathLike[str]) -> list[tuple[str, Strategy]]:
    """Return the rules of a file, in order. `Policy.load` documents it.

    Raises
    ------
    CalibrationError
        If the file cannot be read or anything in it is wrong.
    """
    parse = _known_kind(path, {".toml": parse_toml, ".json": parse_json})
    content = _load(path, parse)
    try:
        return rules_of(content, Path(path).suffix[1:].upper())
    except CalibrationError as error:
        msg = f"{path}: {error}"
        raise CalibrationError(msg) from error


def load_toml(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Return what a TOML file holds.

    Raises
    ------
    CalibrationError
        If it cannot be read or is not TOML.
    """
    content: dict[str, Any] = _load(path, parse_toml)
    return content


def _load(path: str | os.PathLike[str], parse: Callable[[str], Any]) -> Any:
    data = read_bytes(Path(path), _LARGEST)
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        msg = f"{path} is not UTF-8 text: byte {error.start} is {data[error.start]:#x}"
        raise CalibrationError(msg) from error
    try:
        return parse(text)
    except ValueError as error:
        kind = "JSON" if parse is parse_json else "TOML"
        msg = f"{path} is not valid {kind}: {error}"
        raise CalibrationError(msg) from error


def write(
    path: str | os.PathLike[str], rules: Mapping[str, str | dict[str, Any]]
) -> None:
    """Write rules to a file, atomically. `Policy.save` documents it.

    Raises
    ------
    CalibrationError
        If the file is of another kind, or cannot be written.
    """
    text = _known_kind(path, {".toml": _to_toml, ".json": _to_json})
    entries = [
        {"pattern": pattern, **(_named(strategy))}
        for pattern, strategy in rules.items()
    ]
    write_text(Path(path), text(entries))


def _named(strategy: str | dict[str, Any]) -> dict[str, Any]:
    return {"strategy": strategy} if isinstance(strategy, str) else strategy


def _known_kind(
    path: str | os.PathLike[str], kinds: Mapping[str, Callable[..., Any]]
) -> Callable[..., Any]:
    suffix = Path(path).suffix.lower()
    if suffix not in kinds:
        msg = f"{path}: a policy file is called *.toml or *.json"
        raise CalibrationError(msg)
    return kinds[suffix]


def rules_of(content: Any, kind: str) -> list[tuple[str, Strategy]]:
    """Check the content of a file and return its rules."""
    if not isinstance(content, dict):
        msg = f'a policy is an object {{"rules": […]}}, not {_what(content)}'
        raise CalibrationError(msg)
    for key in content:
        if key != "rules":
            close = difflib.get_close_matches(key, ["rules"])
            hint = '. Did you mean "rules"?' if close else f"; {_shape(kind)}"
            msg = f'key "{key:.50}" is not known; a policy file has "rules" only{hint}'
            raise CalibrationError(msg)
    entries = content.get("rules", [])
    if not isinstance(entries, list):
        msg = f'"rules" must be a list of rules, not {_what(entries)}; {_shape(kind)}'
        raise CalibrationError(msg)
    if not entries:
        msg = f"there are no rules; {_shape(kind)}"
        raise CalibrationError(msg)
    rules: dict[str, Strategy] = {}
    numbers: dict[str, int] = {}
    for number, entry in enumerate(entries, 1):
        pattern = entry.get("pattern") if isinstance(entry, dict) else None
        label = f'rule {number} ("{pattern}")' if pattern else f"rule {number}"
        try:
            pattern, strategy = _rule(entry)
        except (CalibrationError, TypeError) as error:
            msg = f"{label}: {error}"
            raise CalibrationError(msg) from error
        if pattern in rules:
            msg = f"{label} has the pattern of rule {numbers[pattern]} again"
            raise CalibrationError(msg)
        rules[pattern], numbers[pattern] = strategy, number
    return list(rules.items())


def _rule(entry: Any) -> tuple[str, Strategy]:
    if not isinstance(entry, dict):
        msg = f"a rule must have a pattern and a strategy, but it is {_what(entry)}"
        raise CalibrationError(msg)
    for key in ("pattern", "strategy"):
        if key not in entry:
            has = ", ".join(f'"{other}"' for other in entry) or "nothing"
            msg = f'"{key}" is missing; the rule has {has}'
            raise CalibrationError(msg)
        if not isinstance(entry[key], str):
            msg = f'"{key}" must be text, not {_what(entry[key])}'
            raise CalibrationError(msg)
    options = dict(entry)
    pattern = options.pop("pattern")
    Pattern(pattern)
    return pattern, strategy_of(options)


def _shape(kind: str) -> str:
    example = (
        _EXAMPLE
        if kind == "TOML"
        else '{"rules": [{"pattern": "*", "strategy": "mse"}]}'
    )
    return f"write for instance: {example}"


def _what(value: Any) -> str:
    """Return the type of a value, in the terms of TOML and JSON, with its beginning."""
    if value is None:
        return "null"
    names = {
        dict: "a table",
        list: "a list",
        str: "text",
        bool: "a truth value",
        int: "a number",
        float: "a number",
    }
    text = repr(value)
    shown = text if len(text) <= 60 else f"{text[:57]}…"
    return f"{names.get(type(value), f'a {type(value).__name__}')}: {shown}"


def _to_json(entries: Iterable[Mapping[str, Any]]) -> str:
    content = {"rules": list(entries)}
    return json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def _to_toml(entries: Iterable[Mapping[str, Any]]) -> str:
    blocks = [
        "\n".join(["[[rules]]", *(f"{k} = {to_toml(v)}" for k, v in entry.items())])
        for entry in entries
    ]
    return "\n\n".join(blocks) + "\n"


def to_toml(value: Any) -> str:
    """Return a bool, a number, text or a mapping of these as TOML.

    Text with backslashes is literal where possible, so that they stay single.
    """
    if isinstance(value, dict):
        return "{" + ", ".join(f"{k} = {to_toml(v)}" for k, v in value.items()) + "}"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (int, float)):
        return repr(value)
    if "\\" in value and "'" not in value and value.isprintable():
        return f"'{value}'"
    # JSON's escapes are TOML's, but TOML also wants DEL escaped.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
