"""Tries remedies on one tensor, and measures them on samples that did not propose them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from quantcal.advice.result import Remedy
from quantcal.advice.search import Halves, LossMeter


def try_remedies(
    meter: LossMeter,
    names: Sequence[str],
    guilty: str,
    halves: Halves,
    *,
    ranges: Mapping[str, str],
    others: Mapping[str, str],
) -> tuple[Remedy, ...]:
    """Return what helps one tensor while all others stay quantized, the lowest loss first.

    Of the ranges only the best on the proposing samples is measured on the confirming ones.

    Parameters
    ----------
    meter
        Measures losses.
    names
        All tensors.
    guilty
        The tensor.
    halves
        The samples.
    ranges
        Strategy → the name under which `meter` quantizes the tensor with its range.
    others
        Remedy → the same for other remedies, such as 16 bits.

    Raises
    ------
    OutOfTimeError
        If the time limit has passed.
    """
    rest = [name for name in names if name != guilty]
    before = meter(names, halves.confirming)
    changed = {"float": rest}
    changed |= {remedy: [*rest, variant] for remedy, variant in others.items()}
    losses = {s: meter([v], halves.proposing) for s, v in ranges.items()}
    best = min(losses, key=losses.__getitem__, default=None)
    if best is not None and losses[best] < meter([guilty], halves.proposing):
        changed[f"range {best}"] = [*rest, ranges[best]]
    found = []
    for remedy, quantized in changed.items():
        loss = meter(quantized, halves.confirming)
        found.append(Remedy.of(remedy, before, loss, len(halves.confirming)))
    return tuple(sorted(found, key=lambda tried: tried.loss))
