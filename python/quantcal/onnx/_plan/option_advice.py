"""Suggest other options if a tensor that the plan needs is missing."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from typing import TYPE_CHECKING

from quantcal._core import CalibrationError
from quantcal.onnx._options.recorded_formats import activation_formats_of
from quantcal.onnx._options.resolved import Options
from quantcal.onnx._options.values import ACTIVATIONS, PLACEMENTS, is_float
from quantcal.onnx._plan.weight_budget import plan_within

if TYPE_CHECKING:
    from quantcal.onnx._plan.preparation import Prepared


def suggest_options(
    prepared: Prepared, known: Collection[str], formats: Collection[str], *, table: bool
) -> str:
    """Return the other options for which the known tensors suffice.

    Parameters
    ----------
    prepared : Prepared
        The model with the options for which a tensor is missing.
    known : collection of str
        The tensors with a range or a histogram.
    formats : collection of str
        Formats that they are intended for.
    table : bool
        Whether they have ranges, so that their format is fixed.

    Returns
    -------
    str
        A sentence with a space before it; empty if there are no such options.
    """
    parts: dict[str, str] = {}
    for options in _other_options(prepared.options, formats):
        target, name = options.target, options.activation_type
        if target in parts or not _suffices(prepared, options, known, table=table):
            continue
        if options.placement != prepared.options.placement:
            parts[target] = f'for placement="{options.placement}"'
        elif target != prepared.options.target:
            if table and name != prepared.options.activation_type:
                continue  # its ranges are of another format
            parts[target] = f'for target="{target}" (--target {target})'
        elif table:
            parts[target] = (
                f'for format="{name}" (quantcal compute --activation-type {name})'
            )
        else:
            parts[target] = f'for activation_type="{name}" (--activation-type {name})'
    return (
        f" The given tensors suffice {', or '.join(parts.values())}." if parts else ""
    )


def _other_options(now: Options, formats: Collection[str]) -> list[Options]:
    """Return other options, those of the same target first.

    Small floats need few tensors, so they would suffice nearly always. They are suggested
    only if some tensor is intended for them.
    """
    pairs = [
        (target, name)
        for target in sorted(ACTIVATIONS, key=lambda each: each != now.target)
        for name in activation_formats_of(target)
        if (target, name) != (now.target, now.activation_type)
        and (name in formats or not is_float(name))
    ]
    others = [
        replace(
            now, target=target, activation_type=name, activation_formats={}, given={}
        )
        for target, name in pairs
    ]
    if now.placement != PLACEMENTS[0]:  # the default rounds fewer tensors
        others.insert(0, replace(now, placement=PLACEMENTS[0]))
    return others


def _suffices(
    prepared: Prepared, options: Options, known: Collection[str], *, table: bool
) -> bool:
    """Whether a plan with other options needs only known tensors."""
    try:
        plan = plan_within(replace(prepared.request(), options=options))
    except CalibrationError:
        return False

    def has(name: str) -> bool:
        # A histogram serves all tensors of its group, a range only one tensor.
        also = () if table else plan.sources[name]
        return name in known or any(source in known for source in also)

    return all(map(has, prepared.outside(plan.tensors)))
