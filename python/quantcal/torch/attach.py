"""Putting our observers where a configuration of PyTorch's flows names others."""

from __future__ import annotations

import copy
import dataclasses
import warnings
from typing import Any

from torch.ao.quantization import QConfig, QConfigMapping

from quantcal.strategies.policy import Policy, StrategyLike
from quantcal.torch.observers import (
    _PER_CHANNEL,
    Observer,
    PerChannelObserver,
    pt2e_observers,
)

_STYLES = (
    "global_qconfig",
    "object_type_qconfigs",
    "module_name_qconfigs",
    "module_name_regex_qconfigs",
    "module_name_object_type_order_qconfigs",
)


def attach_observer(
    config: Any,
    strategy: StrategyLike | None = "mse",
    *,
    weights: StrategyLike | None = None,
    **options: Any,
) -> Any:
    """Return a configuration of a quantisation flow with our observers in it.

    Types, schemes and codes stay as the configuration has them; only who chooses the ranges
    changes. `prepare`, calibration and `convert` then work as with PyTorch's observers.

    Parameters
    ----------
    config
        Of torch.ao's FX flow a `QConfig` or a `QConfigMapping`; of torchao's PT2E flow a
        `QuantizationSpec`, or a quantizer's `QuantizationConfig`. It is not changed.
    strategy
        For activations, as for `Calibrator.compute`; None leaves their observers.
    weights
        The same for weights, which None (the default) leaves: the extremes of each channel
        rarely lose to anything there.
    options
        Of the strategy for activations, such as `percentile=99.9`.

    Returns
    -------
    The same kind of object. Dynamic, fixed and floating-point parts stay as they are.

    Raises
    ------
    TypeError
        If it is none of these.
    CalibrationError
        If a strategy or an option is not known, or no format has the codes asked for.

    Examples
    --------
    >>> from torch.ao.quantization import get_default_qconfig_mapping
    >>> mapping = get_default_qconfig_mapping("x86")
    >>> mapping = qc.torch.attach_observer(mapping, "percentile_99.99")
    >>> type(mapping.global_qconfig.activation()).__name__
    'Observer'
    """
    for chosen, given in ((strategy, options), (weights, {})):
        if chosen is not None:
            Policy.of(chosen, **given)  # refuses now what would fail in the middle
    of = (strategy, options, weights)
    if isinstance(config, QConfigMapping):
        return _mapping(config, of)
    if isinstance(config, QConfig):
        return _qconfig(config, of)
    if hasattr(config, "observer_or_fake_quant_ctr"):
        return _spec(config, strategy, options)
    if hasattr(config, "input_activation") and hasattr(config, "weight"):
        return _config(config, of)
    msg = (
        "config must be a QConfig, a QConfigMapping, a QuantizationSpec or a "
        f"QuantizationConfig, not {type(config).__name__}"
    )
    raise TypeError(msg)


def _mapping(config: Any, of: tuple[Any, ...]) -> Any:
    changed = copy.deepcopy(config)
    for style in _STYLES:
        setattr(changed, style, _within(getattr(changed, style), of))
    return changed


def _within(value: Any, of: tuple[Any, ...]) -> Any:
    """Change every QConfig inside dictionaries and tuples."""
    if isinstance(value, QConfig):
        return _qconfig(value, of)
    if isinstance(value, dict):
        return type(value)((key, _within(inner, of)) for key, inner in value.items())
    return value


def _qconfig(config: Any, of: tuple[Any, ...]) -> Any:
    strategy, options, weights = of
    pair = (Observer, PerChannelObserver)
    return QConfig(
        activation=_swapped(config.activation, strategy, options, pair),
        weight=_swapped(config.weight, weights, {}, pair),
    )


def _config(config: Any, of: tuple[Any, ...]) -> Any:
    strategy, options, weights = of
    return dataclasses.replace(
        config,
        input_activation=_spec(config.input_activation, strategy, options),
        output_activation=_spec(config.output_activation, strategy, options),
        weight=_spec(config.weight, weights, {}),
    )


def _spec(spec: Any, strategy: Any, options: dict[str, Any]) -> Any:
    given = getattr(spec, "observer_or_fake_quant_ctr", None)
    if given is None or spec.is_dynamic:
        return spec
    named = {
        field: getattr(spec, field)
        for field in ("dtype", "qscheme", "quant_min", "quant_max", "ch_axis")
        if getattr(spec, field) is not None
    }
    changed = _swapped(given, strategy, options, pt2e_observers(), **named)
    return dataclasses.replace(spec, observer_or_fake_quant_ctr=changed)


def _swapped(
    constructor: Any,
    strategy: Any,
    options: dict[str, Any],
    pair: tuple[type[Any], type[Any]],
    **named: Any,
) -> Any:
    """Return a constructor of ours for one of theirs; theirs if it observes no integers."""
    if strategy is None or constructor is None:
        return constructor
    if named.get("ch_axis") is not None and "PerChannel" not in _class_name(
        constructor
    ):
        named.pop("ch_axis")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what theirs warn of is no news of ours
        theirs = constructor.with_args(**named)()
    fixed = hasattr(theirs, "scale") or getattr(theirs, "is_dynamic", False)
    if fixed or getattr(theirs, "quant_min", None) is None:
        return constructor
    by_channel = theirs.qscheme in _PER_CHANNEL
    arguments = {
        "strategy": strategy,
        "options": options,
        "dtype": theirs.dtype,
        "qscheme": theirs.qscheme,
        "quant_min": theirs.quant_min,
        "quant_max": theirs.quant_max,
    }
    if by_channel:
        arguments["ch_axis"] = theirs.ch_axis
    kind = pair[by_channel]
    kind(**arguments)  # refuses codes that no format has
    return kind.with_args(**arguments)


def _class_name(constructor: Any) -> str:
    inner = getattr(constructor, "p", None)
    return str(getattr(inner, "func", constructor).__name__)
