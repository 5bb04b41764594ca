"""A run's options in a TOML file: written for reproduction, read to repeat the run.

The same file, model and samples give the same bytes. The file holds no option that does
not change the result, such as memory and progress, and no paths. It must be valid alone, so
that each error names it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from quantcal._core import CalibrationError
from quantcal._io.files import write_text
from quantcal.onnx._options.info import BOOL, INT, LIST, TABLE, TEXT
from quantcal.onnx._options.names import near
from quantcal.onnx._options.quantize_options import QuantizeOptions
from quantcal.onnx._options.resolved import Options
from quantcal.strategies.policy import Policy
from quantcal.strategies.policy_file import load_toml, rules_of, to_toml

_RULES = "a list of rules, each with a pattern and a strategy"
_KINDS = {
    name: info.toml for name, info in QuantizeOptions.describe().items() if info.toml
}
_OF_THE_CALL = QuantizeOptions.describe().keys() - _KINDS.keys()
_TABLES = [name for name, kinds in _KINDS.items() if TABLE in kinds]
# In TOML, tables stand behind everything else.
KEYS: dict[str, tuple[str, ...]] = {
    **{name: kinds for name, kinds in _KINDS.items() if name not in _TABLES},
    **{name: _KINDS[name] for name in _TABLES},
    "rules": (_RULES,),
}
"""The keys of a file, and what they hold; all are optional."""


def read_config(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read a file of options, as :func:`quantcal.onnx.quantize` takes them by keyword.

    Parameters
    ----------
    path
        A TOML file whose keys are options of ``quantize`` that change the result:
        ``strategy`` to ``on_nonfinite`` without ``check_stability``, ``observer`` and
        ``max_memory``. ``activation_formats`` and ``weight_formats`` are tables.
        ``rules`` may stand for ``strategy``, as in a policy file. What is missing keeps
        its default. The result is a dict, in which a value replaces one option:
        ``weight_type`` leaves ``weight_formats`` as they are.

    Raises
    ------
    CalibrationError
        When it cannot be read, or a key or a value is wrong; names the file, and lists near
        keys.

    Examples
    --------
    >>> chosen = qc.onnx.read_config("model.int8.quantcal.toml")
    >>> result = qc.onnx.quantize("model.onnx", "again.onnx", "calibration/", **chosen)
    """
    content = load_toml(path)
    for key, value in content.items():
        if key in _OF_THE_CALL:
            raise CalibrationError(f"{path}: {_of_the_call(key)}")
        if key not in KEYS:
            raise CalibrationError(
                f'{path}: key "{key:.50}" is not known. {near(key, KEYS)}'
            )
        kinds = KEYS[key]
        if not any(_is(value, kind) for kind in kinds):
            raise CalibrationError(
                f"{path}: {key} must be {' or '.join(kinds)}, not {value!r:.60}"
            )
    if "rules" in content and "strategy" in content:
        raise CalibrationError(
            f'{path}: there are "strategy" and "rules". Give one; a rule for "*" '
            "decides for the rest."
        )
    try:
        if "rules" in content:
            rules = {"rules": content.pop("rules")}
            content["strategy"] = Policy(rules_of(rules, "TOML"))
        options = QuantizeOptions(**content)
        Policy.of(options.strategy)  # an unknown name is refused here
    except CalibrationError as error:
        raise CalibrationError(f"{path}: {error}") from error
    return content


def _of_the_call(key: str) -> str:
    """Return why an option is no key of a file, and where it is given."""
    flag = QuantizeOptions.describe()[key].flag
    where = f"{key}= of the call" + (f" ({flag.name})" if flag else "")
    return (
        f'"{key}" is an option of a call, as it does not change the model. Leave it out of '
        f"the file and give it by {where}."
    )


def _is(value: object, kind: str) -> bool:
    if kind == TEXT:
        return isinstance(value, str)
    if kind == BOOL:
        return isinstance(value, bool)
    if kind == INT:
        return isinstance(value, int) and not isinstance(value, bool)
    if kind == LIST:
        return isinstance(value, list) and all(isinstance(v, str) for v in value)
    if kind == TABLE:
        return isinstance(value, dict) and all(
            isinstance(v, str) for v in value.values()
        )
    return isinstance(value, list)


def config_text(
    options: Options,
    policy: Policy | None,
    more: Mapping[str, Any],
    remarks: Mapping[str, str],
) -> str:
    """Return the text of a file that repeats a run.

    Parameters
    ----------
    options
        With ``reduce_range`` settled, as another machine might choose another value.
    policy
        As it was given, with ``node:`` patterns; None leaves the strategies out.
    more
        Values of keys that replace those of the options; None leaves a key out.
    remarks
        Comments behind keys; "" is the comment at the top.

    Raises
    ------
    CalibrationError
        When a strategy is the caller's own object, which text cannot hold.
    """
    values = {name: getattr(options, name) for name in _KINDS if name != "strategy"}
    values |= more
    tables = {name: values.pop(name) for name in _TABLES}
    rules = policy.to_dict() if policy is not None else {}
    if list(rules) == ["*"] and isinstance(rules["*"], str):
        values["strategy"], rules = rules["*"], {}
    lines = [f"# {line}" for line in remarks.get("", "").splitlines()]
    for name in KEYS:
        if values.get(name) is not None:
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


def save_options(
    path: str | os.PathLike[str], options: QuantizeOptions, exclude: Sequence[str]
) -> None:
    """Write options for a run that leaves more nodes in float, atomically.

    Parameters
    ----------
    path
    options
        Those of the earlier run.
    exclude
        Names of nodes, in addition to those of ``options``.

    Raises
    ------
    CalibrationError
        When a strategy is the caller's own object, or the file cannot be written.
    """
    names = tuple(dict.fromkeys((*options.exclude, *exclude)))
    filled = replace(Options.of(options), exclude=names)
    top = "To apply it: quantcal quantize MODEL -o OUT --samples SAMPLES --config THIS"
    text = config_text(filled, Policy.of(options.strategy), {}, {"": top})
    write_text(Path(path), text)


def _value(value: Any) -> str:
    if isinstance(value, (tuple, list)):
        return "[" + ", ".join(map(to_toml, value)) + "]"
    return to_toml(value)


def save_config(text: str, path: str | os.PathLike[str]) -> None:
    """Write the text of a file, atomically."""
    write_text(Path(path), text)
