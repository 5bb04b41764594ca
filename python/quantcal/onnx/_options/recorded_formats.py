"""Infer the activation type from the formats that histograms or a table are intended for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from quantcal._core import CalibrationError
from quantcal.calibrator import Calibrator
from quantcal.onnx._options.values import (
    ACTIVATIONS,
    NONE,
    check_known,
)


def activation_from_histograms(
    calibrator: Calibrator | None, target: str
) -> tuple[str | None, dict[str, str]]:
    """Return the usual format that histograms are intended for, and tensors with another.

    Only formats of the target count, and only tensors with a single intended format. The
    result is None and no tensor if none is left.
    """
    known = activation_formats_of(target)
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
    """Return the format of most ranges of a table; None if the table is empty.

    Raises
    ------
    CalibrationError
        If the target has no such format; the message says which formats it has.
    """
    check_known("target", target, ACTIVATIONS)
    if not formats:
        return None
    usual = _most_common(formats)
    if usual not in activation_formats_of(target):
        raise CalibrationError(
            f"The table's ranges are for {usual}; {format_mismatch(target)}"
        )
    return usual


def format_mismatch(target: str) -> str:
    """Return the end of a sentence about a range whose format the target lacks."""
    known = activation_formats_of(target)
    given = f"--target {target} " if target != next(iter(ACTIVATIONS)) else ""
    return (
        f"models for {target} are written with {', '.join(known)} activations. Choose the "
        f'ranges with format="{known[0]}" (quantcal compute --activation-type {known[0]}), '
        f"from histograms that were observed for it (quantcal observe {given}"
        f"--activation-type {known[0]})."
    )


def activation_formats_of(target: str) -> tuple[str, ...]:
    """Return the formats of rounded activations for a target, the default first."""
    return tuple(name for name in ACTIVATIONS.get(target, ()) if name != NONE)


def _most_common(formats: Mapping[str, str]) -> str:
    return Counter(formats.values()).most_common(1)[0][0]
