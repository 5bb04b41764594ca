"""A run's choices in a TOML file: written for reproduction, read to repeat the run.

The same file, model and data give the same bytes. What decides nothing about the result
(paths, memory, progress) is not in it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from quantcal._core import CalibrationError
from quantcal._io.files import write_text
from quantcal.onnx._plan.names import near
from quantcal.onnx._plan.options import Options
from quantcal.strategies.policy import Policy
from quantcal.strategies.policy_file import load_toml, rules_of, to_toml

_TEXT, _BOOL, _INT, _LIST, _TABLE = (
    "text",
    "true or false",
    "a whole number",
    "a list of text",
    "a table of text",
)
KEYS: dict[str, str | tuple[str, ...]] = {
    "strategy": _TEXT,
    "target": _TEXT,
    "activation": _TEXT,
    "weight": _TEXT,
    "weight_strategy": _TEXT,
    "block_size": _INT,
    "per_channel": _BOOL,
    "reduce_range": (_BOOL, _TEXT, _LIST),
    "cpu": _TEXT,
    "placement": _TEXT,
    "op_types": _LIST,
    "include": _LIST,
    "exclude": _LIST,
    "mantissa_bits": _INT,
    "on_nonfinite": _TEXT,
    "formats": _TABLE,
    "weight_formats": _TABLE,
    "rules": "a list of rules, each with a pattern and a strategy",
}
"""The keys of a file, and what they hold; all are optional."""


def read_config(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read a file of choices, as :func:`quantcal.onnx.quantize` takes them by keyword.

    Parameters
    ----------
    path : path
        A TOML file whose keys are options of ``quantize``: ``target``, ``activation``,
        ``weight``, ``weight_strategy``, ``block_size``, ``per_channel``,
        ``reduce_range``, ``cpu``, ``placement``, ``op_types``, ``include``, ``exclude``,
        ``mantissa_bits``, ``on_nonfinite``, the tables ``formats`` and
        ``weight_formats``, and ``strategy`` or ``rules`` as in a policy file. What is
        missing keeps its default.

    Raises
    ------
    CalibrationError
        When it cannot be read, or a key or its type is wrong; lists near keys.

    Examples
    --------
    >>> chosen = qc.onnx.read_config("model.int8.quantcal.toml")
    >>> result = qc.onnx.quantize("model.onnx", "again.onnx", "calibration/", **chosen)
    """
    content = load_toml(path)
    for key, value in content.items():
        if key not in KEYS:
            raise CalibrationError(
                f'{path}: key "{key:.50}" is not known. {near(key, KEYS)}'
            )
        known = KEYS[key]
        kinds = known if isinstance(known, tuple) else (known,)
        if not any(_is(value, kind) for kind in kinds):
            raise CalibrationError(
                f"{path}: {key} must be {' or '.join(kinds)}, not {value!r:.60}"
            )
    if "rules" in content:
        if "strategy" in content:
            raise CalibrationError(
                f'{path}: there are "strategy" and "rules". Give one; a rule for "*" '
                "decides for the rest."
            )
        rules = {"rules": content.pop("rules")}
        try:
            content["strategy"] = Policy(rules_of(rules, "TOML"))
        except CalibrationError as error:
            raise CalibrationError(f"{path}: {error}") from error
    return content


def _is(value: object, kind: str) -> bool:
    if kind == _TEXT:
        return isinstance(value, str)
    if kind == _BOOL:
        return isinstance(value, bool)
    if kind == _INT:
        return isinstance(value, int) and not isinstance(value, bool)
    if kind == _LIST:
        return isinstance(value, list) and all(isinstance(v, str) for v in value)
    if kind == _TABLE:
        return isinstance(value, dict) and all(
            isinstance(v, str) for v in value.values()
        )
    return isinstance(value, list)


def config_text(
    options: Options,
    policy: Policy,
    more: Mapping[str, Any],
    remarks: Mapping[str, str],
) -> str:
    """Return the text of a file that repeats a run.

    Parameters
    ----------
    options : Options
        With ``reduce_range`` settled, as another machine might decide otherwise.
    policy : Policy
        As it was given, with ``node:`` patterns.
    more : mapping
        Other keys; those that are None are left out.
    remarks : mapping of str to str
        Comments behind keys; "" goes to the top.

    Raises
    ------
    CalibrationError
        When a strategy is one of the caller's own, which text cannot hold.
    """
    values: dict[str, Any] = {
        name: getattr(options, name) for name in KEYS if hasattr(options, name)
    }
    values |= {name: value for name, value in more.items() if value is not None}
    tables = {name: values.pop(name) for name in ("formats", "weight_formats")}
    rules = policy.to_dict()
    if list(rules) == ["*"] and isinstance(rules["*"], str):
        values["strategy"], rules = rules["*"], {}
    lines = [f"# {line}" for line in remarks.get("", "").splitlines()]
    for name in KEYS:
        if name in values:
            remark = f"  # {remarks[name]}" if name in remarks else ""
            lines.append(f"{name} = {_value(values[name])}{remark}")
    for name, table in tables.items():
        if table:
            lines += ["", f"[{name}]"]
            lines += [
                f"{_value(key)} = {_value(value)}" for key, value in table.items()
            ]
    for pattern, strategy in rules.items():
        entry = {"strategy": strategy} if isinstance(strategy, str) else strategy
        lines += ["", "[[rules]]", f"pattern = {to_toml(pattern)}"]
        lines += [f"{key} = {to_toml(value)}" for key, value in entry.items()]
    return "\n".join(lines) + "\n"


def _value(value: Any) -> str:
    if isinstance(value, (tuple, list)):
        return "[" + ", ".join(map(to_toml, value)) + "]"
    return to_toml(value)


def save_config(text: str, path: str | os.PathLike[str]) -> None:
    """Write the text of a file, atomically."""
    write_text(Path(path), text)
