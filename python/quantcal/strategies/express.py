"""Strategies as plain data: what `registry.resolve` makes into the same strategy again."""

from __future__ import annotations

import dataclasses
from typing import Any

from quantcal._core import CalibrationError
from quantcal.strategies.base import Strategy
from quantcal.strategies.percentile import Percentile
from quantcal.strategies.registry import factories, names, resolve


def express(strategy: Strategy) -> str | dict[str, Any]:
    """Return a strategy's name, or its name and options: {"strategy": "kl", "num_bins": 512}.

    Raises
    ------
    CalibrationError
        If it has no name, as strategies of one's own, or an option that is not a bool, a
        number or text.
    """
    written = _written(strategy)
    if written is None:
        msg = (
            f"{strategy!r} cannot be written as text; strategies that can: "
            f"{', '.join(names())}"
        )
        raise CalibrationError(msg)
    return written


def _written(strategy: Strategy) -> str | dict[str, Any] | None:
    known = {factory: name for name, factory in reversed(factories().items())}
    name = known.get(type(strategy))
    if name is None:
        return None
    options = {
        field.name: getattr(strategy, field.name)
        for field in dataclasses.fields(strategy)  # type: ignore[arg-type]
        if getattr(strategy, field.name) != field.default
    }
    if any(
        not isinstance(value, (bool, int, float, str)) for value in options.values()
    ):
        return None
    if isinstance(strategy, Percentile) and set(options) <= {"percentile"}:
        name, options = f"{name}_{float(strategy.percentile)!r}", {}
    if resolve(name, **options) != strategy:
        return None
    return {"strategy": name, **options} if options else name
