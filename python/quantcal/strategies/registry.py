"""Strategies by name."""

from __future__ import annotations

import dataclasses
import difflib
import numbers
from collections.abc import Callable, Mapping
from typing import Any

from quantcal._core import CalibrationError
from quantcal._text import shown
from quantcal.strategies.aciq import ACIQ
from quantcal.strategies.auto import Auto
from quantcal.strategies.base import Strategy
from quantcal.strategies.entropy import MaxEntropy
from quantcal.strategies.fixed import Fixed, softmax
from quantcal.strategies.kl import KL
from quantcal.strategies.minmax import MinMax
from quantcal.strategies.mse import MSE
from quantcal.strategies.percentile import Percentile
from quantcal.strategies.presets import NAMED


def _adaptive() -> Percentile:
    return Percentile(adaptive=True)


_BY_NAME: dict[str, Callable[..., Strategy]] = {
    "auto": Auto,
    "minmax": MinMax,
    "percentile": Percentile,
    "percentile_adaptive": _adaptive,
    "kl": KL,
    "kl_divergence": KL,
    "mse": MSE,
    "entropy": MaxEntropy,
    "max_entropy": MaxEntropy,
    "aciq": ACIQ,
    "fixed": Fixed,
    "softmax": softmax,
}


def register(name: str, factory: Callable[..., Strategy]) -> None:
    """Add a strategy that is made of others, and so imports this module."""
    _BY_NAME[name] = factory


def names() -> list[str]:
    """Return the names that `resolve` knows."""
    return [*_BY_NAME, "percentile_<number>"]


def plain_names() -> list[str]:
    """Return the first name of each strategy that needs no options."""
    first: dict[Callable[..., Strategy], str] = {}
    for name, factory in _BY_NAME.items():
        if not _required(factory):
            first.setdefault(factory, name)
    return list(first.values())


def factories() -> dict[str, Callable[..., Strategy]]:
    """Return the factories of strategies, by name."""
    return dict(_BY_NAME)


def resolve(strategy: str | Strategy, **options: Any) -> Strategy:
    """Return a strategy object for a name or an object.

    Parameters
    ----------
    strategy
        A name such as "mse" or "percentile_99.9", or an object, which is returned as it is.
    options
        Passed to the named strategy, for instance `percentile=99.9`.

    Raises
    ------
    CalibrationError
        If the name or an option is not known; the message lists what exists.
    TypeError
        If `strategy` is neither a name nor a strategy object, an option is of a wrong type,
        or options are given to an object.
    """
    if not isinstance(strategy, str):
        return _as_object(strategy, options)
    factory = _BY_NAME.get(strategy)
    if factory is not None:
        return _create(strategy, factory, options)
    prefix, _, number = strategy.partition("percentile_")
    if not prefix and number and "_" not in number:  # which float() ignores
        try:
            percentile = float(number)
        except ValueError:
            pass
        else:
            return _create(strategy, Percentile, {"percentile": percentile, **options})
    if strategy in NAMED:
        msg = (
            f'"{strategy}" is a policy, not a strategy. Give it alone, or after other '
            f'rules: Policy({{…}}) + Policy.named("{strategy}").'
        )
        raise CalibrationError(msg)
    close = difflib.get_close_matches(strategy.lower(), [*_BY_NAME, *NAMED], n=1)
    hint = f' Did you mean "{close[0]}"?' if close else ""
    msg = (
        f'Strategy "{strategy}" is not known.{hint} Known: {", ".join(names())}; '
        f"policies: {', '.join(NAMED)}."
    )
    raise CalibrationError(msg)


def strategy_of(given: Any) -> Strategy:
    """Return a rule's strategy from a name, an object, or a mapping with its options.

    Raises
    ------
    CalibrationError
        If the name or an option is not known, or the mapping has no name.
    TypeError
        If it is none of these, or an option is of a wrong type.
    """
    if not isinstance(given, Mapping):
        return resolve(given)
    options = dict(given)
    if "strategy" not in options:
        msg = (
            f'{options} has no "strategy"; give a name and its options, such as '
            '{"strategy": "mse", "p": 2.4}'
        )
        raise CalibrationError(msg)
    return resolve(options.pop("strategy"), **options)


def _as_object(strategy: Any, options: dict[str, Any]) -> Strategy:
    if isinstance(strategy, type) or not isinstance(strategy, Strategy):
        msg = (
            f"{shown(strategy)} is not a strategy; give a name ({', '.join(names())}) "
            "or an object such as quantcal.MSE()"
        )
        raise TypeError(msg)
    if options:
        given = ", ".join(options)
        msg = f"options ({given}) go with a name; {strategy!r} carries its own"
        raise TypeError(msg)
    return strategy


def _create(
    name: str, factory: Callable[..., Strategy], options: dict[str, Any]
) -> Strategy:
    known: dict[str, Any] = getattr(factory, "__dataclass_fields__", {})
    for option, value in options.items():
        if option not in known:
            takes = f"it takes {', '.join(known)}" if known else "it takes none"
            msg = f'Strategy "{name}" has no option "{option}"; {takes}.'
            raise CalibrationError(msg)
        wanted = _mistyped(known[option], value)
        if wanted:
            msg = f'Strategy "{name}": {option} is {shown(value)}, but it must be {wanted}.'
            raise TypeError(msg)
    missing = [option for option in _required(factory) if option not in options]
    if missing:
        msg = f'Strategy "{name}" needs {" and ".join(missing)}.'
        raise CalibrationError(msg)
    return factory(**options)


def _required(factory: Callable[..., Strategy]) -> list[str]:
    """Return the options of a strategy that have no default."""
    known: dict[str, Any] = getattr(factory, "__dataclass_fields__", {})
    return [
        option
        for option, field in known.items()
        if field.default is dataclasses.MISSING
        and field.default_factory is dataclasses.MISSING
    ]


def _mistyped(field: dataclasses.Field[Any], value: Any) -> str | None:
    """Return the required type of an option if its value has another type.

    Only annotations of one simple type are checked here; a strategy checks the others.
    """
    types: dict[str, tuple[type, str]] = {
        "bool": (bool, "True or False"),
        "int": (numbers.Integral, "a whole number"),
        "float": (numbers.Real, "a number"),
        "str": (str, "text"),
    }
    kind = getattr(field.type, "__name__", field.type)
    if kind not in types:
        return None
    allowed, wanted = types[kind]
    fits = isinstance(value, allowed) and isinstance(value, bool) <= (kind == "bool")
    return None if fits else wanted
