"""Puts our observers where a configuration of PyTorch's flows names others."""

from __future__ import annotations

import copy
import dataclasses
import warnings
from typing import Any

import torch
from torch.ao.quantization import QConfig, QConfigMapping

from quantcal._core import CalibrationError
from quantcal.strategies.policy import Policy, StrategyLike
from quantcal.torch.observers import (
    _PER_CHANNEL,
    Observer,
    PerChannelObserver,
    pt2e_observers,
)

_WHOLE = (torch.per_tensor_affine, torch.per_tensor_symmetric)
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
    """Return a configuration of a quantization flow with our observers in it.

    Types, schemes and codes stay as the configuration has them; only who chooses the ranges
    changes. `prepare`, calibration and `convert` then work as with PyTorch's observers.

    For training (QAT) our observer goes into a `FakeQuantize`, also where the configuration
    has the fused one, which takes PyTorch's moving averages only. Ours counts all that
    it saw while it is enabled, and chooses a range anew in each step.

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
    The same kind of object. What chooses no range of its own stays as it is: dynamic, fixed
    and floating-point parts, `nn.Identity`, placeholders, and float zero points.

    Raises
    ------
    TypeError
        If it is none of these.
    CalibrationError
        If nothing in the configuration can take an observer; says why for each part. If a
        strategy or an option is not known, or no format has the codes asked for.

    Warns
    -----
    UserWarning
        If only one of `strategy` and `weights` has an effect, and both were asked for.

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
    swap = _Swap(strategy, options, weights)
    if isinstance(config, QConfigMapping):
        changed = swap.mapping(config)
    elif isinstance(config, QConfig):
        changed = swap.qconfig(config)
    elif hasattr(config, "observer_or_fake_quant_ctr"):
        changed = swap.spec("spec", config, strategy, options)
    elif hasattr(config, "input_activation") and hasattr(config, "weight"):
        changed = swap.config(config)
    else:
        msg = (
            "config must be a QConfig, a QConfigMapping, a QuantizationSpec or a "
            f"QuantizationConfig, not {type(config).__name__}"
        )
        raise TypeError(msg)
    _check(swap, type(config).__name__, {"strategy": strategy, "weights": weights})
    return changed


def _check(swap: _Swap, kind: str, wanted: dict[str, Any]) -> None:
    """Refuse a configuration in which nothing changed; say what of the wishes did not."""
    asked = [name for name, value in wanted.items() if value is not None]
    unused = [name for name in asked if name not in swap.swapped]
    if not unused:
        return
    found = " ".join(swap.left) or "It has no observers at all."
    if unused == asked:
        msg = f"Nothing in this {kind} can take an observer. {found}"
        raise CalibrationError(msg)
    for name in unused:
        msg = f"{name}={wanted[name]!r} has no effect on this {kind}. {found}"
        warnings.warn(msg, UserWarning, stacklevel=3)


class _Swap:
    """Puts our observers where a configuration has theirs; counts them, and what stays.

    Parameters
    ----------
    strategy, options, weights
        As `attach_observer` gets them.
    """

    def __init__(self, strategy: Any, options: dict[str, Any], weights: Any) -> None:
        self._activations = (strategy, options)
        self._weights: tuple[Any, dict[str, Any]] = (weights, {})
        self.swapped: set[str] = set()
        """Which of the wishes had an effect: "strategy", "weights"."""
        self._left: dict[str, None] = {}

    @property
    def left(self) -> list[str]:
        """Why parts of the configuration stay as they are, each reason once."""
        return list(self._left)

    def mapping(self, config: Any) -> Any:
        changed = copy.deepcopy(config)
        for style in _STYLES:
            setattr(changed, style, self._within(getattr(changed, style)))
        return changed

    def _within(self, value: Any) -> Any:
        """Change every QConfig inside dictionaries."""
        if isinstance(value, QConfig):
            return self.qconfig(value)
        if isinstance(value, dict):
            pairs = ((key, self._within(inner)) for key, inner in value.items())
            return type(value)(pairs)
        return value

    def qconfig(self, config: Any) -> Any:
        pair = (Observer, PerChannelObserver)
        activation = self._put(
            "activation", config.activation, *self._activations, pair
        )
        weight = self._put("weight", config.weight, *self._weights, pair)
        return QConfig(activation=activation, weight=weight)

    def config(self, config: Any) -> Any:
        changed = {
            name: self.spec(name, getattr(config, name), *self._activations)
            for name in ("input_activation", "output_activation")
        }
        weight = self.spec("weight", config.weight, *self._weights)
        return dataclasses.replace(config, **changed, weight=weight)

    def spec(self, name: str, spec: Any, strategy: Any, options: dict[str, Any]) -> Any:
        given = getattr(spec, "observer_or_fake_quant_ctr", None)
        if given is None or spec.is_dynamic:
            why = _DYNAMIC if given is not None else "has no observer"
            self._stays(name, strategy, why)
            return spec
        named = {
            field: getattr(spec, field)
            for field in ("dtype", "qscheme", "quant_min", "quant_max", "ch_axis")
            if getattr(spec, field) is not None
        }
        pair = pt2e_observers()
        changed = self._put(name, given, strategy, options, pair, **named)
        return dataclasses.replace(spec, observer_or_fake_quant_ctr=changed)

    def _put(
        self,
        name: str,
        constructor: Any,
        strategy: Any,
        options: dict[str, Any],
        pair: tuple[type[Any], type[Any]],
        **named: Any,
    ) -> Any:
        """Return a constructor of ours for one of theirs; theirs if it chooses no range."""
        if strategy is None or constructor is None:
            self._stays(name, strategy, "has no observer")
            return constructor
        if named.get("ch_axis") is not None and not _is_by_channel(constructor):
            named.pop("ch_axis")
        theirs = _made(constructor, named)
        inner = getattr(theirs, "activation_post_process", theirs)
        why = _why_not(theirs, inner)
        if why:
            self._stays(name, strategy, why)
            return constructor
        by_channel = inner.qscheme in _PER_CHANNEL
        arguments = {
            "strategy": strategy,
            "options": options,
            "dtype": inner.dtype,
            "qscheme": inner.qscheme,
            "quant_min": inner.quant_min,
            "quant_max": inner.quant_max,
        }
        if by_channel:
            arguments["ch_axis"] = inner.ch_axis
        kind = pair[by_channel]
        kind(**arguments)  # refuses codes that no format has
        self.swapped.add("weights" if name == "weight" else "strategy")
        if inner is theirs:
            return kind.with_args(**arguments)
        return _fake_quantize_of(theirs).with_args(observer=kind, **arguments)

    def _stays(self, name: str, strategy: Any, why: str) -> None:
        if strategy is not None:
            self._left[f"The {name} {why}."] = None


_DYNAMIC = "is dynamic: its ranges are computed as the model runs"


def _made(constructor: Any, named: dict[str, Any]) -> Any:
    """Return the observer or FakeQuantize that a configuration would make."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what theirs warn of is no news of ours
        try:
            return (constructor.with_args(**named) if named else constructor)()
        except (TypeError, ValueError, AttributeError, AssertionError) as error:
            msg = (
                f"The observer {_class_name(constructor)} of the configuration cannot be made: "
                f"{error}"
            )
            raise CalibrationError(msg) from error


def _why_not(theirs: Any, inner: Any) -> str:
    """Return why something chooses no range that ours could choose; nothing if it does."""
    integers = hasattr(inner, "quant_min") and inner.quant_min is not None
    floating = getattr(getattr(inner, "dtype", None), "is_floating_point", False)
    scheme = getattr(inner, "qscheme", None)
    dynamic = any(getattr(part, "is_dynamic", False) for part in (theirs, inner))
    reasons = (
        (dynamic, _DYNAMIC),
        (
            isinstance(inner, torch.nn.Identity),
            "is nn.Identity, which observes nothing",
        ),
        (hasattr(inner, "scale"), "has a fixed range"),
        (floating, "is of a type with no integer codes"),
        (not integers, "chooses no range"),
        (scheme not in (*_PER_CHANNEL, *_WHOLE), f"has {scheme}: no whole zero points"),
    )
    found = next((why for holds, why in reasons if holds), "")
    name = "" if found.startswith("is nn") else f"({type(inner).__name__}) "
    return found and name + found


def _fake_quantize_of(theirs: Any) -> Any:
    """Return the kind of FakeQuantize that asks its observer for the range."""
    for kind in type(theirs).__mro__:
        # The fused one computes moving averages by itself, and asks nobody.
        if not kind.__name__.startswith("Fused") and hasattr(kind, "with_args"):
            return kind
    return type(theirs)


def _is_by_channel(constructor: Any) -> bool:
    """Whether a constructor makes an observer by channel, or a FakeQuantize around one."""
    inner = getattr(getattr(constructor, "p", None), "keywords", {}).get("observer")
    return any("PerChannel" in _class_name(c) for c in (constructor, inner) if c)


def _class_name(constructor: Any) -> str:
    inner = getattr(getattr(constructor, "p", None), "func", constructor)
    return str(getattr(inner, "__name__", type(inner).__name__))
