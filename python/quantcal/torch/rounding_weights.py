"""Which weights of a model are quantized, with which parameters, and how they are put in."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator, Mapping
from typing import TypeAlias

import numpy as np
import torch
from torch import nn

from quantcal._calibrate import calibrate
from quantcal._core import CalibrationError
from quantcal.formats import QuantFormat
from quantcal.params import QuantParams
from quantcal.torch.modules import near
from quantcal.torch.readable import readable
from quantcal.torch.rounding import fake
from quantcal.torch.weights import Weight, left_in_float, weights_of

Weights: TypeAlias = "str | QuantFormat | Mapping[str, QuantParams] | None"
Chosen: TypeAlias = "dict[str, tuple[Weight, QuantParams]]"


def chosen_weights(
    weights: Weights,
    of_table: Mapping[str, Mapping[str, QuantParams]],
    modules: Mapping[str, nn.Module],
) -> Chosen:
    """Return the weights to quantize by name, with their parameters.

    Parameters
    ----------
    weights
        As for `fake_quantize`.
    of_table
        By path of each module in the table, its weights in the table.
    modules
        All modules of the model, by path.
    """
    found: Chosen = {}
    for path, named in of_table.items():
        for name, params in named.items():
            found[f"{path}:{name}"] = (_weight(path, name, modules), params)
    if weights is None:
        return found
    if isinstance(weights, Mapping):
        for name, params in weights.items():
            path, label = _split(name, modules)
            found[f"{path}:{label}"] = (_weight(path, label, modules), params)
        return found
    format = QuantFormat.of(weights, None, None)
    left = left_in_float(of_table, modules, found)
    for path in of_table:
        for name, weight in weights_of(modules[path]).items():
            full = f"{path}:{name}"
            if weight.axis is not None and full not in found:
                values = readable(full, _own(full, weight))
                found[full] = (weight, _extremes(values, format, weight.axis))
    _warn_of_left(left, format)
    sites = {
        (id(weight.owner), weight.attribute): name
        for name, (weight, _) in reversed(found.items())
    }
    return {name: found[name] for name in found if name in sites.values()}


def _weight(path: str, name: str, modules: Mapping[str, nn.Module]) -> Weight:
    return weights_of(modules[path]).get(name) or Weight(modules[path], name)


def _split(name: str, modules: Mapping[str, nn.Module]) -> tuple[str, str]:
    """Return the module and the weight that a name means."""
    path, _, label = name.rpartition(":")
    if path in modules and (label == "weight" or label in weights_of(modules[path])):
        return path, label
    if name not in modules:
        hint = near(name, modules)
        msg = f'weights has "{name}", but the model has no such module.{hint}'
        raise CalibrationError(msg)
    labels = list(weights_of(modules[name]))
    if len(labels) > 1 and "weight" not in labels:
        told = ", ".join(f'"{name}:{label}"' for label in labels)
        msg = f'weights has "{name}", which has several: name {told}'
        raise CalibrationError(msg)
    return name, "weight" if "weight" in labels or not labels else labels[0]


def _warn_of_left(names: list[str], format: QuantFormat) -> None:
    if not names:
        return
    told = ", ".join(f'"{name}"' for name in names)
    msg = (
        f'weights="{format.name}" leaves these in float: {told}. Put their modules into the '
        "table, or give their parameters by name in weights=."
    )
    warnings.warn(msg, UserWarning, stacklevel=5)


def _extremes(values: torch.Tensor, format: QuantFormat, axis: int) -> QuantParams:
    """Return what MinMax chooses for each channel, without histograms if all is finite."""
    others = [dim for dim in range(values.ndim) if dim != axis]
    if values.numel() and values.is_floating_point():
        ends = values.amin(others), values.amax(others)
        low, high = (end.to("cpu", torch.float32).numpy() for end in ends)
        if np.isfinite(low).all() and np.isfinite(high).all():
            return QuantParams.from_range(
                low, high, format=format, axis=axis, strategy="minmax"
            )
    return calibrate(values, "minmax", format=format, axis=axis)


@contextlib.contextmanager
def with_weight(name: str, weight: Weight, params: QuantParams) -> Iterator[None]:
    """Give a module another weight meanwhile; whoever shares the old one keeps it."""
    owner, attribute = weight.owner, weight.attribute
    before = _own(name, weight)
    changed = nn.Parameter(fake(params, before, name), requires_grad=False)
    changed.block = "fake_quantize"  # so that nobody changes what is gone afterwards
    _put(owner, attribute, changed)
    try:
        yield
    finally:
        _put(owner, attribute, before)


def _own(name: str, weight: Weight) -> nn.Parameter:
    """Return the parameter to replace.

    Raises
    ------
    CalibrationError
        If there is none: the weight is computed in each forward.
    """
    parameter = weight.parameter
    if parameter is None:
        path = name.rpartition(":")[0]
        msg = (
            f'Module "{path}" has no parameter "{weight.attribute}" of its own, so it cannot '
            "be quantized (parametrizations must be removed first)."
        )
        raise CalibrationError(msg)
    return parameter


def _put(owner: nn.Module, attribute: str, parameter: nn.Parameter) -> None:
    if isinstance(owner, nn.RNNBase):
        setattr(owner, attribute, parameter)  # keeps its list of flat weights in step
    else:
        owner._parameters[attribute] = parameter
