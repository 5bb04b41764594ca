"""Fake quantization: measures a model with given ranges before deployment."""

from __future__ import annotations

import contextlib
import re
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

import torch
from torch import nn

from quantcal._core import CalibrationError
from quantcal._text import shown
from quantcal.params import QuantParams
from quantcal.torch.containers import (
    entries,
    find_tensors,
    number_tensors,
    rebuild_result,
    replace_tensors,
)
from quantcal.torch.forward_passes import ForwardTracker
from quantcal.torch.modules import did_you_mean, modules_by_path, run_uncompiled, unwrap
from quantcal.torch.tensor_quantization import (
    fake_quantize_per_token,
    fake_quantize_tensor,
)
from quantcal.torch.weight_quantization import Weights, replaced_weight, select_weights
from quantcal.torch.weights import weights_of

Activations: TypeAlias = "Literal['static', 'per_token'] | None"

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
    """Quantize and dequantize a model's activations and weights inside a `with` block.

    Values become those of `QuantParams.fake_quantize` in float32, bit for bit, and then
    return to their type. So a loss, perplexity or accuracy measured inside the block is that
    of the quantized model with exact arithmetic between its tensors. Everything is restored
    at the end of the block, also after an exception. Gradients do not pass.

    Parameters
    ----------
    model
        A `torch.nn.Module`. A compiled model runs uncompiled inside the block.
    table
        Parameters by the names that `observe` gives: a `CalibrationTable` or any mapping.
        Modules that are not in it stay in float. `path:weight` is a module's weight. `path`
        is for every call of a module, unless there are `path#1`, `path#2`, ....
    weights
        A format ("int8"), or parameters by module path or by name of the weight. A format
        gives the weights of all modules in the table the range of each output channel's
        extremes, symmetric for signed formats. Recurrent layers and `nn.MultiheadAttention`
        have several weights, such as `path:weight_ih_l0` and `path:out_proj.weight`.
        Embeddings have a range per row. None keeps weights that are not in the table. A
        shared weight, such as a tied embedding, changes only in the named module.
    activations
        "static" uses the ranges of the table, per tensor or per channel. "per_token" uses
        only its formats, and gives each vector along the last axis the range of its finite
        extremes, as kernels with dynamic quantization do. None keeps activations in float.

    Raises
    ------
    TypeError
        If the model is no module, or a tensor holds no floats.
    CalibrationError
        If a name in the table is no module of the model, or an argument is not allowed. If a
        module computes its weight from others (parametrizations, weight_norm). In a forward
        pass, if a module is called more often than in the table.

    Warns
    -----
    UserWarning
        If a format for weights leaves some in float: those of recurrent layers and attention
        that are not in the table, those of modules inside one that is, and matrices with an
        unknown output axis. If a called module does not have a tensor of the table.

    Examples
    --------
    >>> import torch
    >>> model = torch.nn.Linear(8, 2)
    >>> table = {"Linear": qc.QuantParams.from_range(-1, 1, format="int8")}
    >>> x = torch.linspace(-2, 2, 8)
    >>> with qc.torch.fake_quantize(model, table, weights="int8"):
    ...     quantized = model(x)
    >>> torch.equal(quantized, model(x))
    False
    """
    if activations is not None and activations not in ("static", "per_token"):
        allowed = ", ".join(repr(a) for a in ("static", "per_token", None))
        msg = f"activations is {shown(activations)}, but it must be one of {allowed}"
        raise CalibrationError(msg)
    root = unwrap(model)
    modules = modules_by_path(root)
    plans = _plans(table, modules)
    selected = select_weights(
        weights, {path: plan.weights for path, plan in plans.items()}, modules
    )
    forwards = ForwardTracker(root, lambda _: None)
    hooks: list[_Hooks] = []
    with contextlib.ExitStack() as stack:
        stack.enter_context(run_uncompiled(model))
        for name, (weight, params) in selected.items():
            stack.enter_context(replaced_weight(name, weight, params))
        if activations is not None:
            for path, plan in plans.items():
                hooks.append(_Hooks(path, plan, forwards, activations))
                for handle in hooks[-1].attach(modules[path]):
                    stack.callback(handle.remove)
            for handle in forwards.attach():
                stack.callback(handle.remove)
        yield
    _warn_of_unused([name for of_module in hooks for name in of_module.unused()])


Site = tuple[int | None, int | None]
"""The number of a module's call, and the number of its tensor; None for all."""


@dataclass
class _Plan:
    """The parameters of one module's tensors."""

    inputs: dict[Site, QuantParams] = field(default_factory=dict)
    outputs: dict[Site, QuantParams] = field(default_factory=dict)
    weights: dict[str, QuantParams] = field(default_factory=dict)


def _plans(
    table: Mapping[str, QuantParams], modules: Mapping[str, nn.Module]
) -> dict[str, _Plan]:
    """Return a plan by path for the modules in a table.

    Raises
    ------
    TypeError
        If a value is no `QuantParams`.
    CalibrationError
        If a name is no module of the model, or names skipped positions.
    """
    plans: dict[str, _Plan] = {}
    for name, params in table.items():
        path, _, label = name.rpartition(":")
        if path in modules and label in weights_of(modules[path]):
            _check_params(name, params)
            plans.setdefault(path, _Plan()).weights[label] = params
            continue
        found = _NAME.fullmatch(name)
        if found is None or found["path"] not in modules:
            path = found["path"] if found else name
            hint = did_you_mean(path, modules)
            msg = f'The table has "{name}", but the model has no such module.{hint}'
            raise CalibrationError(msg)
        if found["kind"] == "skipped" or found["rest"]:
            msg = (
                f'The table has "{name}", but fake_quantize quantizes skipped positions like '
                "all others. Remove it from the table."
            )
            raise CalibrationError(msg)
        _check_params(name, params)
        plan = plans.setdefault(found["path"], _Plan())
        site = tuple(
            None if found[k] is None else int(found[k]) for k in ("call", "index")
        )
        if found["kind"] == "weight":
            plan.weights["weight"] = params
        else:
            kind = plan.outputs if found["kind"] == "output" else plan.inputs
            kind[site] = params  # type: ignore[index]
    return plans


def _check_params(name: str, params: Any) -> None:
    if not isinstance(params, QuantParams):
        msg = f'"{name}" must have QuantParams, not {type(params).__name__}'
        raise TypeError(msg)


class _Hooks:
    """The hooks of one module."""

    block = "fake_quantize"

    def __init__(
        self, path: str, plan: _Plan, forwards: ForwardTracker, activations: Activations
    ) -> None:
        self._path = path
        self._plan = plan
        self._forwards = forwards
        self._fake = (
            fake_quantize_tensor if activations == "static" else fake_quantize_per_token
        )
        self._called: set[str] = set()
        self._used: set[tuple[str, Site]] = set()

    def unused(self) -> list[str]:
        """Return the names in the table for which no call of the module had a tensor."""
        return [
            f'"{_name(self._path, kind, site)}"'
            for kind, sites in (
                ("input", self._plan.inputs),
                ("output", self._plan.outputs),
            )
            for site in sites
            if kind in self._called and (kind, site) not in self._used
        ]

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
        values = self._quantize("input", [*args, *kwargs.values()], self._plan.inputs)
        named = dict(zip(kwargs, values[len(args) :], strict=True))
        return tuple(values[: len(args)]), named

    def _after(self, _: nn.Module, __: Any, output: Any) -> Any:
        parts = entries(output)
        changed = self._quantize("output", parts, self._plan.outputs)
        same = all(a is b for a, b in zip(changed, parts, strict=True))
        return output if same else rebuild_result(output, changed)

    def _quantize(
        self, kind: str, values: list[Any], sites: dict[Site, QuantParams]
    ) -> list[Any]:
        """Return the values, with the tensors that are in the table quantized."""
        self._called.add(kind)
        tensors, direct = find_tensors(values)
        for number, place in number_tensors(tensors, direct):
            site = self._site(sites, number)
            if site is not None:
                self._used.add((kind, site))
                tensors[place] = self._quantize_tensor(sites[site], tensors[place])
        try:
            return replace_tensors(values, tensors)
        except Exception as error:
            kinds = ", ".join(type(v).__name__ for v in values)
            msg = (
                f'Module "{self._path}" has tensors inside {kinds}, which cannot be rebuilt '
                f"with others: {type(error).__name__}: {error}"
            )
            raise CalibrationError(msg) from error

    def _quantize_tensor(
        self, params: QuantParams, tensor: torch.Tensor
    ) -> torch.Tensor:
        """Quantize a tensor, or return the result that the previous module got for it.

        The projections of attention, and those of a gated layer, share one input tensor.
        Versions show whether the tensor or the result has changed since.
        """
        forward = self._forwards.current()
        if forward is None or tensor.is_inference():
            return self._fake(params, tensor, self._path)
        if "last" in forward.notes:
            last, version, used, result, result_version = forward.notes["last"]
            same = last is tensor and version == tensor._version
            if (
                same
                and result._version == result_version
                and (used is params or used == params)
            ):
                return result
        result = self._fake(params, tensor, self._path)
        forward.notes["last"] = (
            tensor,
            tensor._version,
            params,
            result,
            result._version,
        )
        return result

    def _site(self, sites: dict[Site, QuantParams], index: int | None) -> Site | None:
        """Return the entry of the table for a tensor of the current call, if any.

        Raises
        ------
        CalibrationError
            If the table has ranges of fewer calls.
        """
        if (None, index) in sites and not any(call for call, _ in sites):
            return None, index
        forward = self._forwards.current()
        call = 1 if forward is None else forward.calls[self._path]
        for site in ((call, index), (None, index)):
            if site in sites:
                return site
        of_calls = [call for call, i in sites if i == index and call is not None]
        if of_calls:
            msg = (
                f'Module "{self._path}" is called {call} times in one forward pass, but the '
                f"table has ranges of {len(of_calls)} calls. Observe the model as it is used, "
                "or with merge_calls=True."
            )
            raise CalibrationError(msg)
        return None


def _name(path: str, kind: str, site: Site) -> str:
    call, index = site
    path = path if call is None else f"{path}#{call}"
    if index is not None:
        return f"{path}:{kind}.{index}"
    return path if kind == "input" else f"{path}:{kind}"


def _warn_of_unused(names: list[str]) -> None:
    if not names:
        return
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    msg = (
        f"The table has {', '.join(names[:5])}{more}, but the modules have no such tensor or "
        "call, so nothing was quantized there. Observe the model as it is used."
    )
    warnings.warn(msg, UserWarning, stacklevel=4)
