"""Strategies by name."""

from __future__ import annotations

import dataclasses
import difflib
import numbers
import re
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from quantcal._core import CalibrationError
from quantcal._format_names import format_name
from quantcal._text import shown
from quantcal.strategies.aciq import ACIQ
from quantcal.strategies.auto import Auto
from quantcal.strategies.base import Strategy
from quantcal.strategies.entropy import MaxEntropy
from quantcal.strategies.fixed import Fixed, softmax
from quantcal.strategies.kl import KL
from quantcal.strategies.minmax import MinMax
from quantcal.strategies.mse import MSE
from quantcal.strategies.name_text import bind, split
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


def is_name(text: str) -> bool:
    """Whether a text is the name of a strategy, with or without options."""
    call = split(text)
    return _plain(text if call is None else call.name) is not None


def resolve(strategy: str | Strategy, **options: Any) -> Strategy:
    """Return a strategy object for a name or an object.

    Parameters
    ----------
    strategy
        A name such as "mse" or "percentile_99.9", in upper or lower case. What tables show
        is a name too: "mse(p=3)", "aciq(gauss)". Or an object, which is returned as it is.
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
    found = _plain(strategy) or _called(strategy)
    if found is not None:
        factory, implied = found
        return _create(strategy, factory, {**implied, **options})
    if strategy in NAMED:
        msg = (
            f'"{strategy}" is a policy, not a strategy. Give it alone, or after other '
            f'rules: Policy({{…}}) + Policy.named("{strategy}").'
        )
        raise CalibrationError(msg)
    close = difflib.get_close_matches(strategy.lower(), [*_BY_NAME, *NAMED], n=1)
    hint = f' Did you mean "{close[0]}"?' if close else ""
    if format_name(strategy) is not None:
        hint = f' It is a format: give format="{strategy}".'
    msg = (
        f'Strategy "{strategy}" is not known.{hint} Known: {", ".join(names())}; '
        f"policies: {', '.join(NAMED)}."
    )
    raise CalibrationError(msg)


_Found: TypeAlias = tuple[Callable[..., Strategy], dict[str, Any]]

_BETWEEN = re.compile(r"(?<=[a-z])[_-](?=[a-z])")


def _plain(name: str) -> _Found | None:
    """Return what a name without brackets stands for, and the options in it."""
    if name in _BY_NAME:
        return _BY_NAME[name], {}
    short = _bare(name)
    for known, factory in _BY_NAME.items():
        if short == _bare(known):
            return factory, {}
    return _percentile(name.strip().lower()) if short.startswith("percentile") else None


def _percentile(name: str) -> _Found | None:
    """Return what "percentile_99.9", "percentile_99_each" or "percentile_adaptive_each" is."""
    number, each, rest = name[len("percentile") :].partition("_each")
    implied: dict[str, Any] = {"tails": "each"} if each and not rest else {}
    if number.strip("_-") == "adaptive":
        return Percentile, {"adaptive": True, **implied}
    number = number.removeprefix("_")
    if rest or not number or "_" in number:  # which float() ignores
        return None
    try:
        return Percentile, {"percentile": float(number), **implied}
    except ValueError:
        return None


def _called(text: str) -> _Found | None:
    """Return what "name(options)" stands for, as `str()` of a strategy writes it."""
    call = split(text)
    found = None if call is None else _plain(call.name)
    if call is None or found is None:
        return None
    factory, implied = found
    bound = bind(factory, call.options)
    if bound is None or bound.keys() & implied.keys():
        known = ", ".join(getattr(factory, "__dataclass_fields__", {})) or "none"
        msg = f'Strategy "{text}" has too many options, or one twice; it takes {known}.'
        raise CalibrationError(msg)
    return factory, {**implied, **bound}


def _bare(name: str) -> str:
    """Return a name without what people write differently: "KL", "min-max", "MaxEntropy"."""
    return _BETWEEN.sub("", name.strip().lower())


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
    if isinstance(strategy, type) and strategy in _BY_NAME.values():
        msg = f"{strategy.__name__} is a class; give an object, {strategy.__name__}()"
        raise TypeError(msg)
    if format_name(strategy) is not None:
        msg = f"{shown(strategy)} is a format, not a strategy; give it as format="
        raise TypeError(msg)
    if hasattr(strategy, "__array__"):
        msg = (
            'an array is not a strategy; the values come first: calibrate(array, "mse")'
        )
        raise TypeError(msg)
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
