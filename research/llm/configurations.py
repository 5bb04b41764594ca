"""The configurations of the perplexity experiment: names, ranges, and their application."""

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
from quantcal.torch.groups import find_groups
from quantcal.torch.smoothing import Smoothing, smoothquant
from quantcal.torch.tensor_quantization import fake_quantize_per_token

from .chain import Chain, Change
from .measure import digest_of
from .smollm2 import LlamaForCausalLM

STRATEGIES = (
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
"""Kinds of layers by `layer_kind`, and the tables' names for their inputs."""

ALL = "all"

SUMS = "one core for a window, linear layers that read one tensor as one product"
"""The order of sums, a part of the digest: another order changes the last digits."""

Table = Mapping[str, qc.QuantParams]


@dataclass(frozen=True)
class Configuration:
    """One line of a table: ranges by tensor, and how they are applied.

    Parameters
    ----------
    name
        What the tables call it.
    column
        The kind of quantized inputs, or "all".
    table
        Parameters by the names of `READ`; empty for the float model.
    activations
        "static" ranges, or "per_token".
    weights
        A format for the weights of the modules in the table; None leaves them in float.
    smoothing
        The label of the smoothed model; empty for the model as it is.
    main
        Whether it is a strategy or mixed precision. These are read in all windows, unless the
        first windows show the model destroyed.
    """

    name: str
    column: str = ALL
    table: Table = field(default_factory=dict)
    activations: Literal["static", "per_token"] = "static"
    weights: str | None = None
    smoothing: str = ""
    main: bool = True

    def content(self) -> dict[str, Any]:
        """Return everything that determines the result, as plain data."""
        ranges = {name: params.to_dict() for name, params in self.table.items()}
        for params in ranges.values():
            del params["strategy"]  # equal ranges give equal losses
        return {
            "ranges": ranges,
            "activations": self.activations,
            "weights": self.weights,
            "smoothing": self.smoothing,
        }

    @cached_property
    def digest(self) -> str:
        """A digest of the content, which identifies the configuration."""
        return digest_of([SUMS, self.content()])

    def plan(self, names: Iterable[str]) -> list[tuple[str, Change | None]]:
        """Return a key and the change for each tensor of a chain."""
        ranges = self.content()["ranges"]
        per_token = self.activations == "per_token"
        return [
            (f"{self.activations} {ranges[name]}", _change(self.table[name], per_token))
            if name in self.table
            else ("", None)
            for name in names
        ]


def _change(params: qc.QuantParams, per_token: bool) -> Change:
    """Return a function that quantizes and dequantizes a tensor."""
    if per_token:
        return lambda x: fake_quantize_per_token(params, x, "")
    return lambda x: torch.from_numpy(params.fake_quantize(x.numpy()))


def of_kind(table: Table, kind: str) -> dict[str, qc.QuantParams]:
    """Return the part of a table for one kind of layer."""
    return {name: params for name, params in table.items() if layer_kind(name) == kind}


def matrix(tables: Mapping[str, Table]) -> list[Configuration]:
    """Return every strategy, on all inputs and on those of one kind of layer.

    What is no strategy of quantcal is main on all inputs only.
    """
    found = []
    for strategy, table in tables.items():
        found.append(Configuration(strategy, table=table))
        found += [
            Configuration(
                strategy, kind, of_kind(table, kind), main=strategy in STRATEGIES
            )
            for kind in KINDS
        ]
    return found


CUSTOMARY = {
    "layer:attention_qkv": "percentile_99.99",
    "layer:attention_out": "kl",
    "layer:ffn_up": "percentile_99.9",
    "layer:ffn_down": "kl",
}
"""A frequent recommendation for each kind of layer."""


def policies(cal: qc.Calibrator) -> list[Configuration]:
    """Return the named policy, and the customary one."""
    return [
        Configuration(name, table=cal.compute(policy, format="uint8"), main=False)
        for name, policy in (("llm_layers", "llm_layers"), ("customary", CUSTOMARY))
    ]


def mixed_precision(cal: qc.Calibrator) -> list[Configuration]:
    """Return MSE with those tensors in float that lose the most values to zero."""
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
    """Return the tensors by the share of values that round to zero, largest first."""
    return sorted(table, key=lambda n: table.report[n].rounded_to_zero, reverse=True)


def other_grids(cal: qc.Calibrator, channels: qc.Calibrator) -> list[Configuration]:
    """Return 4 bits, ranges by channel, and ranges of each token."""
    found = []
    for bits in (8, 4):
        format = f"uint{bits}"
        table = cal.compute("mse", format=format)
        by_channel = channels.compute("minmax", format=format)
        width = f"{bits} bits"
        if bits == 4:
            found.append(Configuration(f"mse, {width}", table=table, main=False))
        found += [
            Configuration(f"minmax per channel, {width}", table=by_channel, main=False),
            Configuration(
                f"per token, {width}", table=table, activations="per_token", main=False
            ),
        ]
    return found


def with_int8_weights(
    cal: qc.Calibrator,
    smoothing: str = "",
    strategies: Sequence[str] = ("minmax", "mse"),
) -> list[Configuration]:
    """Return strategies with quantized weights, of the model as it is or smoothed."""
    return [
        Configuration(
            ", ".join(filter(None, (strategy, "int8 weights", smoothing))),
            table=cal.compute(strategy, format="uint8"),
            weights="int8",
            smoothing=smoothing,
            main=False,
        )
        for strategy in strategies
    ]


def with_weights(model: LlamaForCausalLM, format: str) -> Chain:
    """Return the model with the weights of its blocks quantized by output channel."""
    linear = [
        name
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear) and name != "lm_head"
    ]
    # Not applied: only the weights are quantized.
    ranges = qc.QuantParams.from_range(-1, 1, format="uint8")
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
    """Smooth the model, with down projections; restore its weights at the end.

    The model must compute the same of the sample. With ``alpha=None`` exponents are searched
    for ranges of `strategy`.
    """
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    chosen = find_groups(model, products=True)
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
