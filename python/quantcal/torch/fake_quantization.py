"""Fake quantisation: what a model is worth with given ranges, before any deployment."""

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
from quantcal.torch.forwards import Forwards
from quantcal.torch.modules import as_written, near, paths, unwrap
from quantcal.torch.nested import entries, numbered, rebuilt, replaced, tensors_of
from quantcal.torch.rounding import fake, fake_per_token
from quantcal.torch.rounding_weights import Weights, chosen_weights, with_weight
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
        output channel's extremes, symmetric for signed formats. Recurrent layers and
        `nn.MultiheadAttention` have several, `path:weight_ih_l0`, `path:in_proj_weight`,
        `path:out_proj.weight` and so on; embeddings have a range for each row. Or parameters
        by module path or by the name of the weight. None leaves weights that are not in
        the table as they are. A weight that is shared (a tied embedding) changes in the named
        module only.
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
        allowed, or a weight is computed from others (parametrizations, weight_norm); in a
        forward, if a module is called more often than the table knows.

    Warns
    -----
    UserWarning
        If a format for weights leaves some in float: those of recurrent layers and attention
        that are not in the table, of modules inside one that is, and matrices whose outputs
        nobody can tell. If the table has tensors that a module, when called, did not have.

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
        msg = f"activations is {shown(activations)}, but it must be one of {told}"
        raise CalibrationError(msg)
    root = unwrap(model)
    modules = paths(root)
    plans = _plans(table, modules)
    of_weights = chosen_weights(
        weights, {path: plan.weights for path, plan in plans.items()}, modules
    )
    forwards = Forwards(root, lambda _: None)
    hooks: list[_Hooks] = []
    with contextlib.ExitStack() as stack:
        stack.enter_context(as_written(model))
        for name, (weight, params) in of_weights.items():
            stack.enter_context(with_weight(name, weight, params))
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
"""Which call of a module, and which of its tensors; None for all."""


@dataclass
class _Plan:
    """What is quantised of one module."""

    inputs: dict[Site, QuantParams] = field(default_factory=dict)
    outputs: dict[Site, QuantParams] = field(default_factory=dict)
    weights: dict[str, QuantParams] = field(default_factory=dict)


def _plans(
    table: Mapping[str, QuantParams], modules: Mapping[str, nn.Module]
) -> dict[str, _Plan]:
    """Read the names of a table."""
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
            hint = near(path, modules)
            msg = f'The table has "{name}", but the model has no such module.{hint}'
            raise CalibrationError(msg)
        if found["kind"] == "skipped" or found["rest"]:
            msg = (
                f'The table has "{name}", but positions are not told apart here; leave it out: '
                "the skipped positions are quantised like all others."
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
        self, path: str, plan: _Plan, forwards: Forwards, activations: Activations
    ) -> None:
        self._path = path
        self._plan = plan
        self._forwards = forwards
        self._fake = fake if activations == "static" else fake_per_token
        self._called: set[str] = set()
        self._used: set[tuple[str, Site]] = set()

    def unused(self) -> list[str]:
        """Return the names of the table for which no call had a tensor, if there was any."""
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
        values = self._changed("input", [*args, *kwargs.values()], self._plan.inputs)
        named = dict(zip(kwargs, values[len(args) :], strict=True))
        return tuple(values[: len(args)]), named

    def _after(self, _: nn.Module, __: Any, output: Any) -> Any:
        parts = entries(output)
        changed = self._changed("output", parts, self._plan.outputs)
        same = all(a is b for a, b in zip(changed, parts, strict=True))
        return output if same else rebuilt(output, changed)

    def _changed(
        self, kind: str, values: list[Any], sites: dict[Site, QuantParams]
    ) -> list[Any]:
        """Return the values with those that the table knows quantized."""
        self._called.add(kind)
        tensors, direct = tensors_of(values)
        for number, place in numbered(tensors, direct):
            site = self._site(sites, number)
            if site is not None:
                self._used.add((kind, site))
                tensors[place] = self._quantised(sites[site], tensors[place])
        try:
            return replaced(values, tensors)
        except Exception as error:
            kinds = ", ".join(type(v).__name__ for v in values)
            msg = (
                f'Module "{self._path}" has tensors inside {kinds}, which cannot be made again '
                f"of others: {type(error).__name__}: {error}"
            )
            raise CalibrationError(msg) from error

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

    def _site(self, sites: dict[Site, QuantParams], index: int | None) -> Site | None:
        """Return which entry of the table is for a tensor of the current call."""
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
                f'Module "{self._path}" is called {call} times in one forward, but the table '
                f"has ranges of {len(of_calls)} calls; observe the model as it is used, or "
                "with merge_calls=True"
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
        "call: nothing was quantized there. Observe the model as it is used."
    )
    warnings.warn(msg, UserWarning, stacklevel=4)
