"""Which input of a text model takes what: tokens, masks, segments, positions."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from quantcal._core import CalibrationError
from quantcal.data.inputs import Input, describe_input, is_float, is_integer, needed

# In this order: "input_mask" is a mask and "token_type_ids" are no tokens.
_ROLES = {
    "types": re.compile(r"token_?type|segment", re.IGNORECASE),
    "positions": re.compile(r"position", re.IGNORECASE),
    "mask": re.compile(r"mask", re.IGNORECASE),
    "ids": re.compile(r"ids|token|input", re.IGNORECASE),
}


@dataclass(frozen=True)
class TextPlan:
    """How a model takes texts.

    Attributes
    ----------
    roles
        Role → input. The roles are ids, mask, types and positions.
    batch
        How many texts a sample has.
    length
        The number of tokens that the model fixes; None for any.
    """

    roles: dict[str, Input]
    batch: int
    length: int | None


def plan_texts(inputs: Sequence[Input], constants: Iterable[str]) -> TextPlan:
    """Return how a model takes texts.

    Raises
    ------
    CalibrationError
        If an input is not known from texts, or two have the same role.
    """
    roles: dict[str, Input] = {}
    open_inputs = needed(inputs, constants)
    # An optional input is filled too if a tokenizer knows it.
    given = set(constants)
    optional = [s for s in inputs if not s.required and s.name not in given]
    for spec in [*open_inputs, *optional]:
        role = _role(spec)
        if role is not None and role not in roles:
            roles[role] = spec
        elif spec.required:
            raise CalibrationError(_unknown(spec, open_inputs))
    if "ids" not in roles:
        listed = ", ".join(map(describe_input, open_inputs)) or "no further input"
        raise CalibrationError(
            f"The model wants {listed}: none is for the numbers of tokens, such as "
            "'input_ids' int64 [N, length]. It does not take texts."
        )
    shapes = {spec.name: spec.shape for spec in roles.values()}
    batches = {shape[0] for shape in shapes.values() if shape} - {None}
    lengths = {shape[1] for shape in shapes.values() if shape} - {None}
    if len(batches) > 1 or len(lengths) > 1:
        raise CalibrationError(
            f"The inputs of tokens have different sizes: {shapes}. Make the samples by code: "
            "python:module:callable, which yields {input name: array}."
        )
    return TextPlan(roles, next(iter(batches), None) or 1, next(iter(lengths), None))


def is_text(inputs: Sequence[Input]) -> bool:
    """Return whether a model takes texts: all inputs have different roles."""
    roles = [_role(spec) for spec in inputs if spec.required]
    return "ids" in roles and None not in roles and len(set(roles)) == len(roles)


def _role(spec: Input) -> str | None:
    rank = None if spec.shape is None else len(spec.shape)
    if rank not in (None, 2):
        return None
    for role, pattern in _ROLES.items():
        if pattern.search(spec.name):
            fits = is_integer(spec) or (role == "mask" and _may_mask(spec))
            return role if fits else None
    return None


def _may_mask(spec: Input) -> bool:
    return is_float(spec) or (spec.dtype is not None and spec.dtype.kind == "b")


def _unknown(spec: Input, inputs: Sequence[Input]) -> str:
    listed = ", ".join(map(describe_input, inputs))
    return (
        f"The model wants {listed}. Texts give input_ids, attention_mask, token_type_ids "
        f"and position_ids, but not {spec.name!r}. Give what each sample has there: "
        f"constants={{{spec.name!r}: …}} (--constant {spec.name}=NUMBER)."
    )
