"""Finds the parameters of a module that are its weights, and the axis of their outputs.

Most modules have one matrix, `weight`. Recurrent layers and attention have several with other
names, and attention uses the weight of its `out_proj` without calling it. The layout of
matrices in other modules is unknown, so their names are reported.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn.utils.parametrize import ParametrizationList

_RECURRENT = (nn.RNNBase, nn.RNNCellBase)
_ATTENTION = (
    "in_proj_weight",
    "q_proj_weight",
    "k_proj_weight",
    "v_proj_weight",
    "out_proj.weight",
)


@dataclass(frozen=True)
class Weight:
    """One weight of a module.

    Parameters
    ----------
    owner, attribute
        The module that holds it, and its name there.
    axis
        The axis of the outputs; None if it is unknown.
    """

    owner: nn.Module
    attribute: str
    axis: int | None = 0

    @property
    def parameter(self) -> nn.Parameter | None:
        """The parameter itself; None if the module computes it from others."""
        return self.owner._parameters.get(self.attribute)

    @property
    def tensor(self) -> torch.Tensor:
        """The values, also if the module computes them from other parameters."""
        found: torch.Tensor = getattr(self.owner, self.attribute)
        return found


def weights_of(module: nn.Module) -> dict[str, Weight]:
    """Return a module's weights by name: matrices, and kernels of convolutions.

    Recurrent layers and cells have `weight_ih...`, `weight_hh...` and `weight_hr...`.
    Attention has `out_proj.weight`, and `in_proj_weight` or those of q, k and v. All others
    have `weight`, with one row per output. The outputs of transposed convolutions, and of
    GPT-2's Conv1D in transformers, lie along axis 1. Matrices with other names come last, and
    their axis is unknown.
    """
    found: dict[str, Weight] = {}
    for name in _names(module):
        owner, _, attribute = name.rpartition(".")
        inner = module.get_submodule(owner)
        if _is_matrix(getattr(inner, attribute, None)):
            found[name] = Weight(inner, attribute, _axis(module))
    # weight_norm and pruning compute a weight from weight_g, weight_v and weight_orig.
    computed = tuple(f"{n}_" for n, w in found.items() if w.parameter is None)
    for name, parameter in module._parameters.items():
        known = name in found or "bias" in name or name.startswith(computed)
        if not known and _is_matrix(parameter):
            found[name] = Weight(module, name, None)
    return found


def _names(module: nn.Module) -> Iterable[str]:
    if isinstance(module, nn.MultiheadAttention):
        return _ATTENTION
    if isinstance(module, nn.RNNBase):
        return [n for n in module._flat_weights_names if n.startswith("weight")]
    if isinstance(module, nn.RNNCellBase):
        return ("weight_ih", "weight_hh")
    return ("weight",)


def _axis(module: nn.Module) -> int:
    kind = type(module)
    of_gpt2 = kind.__name__ == "Conv1D" and kind.__module__.startswith("transformers.")
    return int(isinstance(module, nn.modules.conv._ConvTransposeNd) or of_gpt2)


def _is_matrix(value: object) -> bool:
    return (
        isinstance(value, torch.Tensor)
        and value.ndim >= 2
        and value.dtype.is_floating_point
    )


def left_in_float(
    chosen: Iterable[str], modules: Mapping[str, nn.Module], known: Iterable[str]
) -> list[str]:
    """Return the names of weights that one format for all chosen modules does not quantize.

    These are the weights of unknown axis in chosen modules, and the weights of other modules
    inside chosen ones. The rest are those of recurrent layers and attention that are not
    chosen, since `observe` skips them by default. Other modules were left out on purpose.

    Parameters
    ----------
    chosen
        Paths of the modules to quantize.
    modules
        All modules of the model, by path.
    known
        Names of weights whose parameters are given.
    """
    paths = set(chosen)
    ranges = set(known)
    reached = {
        (id(w.owner), w.attribute)
        for path in paths
        for w in weights_of(modules[path]).values()
        if w.axis is not None
    }
    root = next(iter(modules))
    left: dict[tuple[int, str], str] = {}
    for path, module in modules.items():
        if isinstance(module, ParametrizationList):
            continue
        inside = any(path.startswith(f"{p}.") or p == root for p in paths)
        wanted = path in paths or inside
        wanted = wanted or isinstance(module, (*_RECURRENT, nn.MultiheadAttention))
        for name, weight in weights_of(module).items() if wanted else ():
            full = f"{path}:{name}"
            site = (id(weight.owner), weight.attribute)
            if site not in reached and full not in ranges:
                left.setdefault(site, full)
    return list(left.values())
