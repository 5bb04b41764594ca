"""The formats that histograms and tables are for: as options, and as advice."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from quantcal._core import CalibrationError
from quantcal.calibrator import Calibrator
from quantcal.onnx._plan.option_values import (
    ACTIVATIONS,
    NONE,
    PLACEMENTS,
    check_known,
    is_float,
)
from quantcal.onnx._plan.options import Options
from quantcal.onnx._plan.weight_budget import plan_within

if TYPE_CHECKING:
    from quantcal.onnx._plan.prepare import Prepared


def activation_from_histograms(
    calibrator: Calibrator | None, target: str
) -> tuple[str | None, dict[str, str]]:
    """Return the activation that histograms were observed for, and the tensors of another.

    Only formats of the target count, and tensors that were observed for one alone. None and
    no tensor when that leaves nothing.
    """
    known = _formats_of(target)
    formats = {
        name: several[0]
        for name, several in (calibrator.formats if calibrator else {}).items()
        if len(several) == 1 and several[0] in known
    }
    if not formats:
        return None, {}
    usual = _most_common(formats)
    return usual, {name: each for name, each in formats.items() if each != usual}


def activation_from_table(formats: Mapping[str, str], target: str) -> str | None:
    """Return the activation of a table: the format of most of its ranges; None if empty.

    Raises
    ------
    CalibrationError
        If the target has no such format; says which to compute the table with.
    """
    check_known("target", target, ACTIVATIONS)
    if not formats:
        return None
    usual = _most_common(formats)
    if usual not in _formats_of(target):
        raise CalibrationError(
            f"The table's ranges are for {usual}; {format_mismatch(target)}"
        )
    return usual


def format_mismatch(target: str) -> str:
    """Return the end of a sentence on a range of another format than a target's."""
    known = _formats_of(target)
    given = f"--target {target} " if target != next(iter(ACTIVATIONS)) else ""
    return (
        f"models for {target} are written with {', '.join(known)} activations. Choose the "
        f'ranges with format="{known[0]}" (quantcal compute --format {known[0]}), from '
        f"histograms that were observed for it (quantcal observe {given}"
        f"--activation-type {known[0]})."
    )


def suggest_options(
    prepared: Prepared, known: Collection[str], formats: Collection[str], *, table: bool
) -> str:
    """Return for which other options the known tensors are all that is needed.

    Parameters
    ----------
    prepared : Prepared
        Of options for which a tensor is missing.
    known : collection of str
        The tensors with a range or a histogram.
    formats : collection of str
        Formats that they are for.
    table : bool
        Whether they have ranges: then their format was chosen already.

    Returns
    -------
    str
        A sentence with a space before it; empty when there are no such options.
    """
    parts: dict[str, str] = {}
    for options in _others(prepared.options, formats):
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
            parts[target] = f'for format="{name}" (quantcal compute --format {name})'
        else:
            parts[target] = f'for activation_type="{name}" (--activation-type {name})'
    return f" What is there suffices {', or '.join(parts.values())}." if parts else ""


def _others(now: Options, formats: Collection[str]) -> list[Options]:
    """Return other options, those of the same target first.

    Small floats need so few tensors that they nearly always suffice, so they are only
    thought of where something was for them.
    """
    pairs = [
        (target, name)
        for target in sorted(ACTIVATIONS, key=lambda each: each != now.target)
        for name in _formats_of(target)
        if (target, name) != (now.target, now.activation_type)
        and (name in formats or not is_float(name))
    ]
    others = [
        replace(
            now, target=target, activation_type=name, activation_formats={}, given={}
        )
        for target, name in pairs
    ]
    if now.placement != PLACEMENTS[0]:  # the usual one rounds fewer tensors
        others.insert(0, replace(now, placement=PLACEMENTS[0]))
    return others


def _suffices(
    prepared: Prepared, options: Options, known: Collection[str], *, table: bool
) -> bool:
    """Whether a plan with other options needs known tensors only."""
    try:
        plan = plan_within(replace(prepared.request(), options=options))
    except CalibrationError:
        return False

    def has(name: str) -> bool:
        # A histogram serves all tensors of its group, a range only its own.
        also = () if table else plan.sources[name]
        return name in known or any(source in known for source in also)

    return all(map(has, prepared.outside(plan.tensors)))


def _formats_of(target: str) -> tuple[str, ...]:
    return tuple(name for name in ACTIVATIONS.get(target, ()) if name != NONE)


def _most_common(formats: Mapping[str, str]) -> str:
    return Counter(formats.values()).most_common(1)[0][0]
