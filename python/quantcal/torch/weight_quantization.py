"""Selects the weights of a model to quantize, and replaces them inside a block."""

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
from quantcal.formats import FormatLike, QuantFormat
from quantcal.params import QuantParams
from quantcal.torch.modules import did_you_mean
from quantcal.torch.tensor_quantization import fake_quantize_tensor
from quantcal.torch.tensor_values import plain_values
from quantcal.torch.weights import Weight, left_in_float, weights_of

Weights: TypeAlias = "FormatLike | Mapping[str, QuantParams] | None"
SelectedWeights: TypeAlias = "dict[str, tuple[Weight, QuantParams]]"


def select_weights(
    weights: Weights,
    of_table: Mapping[str, Mapping[str, QuantParams]],
    modules: Mapping[str, nn.Module],
) -> SelectedWeights:
    """Return the weights to quantize by name, with their parameters.

    Parameters
    ----------
    weights
        As for `fake_quantize`.
    of_table
        The parameters of weights in the table, by path of the module and name of the weight.
    modules
        All modules of the model, by path.

    Raises
    ------
    CalibrationError
        If a weight does not exist, or a module computes it.

    Warns
    -----
    UserWarning
        If a format leaves weights in float.
    """
    found: SelectedWeights = {}
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
                values = plain_values(full, _parameter_of(full, weight))
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
    """Return the module and the weight of a name.

    Raises
    ------
    CalibrationError
        If there is no such module, or it has several weights and the name has none.
    """
    path, _, label = name.rpartition(":")
    if path in modules and (label == "weight" or label in weights_of(modules[path])):
        return path, label
    if name not in modules:
        hint = did_you_mean(name, modules)
        msg = f'weights has "{name}", but the model has no such module.{hint}'
        raise CalibrationError(msg)
    labels = list(weights_of(modules[name]))
    if len(labels) > 1 and "weight" not in labels:
        options = ", ".join(f'"{name}:{label}"' for label in labels)
        msg = f'weights has "{name}", which has several: name {options}'
        raise CalibrationError(msg)
    return name, "weight" if "weight" in labels or not labels else labels[0]


def _warn_of_left(names: list[str], format: QuantFormat) -> None:
    if not names:
        return
    listed = ", ".join(f'"{name}"' for name in names)
    msg = (
        f'weights="{format.name}" leaves these in float: {listed}. Put their modules into the '
        "table, or give their parameters by name in weights=."
    )
    warnings.warn(msg, UserWarning, stacklevel=5)


def _extremes(values: torch.Tensor, format: QuantFormat, axis: int) -> QuantParams:
    """Return MinMax parameters per channel, without histograms if all values are finite."""
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
def replaced_weight(name: str, weight: Weight, params: QuantParams) -> Iterator[None]:
    """Replace a module's weight inside the block; modules that share it keep the old one."""
    owner, attribute = weight.owner, weight.attribute
    before = _parameter_of(name, weight)
    changed = nn.Parameter(
        fake_quantize_tensor(params, before, name), requires_grad=False
    )
    # `check_outside_blocks` refuses to change a parameter that exists only in the block.
    changed.block = "fake_quantize"
    _assign(owner, attribute, changed)
    try:
        yield
    finally:
        _assign(owner, attribute, before)


def _parameter_of(name: str, weight: Weight) -> nn.Parameter:
    """Return the parameter to replace.

    Raises
    ------
    CalibrationError
        If there is none, because the module computes the weight in each forward pass.
    """
    parameter = weight.parameter
    if parameter is None:
        path = name.rpartition(":")[0]
        msg = (
            f'Module "{path}" has no parameter "{weight.attribute}" but computes it, so it '
            "cannot be quantized. Remove parametrizations first."
        )
        raise CalibrationError(msg)
    return parameter


def _assign(owner: nn.Module, attribute: str, parameter: nn.Parameter) -> None:
    if isinstance(owner, nn.RNNBase):
        # Its __setattr__ also updates its list of flat weights.
        setattr(owner, attribute, parameter)
    else:
        owner._parameters[attribute] = parameter
