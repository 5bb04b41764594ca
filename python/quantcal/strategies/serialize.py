"""Strategies as plain data: a name, or a name with options, for dicts and files."""

from __future__ import annotations

import dataclasses
from typing import Any

from quantcal._core import CalibrationError
from quantcal.strategies.base import Strategy
from quantcal.strategies.percentile import Percentile
from quantcal.strategies.registry import factories, names, resolve


def serialize_strategy(strategy: Strategy) -> str | dict[str, Any]:
    """Return a strategy's name, or its name and options: {"strategy": "kl", "num_bins": 512}.

    Raises
    ------
    CalibrationError
        If it is a custom strategy, or has an option that is not a bool, a number, text or
        another strategy that can be written.
    """
    written = _written(strategy)
    if written is None:
        msg = (
            f"{strategy!r} cannot be written as text; strategies that can: "
            f"{', '.join(names())}"
        )
        raise CalibrationError(msg)
    return written


def _plain(value: Any) -> Any:
    """Return an option's value; a strategy in it is serialized like any other."""
    return _written(value) if isinstance(value, Strategy) else value


def _written(strategy: Strategy) -> str | dict[str, Any] | None:
    known = {factory: name for name, factory in reversed(factories().items())}
    name = known.get(type(strategy))
    if name is None or not dataclasses.is_dataclass(strategy):
        return None
    options = {
        field.name: _plain(getattr(strategy, field.name))
        for field in dataclasses.fields(strategy)
        if getattr(strategy, field.name) != field.default
    }
    if any(
        not isinstance(value, (bool, int, float, str, dict))
        for value in options.values()
    ):
        return None
    if isinstance(strategy, Percentile) and set(options) <= {"percentile"}:
        name, options = f"{name}_{float(strategy.percentile)!r}", {}
    if resolve(name, **options) != strategy:
        return None
    return {"strategy": name, **options} if options else name
