"""What the perplexity experiment measures: a name, ranges, and how they are applied."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import torch

import quantcal as qc
from quantcal.strategies.layers import layer_kind
from quantcal.torch import fake_quantize
from quantcal.torch.groups import groups
from quantcal.torch.rounding import fake_per_token
from quantcal.torch.smoothing import Smoothing, smoothquant

from .chain import Chain, Change
from .measure import digest_of
from .smollm2 import LlamaForCausalLM

METHODS = (
    "minmax",
    "percentile_99.999",
    "percentile_99.99",
    "percentile_99.9",
    "percentile_adaptive",
    "kl",
    "mse",
    "entropy",
    "aciq",
    "hybrid",
)
KINDS = {
    "attention_qkv": "q/k/v input",
    "attention_out": "attention output",
    "ffn_up": "FFN up/gate input",
    "ffn_down": "FFN down input",
}
"""Kinds of layers as `layer_kind` tells them, and what the tables call their inputs."""

ALL = "all"

SUMS = "one core for a window, linear layers that read one tensor as one product"
"""In which order is summed: results of another order differ in the last digits."""

Table = Mapping[str, qc.QuantParams]


@dataclass(frozen=True)
class Configuration:
    """One line of a table: ranges by tensor, and how they are applied.

    Parameters
    ----------
    name
        What the tables call it.
    column
        The kind of inputs that are quantized, or "all".
    table
        Parameters by the names of `READ`; empty for the float model.
    activations
        "static" ranges, or those of each token.
    weights
        A format for the weights of the modules in the table; None leaves them in float.
    smoothing
        How the model is smoothed when this is measured; empty if it is not.
    main
        Whether it is a method, or mixed precision: what is read in all windows, unless the
        first ones show the model destroyed.
    """

    name: str
    column: str = ALL
    table: Table = field(default_factory=dict)
    activations: Literal["static", "per_token"] = "static"
    weights: str | None = None
    smoothing: str = ""
    main: bool = True

    def content(self) -> dict[str, Any]:
        """Return all that decides the result, as plain data."""
        ranges = {name: params.to_dict() for name, params in self.table.items()}
        for params in ranges.values():
            del params["strategy"]  # equal ranges by another method give equal losses
        return {
            "ranges": ranges,
            "activations": self.activations,
            "weights": self.weights,
            "smoothing": self.smoothing,
        }

    @cached_property
    def digest(self) -> str:
        """What tells this configuration from others."""
        return digest_of([SUMS, self.content()])

    def plan(self, names: Iterable[str]) -> list[tuple[str, Change | None]]:
        """Return what is done to each tensor of a chain, and a key of it."""
        ranges = self.content()["ranges"]
        per_token = self.activations == "per_token"
        return [
            (f"{self.activations} {ranges[name]}", _change(self.table[name], per_token))
            if name in self.table
            else ("", None)
            for name in names
        ]


def _change(params: qc.QuantParams, per_token: bool) -> Change:
    """Return what quantizes and dequantizes a tensor."""
    if per_token:
        return lambda x: fake_per_token(params, x, "")
    return lambda x: torch.from_numpy(params.fake_quantize(x.numpy()))


def of_kind(table: Table, kind: str) -> dict[str, qc.QuantParams]:
    """Return the part of a table for one kind of layer."""
    return {name: params for name, params in table.items() if layer_kind(name) == kind}


def matrix(tables: Mapping[str, Table]) -> list[Configuration]:
    """Return every method, on all inputs and on those of one kind of layer.

    What is no method of quantcal is main on all inputs only.
    """
    found = []
    for method, table in tables.items():
        found.append(Configuration(method, table=table))
        found += [
            Configuration(method, kind, of_kind(table, kind), main=method in METHODS)
            for kind in KINDS
        ]
    return found


CUSTOMARY = {
    "layer:attention_qkv": "percentile_99.99",
    "layer:attention_out": "kl",
    "layer:ffn_up": "percentile_99.9",
    "layer:ffn_down": "kl",
}
"""What is often recommended for each kind of layer."""


def policies(cal: qc.Calibrator) -> list[Configuration]:
    """Return the named policy, and the customary one."""
    return [
        Configuration(name, table=cal.compute(policy, format="uint8"), main=False)
        for name, policy in (("llm_layers", "llm_layers"), ("customary", CUSTOMARY))
    ]


def mixed_precision(cal: qc.Calibrator) -> list[Configuration]:
    """Return MSE with the tensors left in float that lose the most values to zero."""
    table = cal.compute("mse", format="uint8")
    worst = most_lost(table)
    return [
        Configuration(
            f"mse, {number} of {len(table)} in float",
            table={name: table[name] for name in table if name not in worst[:number]},
        )
        for number in (1, 2, 4, 6)
    ]


def most_lost(table: qc.CalibrationTable) -> list[str]:
    """Return the tensors, those that lose the largest share of values to zero first."""
    return sorted(table, key=lambda n: table.report[n].rounded_to_zero, reverse=True)


def other_grids(cal: qc.Calibrator, channels: qc.Calibrator) -> list[Configuration]:
    """Return 4 bits, ranges by channel, and ranges of each token."""
    found = []
    for bits in (8, 4):
        format = f"uint{bits}"
        table = cal.compute("mse", format=format)
        by_channel = channels.compute("minmax", format=format)
        told = f"{bits} bits"
        if bits == 4:
            found.append(Configuration(f"mse, {told}", table=table, main=False))
        found += [
            Configuration(f"minmax per channel, {told}", table=by_channel, main=False),
            Configuration(
                f"per token, {told}", table=table, activations="per_token", main=False
            ),
        ]
    return found


def with_int8_weights(
    cal: qc.Calibrator, smoothing: str = "", methods: Sequence[str] = ("minmax", "mse")
) -> list[Configuration]:
    """Return methods with weights quantized too, of a model as it is or smoothed."""
    return [
        Configuration(
            ", ".join(filter(None, (method, "int8 weights", smoothing))),
            table=cal.compute(method, format="uint8"),
            weights="int8",
            smoothing=smoothing,
            main=False,
        )
        for method in methods
    ]


def with_weights(model: LlamaForCausalLM, format: str) -> Chain:
    """Return the model with the weights of its blocks quantized by output channel."""
    linear = [
        name
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear) and name != "lm_head"
    ]
    ranges = qc.QuantParams.from_range(-1, 1, format="uint8")  # of no activations
    table = dict.fromkeys(linear, ranges)
    with fake_quantize(model, table, weights=format, activations=None):
        return Chain(model)


@contextmanager
def smoothed(
    model: LlamaForCausalLM,
    channels: qc.Calibrator,
    sample: torch.Tensor,
    alpha: float | None,
    strategy: str = "minmax",
) -> Iterator[list[Smoothing]]:
    """Smooth the model, down projections too; put its weights back at the end.

    What it computes of the sample is compared. A search of exponents, alpha=None, assumes
    ranges by that strategy.
    """
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    chosen = groups(model, products=True)
    try:
        yield smoothquant(
            model,
            channels,
            alpha=alpha,
            groups=chosen,
            sample=sample,
            format="uint8",
            strategy=strategy,
        )
    finally:
        model.load_state_dict(before)
