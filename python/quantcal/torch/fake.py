"""Fake quantisation: what a model is worth with given ranges, before any deployment."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

import numpy as np
import torch
from torch import nn

from quantcal import CalibrationError, QuantFormat, QuantParams, calibrate
from quantcal.torch.forwards import Forwards
from quantcal.torch.modules import as_written, near, paths, unwrap
from quantcal.torch.recording import readable
from quantcal.torch.rounding import fake, fake_per_token

Activations: TypeAlias = "Literal['static', 'per_token'] | None"
Weights: TypeAlias = "str | QuantFormat | Mapping[str, QuantParams] | None"

_NAME = re.compile(
    r"(?P<path>.*?)(#(?P<call>[1-9]\d*))?"
    r"(:(?P<kind>input|output|weight|skipped)([.](?P<index>\d+))?(?P<rest>:skipped)?)?"
)


@contextlib.contextmanager
def fake_quantize(
    model: Any,
    table: Mapping[str, QuantParams],
    *,
    weights: Weights = None,
    activations: Activations = "static",
) -> Iterator[None]:
    """Quantise and dequantise a model's activations, and weights, inside a `with` block.

    Values become what `QuantParams.fake_quantize` makes of them, bit for bit, in float32, and
    go on in their own type. So a loss, a perplexity or an accuracy measured inside the block is
    that of the quantised model with exact arithmetic between. Everything is restored at the
    end of the block, also after an exception. Gradients do not pass.

    Parameters
    ----------
    model
        A `torch.nn.Module`; compiled ones run uncompiled inside the block.
    table
        Parameters by the names that `observe` gives: a `CalibrationTable`, or any mapping.
        Modules that are not in it stay in float. `path:weight` is a module's weight;
        `path` counts for every call of a module unless there are `path#1`, `path#2`, ....
    weights
        A format ("int8"): the weights of all modules in the table get the range of each
        output channel's extremes, symmetric for signed formats; or parameters by module path
        (or `path:weight`). None leaves weights that are not in the table as they are. A
        weight that is shared (a tied embedding) changes in the named module only.
    activations
        "static" uses the ranges of the table, per tensor or per channel. "per_token" takes
        its formats only: each vector along the last axis gets the range of its own finite
        extremes, as kernels with dynamic quantisation compute them. None leaves
        activations as they are.

    Raises
    ------
    TypeError
        If the model is no module, or a tensor holds no floats.
    CalibrationError
        If a name of the table is no module of the model, or an argument is not one of those
        allowed; in a forward, if a module is called more often than the table knows.

    Examples
    --------
    >>> import torch
    >>> model = torch.nn.Linear(8, 2)
    >>> table = {"Linear": qc.QuantParams.from_range(-1, 1, format="int8")}
    >>> x = torch.linspace(-2, 2, 8)
    >>> with qc.torch.fake_quantize(model, table, weights="int8"):
    ...     quantised = model(x)
    >>> torch.equal(quantised, model(x))
    False
    """
    if activations is not None and activations not in ("static", "per_token"):
        told = ", ".join(repr(a) for a in ("static", "per_token", None))
        msg = f"activations is {activations!r}, but it must be one of {told}"
        raise CalibrationError(msg)
    root = unwrap(model)
    modules = paths(root)
    plans = _plans(table, modules)
    of_weights = _weights(weights, plans, modules)
    forwards = Forwards(root, lambda _: None)
    with contextlib.ExitStack() as stack:
        stack.enter_context(as_written(model))
        for path, params in of_weights.items():
            stack.enter_context(_with_weight(path, modules[path], params))
        if activations is not None:
            for path, plan in plans.items():
                hooks = _Hooks(path, plan, forwards, activations)
                for handle in hooks.attach(modules[path]):
                    stack.callback(handle.remove)
            for handle in forwards.attach():
                stack.callback(handle.remove)
        yield


Site = tuple[int | None, int | None]
"""Which call of a module, and which of its tensors; None for all."""


@dataclass
class _Plan:
    """What is quantised of one module."""

    inputs: dict[Site, QuantParams] = field(default_factory=dict)
    outputs: dict[Site, QuantParams] = field(default_factory=dict)
    weight: QuantParams | None = None


def _plans(
    table: Mapping[str, QuantParams], modules: Mapping[str, nn.Module]
) -> dict[str, _Plan]:
    """Read the names of a table."""
    plans: dict[str, _Plan] = {}
    for name, params in table.items():
        found = _NAME.fullmatch(name)
        if found is None or found["path"] not in modules:
            path = found["path"] if found else name
            hint = near(path, modules)
            msg = f'The table has "{name}", but the model has no such module.{hint}'
            raise CalibrationError(msg)
        if found["kind"] == "skipped" or found["rest"]:
            msg = (
                f'The table has "{name}", but positions are not told apart here; leave it out: '
                "the skipped positions are quantised like all others."
            )
            raise CalibrationError(msg)
        if not isinstance(params, QuantParams):
            msg = f'"{name}" must have QuantParams, not {type(params).__name__}'
            raise TypeError(msg)
        plan = plans.setdefault(found["path"], _Plan())
        site = tuple(
            None if found[k] is None else int(found[k]) for k in ("call", "index")
        )
        if found["kind"] == "weight":
            plan.weight = params
        else:
            kind = plan.outputs if found["kind"] == "output" else plan.inputs
            kind[site] = params  # type: ignore[index]
    return plans


class _Hooks:
    """The hooks of one module."""

    def __init__(
        self, path: str, plan: _Plan, forwards: Forwards, activations: Activations
    ) -> None:
        self._path = path
        self._plan = plan
        self._forwards = forwards
        self._fake = fake if activations == "static" else fake_per_token

    def attach(self, module: nn.Module) -> list[Any]:
        handles = [module.register_forward_pre_hook(self._before, with_kwargs=True)]
        if self._plan.outputs:
            handles.append(module.register_forward_hook(self._after))
        return handles

    def _before(
        self, _: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
        forward = self._forwards.current()
        if forward is not None:
            forward.calls[self._path] += 1
        if not self._plan.inputs:
            return None
        values = self._changed([*args, *kwargs.values()], self._plan.inputs)
        named = dict(zip(kwargs, values[len(args) :], strict=True))
        return tuple(values[: len(args)]), named

    def _after(self, _: nn.Module, __: Any, output: Any) -> Any:
        if isinstance(output, torch.Tensor):
            return self._changed([output], self._plan.outputs)[0]
        if isinstance(output, dict):
            values = self._changed(list(output.values()), self._plan.outputs)
            for key, value in zip(list(output), values, strict=True):
                output[key] = value
            return output
        values = self._changed(list(output), self._plan.outputs)
        named = hasattr(output, "_fields")
        return type(output)(*values) if named else type(output)(values)

    def _changed(self, values: list[Any], sites: dict[Site, QuantParams]) -> list[Any]:
        """Return the values with those that the table knows quantised."""
        at = [i for i, v in enumerate(values) if isinstance(v, torch.Tensor)]
        if len(at) > 1:
            at = [i for i in at if values[i].is_floating_point()]
        for number, i in enumerate(at):
            params = self._params(sites, number if len(at) > 1 else None)
            if params is not None:
                values[i] = self._quantised(params, values[i])
        return values

    def _quantised(self, params: QuantParams, tensor: torch.Tensor) -> torch.Tensor:
        """Quantise a tensor, or return what became of it for the module before.

        The projections of attention, and those of a gated layer, get one tensor between them.
        Versions tell whether it, or what became of it, was changed meanwhile.
        """
        forward = self._forwards.current()
        if forward is None or tensor.is_inference():
            return self._fake(params, tensor, self._path)
        if "last" in forward.notes:
            last, version, by, made, version_made = forward.notes["last"]
            same = last is tensor and version == tensor._version
            if (
                same
                and made._version == version_made
                and (by is params or by == params)
            ):
                return made
        made = self._fake(params, tensor, self._path)
        forward.notes["last"] = (tensor, tensor._version, params, made, made._version)
        return made

    def _params(
        self, sites: dict[Site, QuantParams], index: int | None
    ) -> QuantParams | None:
        if (None, index) in sites and not any(call for call, _ in sites):
            return sites[None, index]
        forward = self._forwards.current()
        call = 1 if forward is None else forward.calls[self._path]
        found = sites.get((call, index), sites.get((None, index)))
        of_calls = [call for call, i in sites if i == index and call is not None]
        if found is None and of_calls:
            msg = (
                f'Module "{self._path}" is called {call} times in one forward, but the table '
                f"has ranges of {len(of_calls)} calls; observe the model as it is used, or "
                "with merge_calls=True"
            )
            raise CalibrationError(msg)
        return found


def _weights(
    weights: Weights, plans: dict[str, _Plan], modules: Mapping[str, nn.Module]
) -> dict[str, QuantParams]:
    """Return the parameters of the weights to quantise, by module path."""
    of_table = {path: plan.weight for path, plan in plans.items() if plan.weight}
    if weights is None:
        return of_table
    if isinstance(weights, Mapping):
        named = {
            name.removesuffix(":weight"): params for name, params in weights.items()
        }
        for path in named:
            if path not in modules:
                hint = near(path, modules)
                msg = f'weights has "{path}", but the model has no such module.{hint}'
                raise CalibrationError(msg)
        return of_table | named
    format = QuantFormat.of(weights, None, None)
    found = {}
    for path in plans:
        weight = getattr(modules[path], "weight", None)
        if isinstance(weight, torch.Tensor) and weight.ndim >= 2:
            transposed = isinstance(modules[path], nn.modules.conv._ConvTransposeNd)
            values = readable(f"{path}:weight", weight)
            found[path] = _extremes(values, format, int(transposed))
    return found | of_table


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
def _with_weight(path: str, module: nn.Module, params: QuantParams) -> Iterator[None]:
    """Give a module another weight meanwhile; whoever shares the old one keeps it."""
    weight = module._parameters.get("weight")
    if weight is None:
        msg = (
            f'Module "{path}" has no parameter "weight" of its own, so it cannot be quantised '
            "(parametrizations must be removed first)."
        )
        raise CalibrationError(msg)
    changed = fake(params, weight, f"{path}:weight")
    module._parameters["weight"] = nn.Parameter(changed, requires_grad=False)
    try:
        yield
    finally:
        module._parameters["weight"] = weight
