"""Replaces the observers in a configuration of PyTorch's quantization flows with quantcal's."""

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
    PER_CHANNEL_SCHEMES,
    Observer,
    PerChannelObserver,
    pt2e_observers,
)

_PER_TENSOR_SCHEMES = (torch.per_tensor_affine, torch.per_tensor_symmetric)
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
    """Return a configuration of a quantization flow with quantcal's observers in it.

    Types, schemes and codes of the configuration stay the same; only the choice of ranges
    changes. `prepare`, calibration and `convert` then work as with PyTorch's observers.

    For training (QAT) the observer goes into a `FakeQuantize`. This replaces PyTorch's fused
    one, which knows moving averages only. The observer counts every value while it is
    enabled, and chooses a new range in each step.

    Parameters
    ----------
    config
        For torch.ao's FX flow, a `QConfig` or a `QConfigMapping`. For torchao's PT2E flow, a
        `QuantizationSpec` or a quantizer's `QuantizationConfig`. It is not changed.
    strategy
        For activations, as for `Calibrator.compute`; None keeps their observers.
    weights
        The same for weights. None (the default) keeps their observers, since the extremes of
        each channel are nearly always best for weights.
    options
        Options of the strategy for activations, such as `percentile=99.9`.

    Returns
    -------
    An object of the same type. Parts that choose no range stay the same: dynamic, fixed and
    floating-point parts, `nn.Identity`, placeholders, and float zero points.

    Raises
    ------
    TypeError
        If `config` has another type.
    CalibrationError
        If nothing in the configuration can take an observer; says why for each part. If a
        strategy or an option is unknown, or no format has the configured codes.

    Warns
    -----
    UserWarning
        If `strategy` and `weights` are both given, and only one of them has an effect.

    Examples
    --------
    >>> from torch.ao.quantization import get_default_qconfig_mapping
    >>> mapping = get_default_qconfig_mapping("x86")
    >>> mapping = qc.torch.attach_observer(mapping, "percentile_99.99")
    >>> type(mapping.global_qconfig.activation()).__name__
    'Observer'
    """
    # An unknown strategy is refused before anything is replaced.
    for chosen, given in ((strategy, options), (weights, {})):
        if chosen is not None:
            Policy.of(chosen, **given)
    replacement = _Replacement(strategy, options, weights)
    if isinstance(config, QConfigMapping):
        changed = replacement.mapping(config)
    elif isinstance(config, QConfig):
        changed = replacement.qconfig(config)
    elif hasattr(config, "observer_or_fake_quant_ctr"):
        changed = replacement.spec("spec", config, strategy, options)
    elif hasattr(config, "input_activation") and hasattr(config, "weight"):
        changed = replacement.config(config)
    else:
        msg = (
            "config must be a QConfig, a QConfigMapping, a QuantizationSpec or a "
            f"QuantizationConfig, not {type(config).__name__}"
        )
        raise TypeError(msg)
    wanted = {"strategy": strategy, "weights": weights}
    _check_effect(replacement, type(config).__name__, wanted)
    return changed


def _check_effect(replacement: _Replacement, kind: str, wanted: dict[str, Any]) -> None:
    """Refuse a configuration in which nothing changed; warn of arguments without effect."""
    given = [name for name, value in wanted.items() if value is not None]
    unused = [name for name in given if name not in replacement.effective]
    if not unused:
        return
    reasons = " ".join(replacement.unchanged) or "It has no observers at all."
    if unused == given:
        msg = f"Nothing in this {kind} can take an observer. {reasons}"
        raise CalibrationError(msg)
    for name in unused:
        msg = f"{name}={wanted[name]!r} has no effect on this {kind}. {reasons}"
        warnings.warn(msg, UserWarning, stacklevel=3)


class _Replacement:
    """Replaces the observers in a configuration, and notes which parts stay the same.

    Parameters
    ----------
    strategy, options, weights
        The arguments of `attach_observer`.
    """

    def __init__(self, strategy: Any, options: dict[str, Any], weights: Any) -> None:
        self._activations = (strategy, options)
        self._weights: tuple[Any, dict[str, Any]] = (weights, {})
        self.effective: set[str] = set()
        """The arguments that had an effect: "strategy", "weights"."""
        self._unchanged: dict[str, None] = {}

    @property
    def unchanged(self) -> list[str]:
        """The reasons why parts of the configuration stay the same."""
        return list(self._unchanged)

    def mapping(self, config: Any) -> Any:
        changed = copy.deepcopy(config)
        for style in _STYLES:
            setattr(changed, style, self._nested(getattr(changed, style)))
        return changed

    def _nested(self, value: Any) -> Any:
        """Change every QConfig inside dictionaries."""
        if isinstance(value, QConfig):
            return self.qconfig(value)
        if isinstance(value, dict):
            pairs = ((key, self._nested(inner)) for key, inner in value.items())
            return type(value)(pairs)
        return value

    def qconfig(self, config: Any) -> Any:
        pair = (Observer, PerChannelObserver)
        activation = self._replace(
            "activation", config.activation, *self._activations, pair
        )
        weight = self._replace("weight", config.weight, *self._weights, pair)
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
            self._note_unchanged(name, strategy, why)
            return spec
        named = {
            field: getattr(spec, field)
            for field in ("dtype", "qscheme", "quant_min", "quant_max", "ch_axis")
            if getattr(spec, field) is not None
        }
        pair = pt2e_observers()
        changed = self._replace(name, given, strategy, options, pair, **named)
        return dataclasses.replace(spec, observer_or_fake_quant_ctr=changed)

    def _replace(
        self,
        name: str,
        constructor: Any,
        strategy: Any,
        options: dict[str, Any],
        pair: tuple[type[Any], type[Any]],
        **named: Any,
    ) -> Any:
        """Return a constructor of quantcal's observer, or the given one if it must stay."""
        if strategy is None or constructor is None:
            self._note_unchanged(name, strategy, "has no observer")
            return constructor
        if named.get("ch_axis") is not None and not _is_by_channel(constructor):
            named.pop("ch_axis")
        original = _construct(constructor, named)
        inner = getattr(original, "activation_post_process", original)
        why = _reason_to_stay(original, inner)
        if why:
            self._note_unchanged(name, strategy, why)
            return constructor
        by_channel = inner.qscheme in PER_CHANNEL_SCHEMES
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
        # A trial construction refuses codes that no format has.
        kind(**arguments)
        self.effective.add("weights" if name == "weight" else "strategy")
        if inner is original:
            return kind.with_args(**arguments)
        return _fake_quantize_class(original).with_args(observer=kind, **arguments)

    def _note_unchanged(self, name: str, strategy: Any, why: str) -> None:
        if strategy is not None:
            self._unchanged[f"The {name} {why}."] = None


_DYNAMIC = "is dynamic: its ranges are computed as the model runs"


def _construct(constructor: Any, named: dict[str, Any]) -> Any:
    """Return the observer or FakeQuantize that a configuration would make.

    Raises
    ------
    CalibrationError
        If the constructor fails.
    """
    with warnings.catch_warnings():
        # Warnings of PyTorch's observers do not concern the replacement.
        warnings.simplefilter("ignore")
        try:
            return (constructor.with_args(**named) if named else constructor)()
        except (TypeError, ValueError, AttributeError, AssertionError) as error:
            msg = (
                f"The observer {_class_name(constructor)} of the configuration cannot be made: "
                f"{error}"
            )
            raise CalibrationError(msg) from error


def _reason_to_stay(original: Any, inner: Any) -> str:
    """Return why a part chooses no range that could be replaced, or an empty string."""
    integers = hasattr(inner, "quant_min") and inner.quant_min is not None
    floating = getattr(getattr(inner, "dtype", None), "is_floating_point", False)
    scheme = getattr(inner, "qscheme", None)
    dynamic = any(getattr(part, "is_dynamic", False) for part in (original, inner))
    reasons = (
        (dynamic, _DYNAMIC),
        (
            isinstance(inner, torch.nn.Identity),
            "is nn.Identity, which observes nothing",
        ),
        (hasattr(inner, "scale"), "has a fixed range"),
        (floating, "is of a type with no integer codes"),
        (not integers, "chooses no range"),
        (
            scheme not in (*PER_CHANNEL_SCHEMES, *_PER_TENSOR_SCHEMES),
            f"has {scheme}: no integer zero points",
        ),
    )
    found = next((why for holds, why in reasons if holds), "")
    name = "" if found.startswith("is nn") else f"({type(inner).__name__}) "
    return found and name + found


def _fake_quantize_class(original: Any) -> Any:
    """Return the class of FakeQuantize that uses the range of its observer."""
    for kind in type(original).__mro__:
        # The fused class computes moving averages and ignores its observer.
        if not kind.__name__.startswith("Fused") and hasattr(kind, "with_args"):
            return kind
    return type(original)


def _is_by_channel(constructor: Any) -> bool:
    """Whether a constructor makes an observer by channel, or a FakeQuantize around one."""
    inner = getattr(getattr(constructor, "p", None), "keywords", {}).get("observer")
    return any("PerChannel" in _class_name(c) for c in (constructor, inner) if c)


def _class_name(constructor: Any) -> str:
    inner = getattr(getattr(constructor, "p", None), "func", constructor)
    return str(getattr(inner, "__name__", type(inner).__name__))
