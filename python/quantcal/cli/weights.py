"""The options of weights: declared, and gathered for the library."""

from __future__ import annotations

from enum import Enum
from typing import Annotated, Any

import typer

from quantcal.cli.options import WEIGHTS, parse_formats
from quantcal.onnx._plan.cpu import CPUS


class ReduceRange(str, Enum):
    """Whether weights take 7 bits."""

    AUTO = "auto"
    NODES = "nodes"
    YES = "yes"
    NO = "no"


Cpu = Enum("Cpu", {name: name for name in CPUS}, type=str)  # type: ignore[misc]


class WeightStrategy(str, Enum):
    """How the ranges of weights are chosen."""

    MINMAX = "minmax"
    MSE = "mse"


_REDUCE_RANGE: dict[ReduceRange, bool | str] = {
    ReduceRange.AUTO: "auto",
    ReduceRange.NODES: "nodes",
    ReduceRange.YES: True,
    ReduceRange.NO: False,
}

WeightOption = Annotated[
    list[str] | None,
    typer.Option(
        "--weight",
        metavar="FORMAT",
        show_default="int8, or the small float of the activations",
        rich_help_panel=WEIGHTS,
        help="Format of weights. 'int8' has the fast kernels; 'uint8' is affine; 'int4' "
        "and 'uint4' take an eighth of the float's size, best with --activation none; "
        "'int7', 'uint7', 'int16', 'float8_e4m3fn', 'float8_e5m2'. Or PATTERN=FORMAT for "
        "weights by name, 'node:PATTERN=FORMAT' for those of nodes.",
    ),
]
WeightStrategyOption = Annotated[
    WeightStrategy | None,
    typer.Option(
        "--weight-strategy",
        show_default="mse for 4 bits, else minmax",
        rich_help_panel=WEIGHTS,
        help="Ranges of weights: 'minmax' clips nothing; 'mse' clips where that lowers "
        "the squared error: by 1 to 3 dB with 4 bits, 0.1 to 0.4 with 8.",
    ),
]
BlockSizeOption = Annotated[
    int | None,
    typer.Option(
        "--block-size",
        metavar="N",
        show_default="32, as in most 4-bit files",
        rich_help_panel=WEIGHTS,
        help="So many values of a 4-bit matrix share a scale. Fewer are more exact and "
        "larger; 0 for one scale a channel.",
    ),
]
PerChannelOption = Annotated[
    bool | None,
    typer.Option(
        "--per-channel/--per-tensor",
        show_default="per channel, which is more exact and costs nothing",
        rich_help_panel=WEIGHTS,
        help="One scale for each output channel of a weight, or one for all.",
    ),
]
ReduceRangeOption = Annotated[
    ReduceRange | None,
    typer.Option(
        "--reduce-range",
        show_default="auto",
        rich_help_panel=WEIGHTS,
        help="7-bit weights: 'auto' takes them for onnxruntime when the CPU has no VNNI, "
        "in the nodes whose 8-bit sums would overflow; 'yes' in all nodes.",
    ),
]
CpuOption = Annotated[
    Cpu | None,
    typer.Option(
        "--cpu",
        show_default="auto: this machine",
        rich_help_panel=WEIGHTS,
        help="Where onnxruntime will run the model, which decides --reduce-range auto.",
    ),
]


def weights(
    weight: list[str] | None,
    strategy: WeightStrategy | None,
    block_size: int | None,
    per_channel: bool | None,
    reduce_range: ReduceRange | None,
    cpu: Cpu | None,
) -> dict[str, Any]:
    """Return the options of weights; only those that were given."""
    plain, rules = parse_formats(weight, "--weight")
    options = {
        "weight": plain,
        "weight_formats": rules or None,
        "weight_strategy": strategy.value if strategy else None,
        "block_size": block_size,
        "per_channel": per_channel,
        "reduce_range": _REDUCE_RANGE[reduce_range] if reduce_range else None,
        "cpu": cpu.value if cpu else None,
    }
    return {name: value for name, value in options.items() if value is not None}
