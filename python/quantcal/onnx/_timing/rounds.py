"""Compare the rounds of both models: medians and spreads of each node."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from quantcal.onnx._graph.graph import all_nodes
from quantcal.onnx._timing.attribution import Shares, share_kernels
from quantcal.onnx._timing.groups import (
    Claims,
    FloatGraph,
    claim_products,
    group_nodes,
)
from quantcal.onnx._timing.node_times import NodeTime

if TYPE_CHECKING:
    import onnx
    from numpy.typing import NDArray

    from quantcal.onnx._timing.profile import Kernel
    from quantcal.onnx._timing.timed_model import TimedModel

_MOVED = frozenset({"Transpose", "Reshape", "Squeeze", "Unsqueeze", "Cast", "Identity"})


@dataclass(frozen=True, slots=True)
class ModelRounds:
    """The kernels of a model and their times.

    Attributes
    ----------
    kernels : dict of str to Kernel
    claims : dict of str to frozenset of str
        Kernel → the nodes of the float model whose marks it has.
    rounds : list of dict
        For each round, kernel → milliseconds of one sample, the mean over the samples.
    """

    kernels: dict[str, Kernel]
    claims: Claims
    rounds: list[dict[str, float]]

    @classmethod
    def of(
        cls,
        model: TimedModel,
        kernels: dict[str, Kernel],
        names: Sequence[str | None] | None,
        runs: Sequence[Mapping[str, float]],
        samples: int,
    ) -> ModelRounds:
        """Collect the runs of a model.

        Parameters
        ----------
        model : TimedModel
        kernels : dict of str to Kernel
        names : sequence of (str or None), optional
            The float node of each node of the model; by default its own name.
        runs : sequence of mapping
            Kernel → milliseconds, for all samples of a round, then for those of the next.
        samples : int
            The number of samples of a round.
        """
        if names is None:
            names = [node.name for node in all_nodes(model.graph)]
        rounds = []
        for start in range(0, len(runs), samples):
            total: dict[str, float] = {}
            for run in runs[start : start + samples]:
                for name, time in run.items():
                    total[name] = total.get(name, 0.0) + time / samples
            rounds.append(total)
        claims = {
            name: _claimed(kernel, model, names) for name, kernel in kernels.items()
        }
        return cls(kernels, claims, rounds)


def _claimed(
    kernel: Kernel, model: TimedModel, names: Sequence[str | None]
) -> frozenset[str]:
    if kernel.is_conversion:
        return frozenset()
    numbers = model.marks.numbers(kernel.name)
    # A Transpose that onnxruntime adds writes a tensor of the model under its own name.
    if numbers or kernel.operator not in _MOVED:
        numbers |= model.marks.numbers(*kernel.outputs)
    return frozenset(name for n in numbers if (name := names[n]) is not None)


def compare_rounds(
    graph: onnx.GraphProto,
    counts: Mapping[str, int],
    quantized: Mapping[str, str],
    first: ModelRounds,
    second: ModelRounds,
) -> tuple[dict[str, NodeTime], tuple[float, float]]:
    """Attribute the times of a float model and its quantized copy to the float nodes.

    Parameters
    ----------
    graph : GraphProto
        Of the float model.
    counts : mapping of str to int
        Node → multiply-adds.
    quantized : mapping of str to str
        Quantized node → what speaks against an integer kernel, or ``""``.
    first, second : ModelRounds
        Of the float model and the quantized one.

    Returns
    -------
    tuple of (dict, tuple of (float, float))
        Node → times, in graph order, and the milliseconds of both models that belong to no
        node.
    """
    nodes = FloatGraph(graph, counts)
    models = (first, second)
    claims = [claim_products(m.kernels, m.claims, nodes) for m in models]
    groups = group_nodes(nodes, *claims)
    shares = [
        share_kernels(m.kernels, c, groups, nodes, quantized)
        for m, c in zip(models, claims, strict=True)
    ]
    tables = [_Table(m, s) for m, s in zip(models, shares, strict=True)]
    owners = {name for table in tables for name in table.whole}
    owners |= {name for name, count in counts.items() if count}
    found = {}
    for name in sorted(owners, key=nodes.order.__getitem__):
        fused = [
            n for n, top in groups.items() if top == groups[name] and n not in owners
        ]
        labels = [
            _label(m.kernels, c, name, fused)
            for m, c in zip(models, claims, strict=True)
        ]
        is_quantized = any(each in quantized for each in (name, *fused))
        integer = _integer_kernels(second.kernels, claims[1], name, fused)
        reason = "" if integer else _reason(name, fused, quantized, labels[1])
        one, other = (table.of(name) for table in tables)
        lower, upper = np.quantile(one - other, (0.25, 0.75))
        found[name] = NodeTime(
            op_type=nodes.operators[name],
            float_ms=float(np.median(one)),
            integer_ms=float(np.median(other)),
            conversion_ms=tables[1].conversions_of(name),
            spread_ms=float(upper - lower) / 2,
            rounds_won=float(np.mean(other < one)),
            multiply_adds=counts.get(name, 0),
            float_kernel=labels[0],
            kernel=labels[1],
            quantized=is_quantized,
            reason=reason,
            fused=tuple(fused),
        )
    return found, (tables[0].other, tables[1].other)


class _Table:
    """The times of one model by node and round."""

    def __init__(self, model: ModelRounds, shares: Shares) -> None:
        self._rounds = len(model.rounds)
        self.whole: dict[str, NDArray[Any]] = {}
        self._converting: dict[str, NDArray[Any]] = {}
        others = []
        for number, times in enumerate(model.rounds):
            whole, converting, other = shares.divide(times)
            others.append(other)
            for kept, given in (
                (self.whole, whole),
                (self._converting, converting),
            ):
                for name, time in given.items():
                    kept.setdefault(name, np.zeros(self._rounds))[number] = time
        self.other = float(np.median(others))

    def of(self, name: str) -> NDArray[Any]:
        return self.whole.get(name, np.zeros(self._rounds))

    def conversions_of(self, name: str) -> float:
        return float(np.median(self._converting.get(name, np.zeros(1))))


def _kernels(claims: Claims, name: str, fused: Sequence[str]) -> list[str]:
    """Return the kernels of a node and of those fused with it; its own come first."""
    own = [kernel for kernel, nodes in claims.items() if name in nodes]
    more = [kernel for kernel, nodes in claims.items() if nodes.intersection(fused)]
    return list(dict.fromkeys([*own, *more]))


def _label(
    kernels: Mapping[str, Kernel], claims: Claims, name: str, fused: Sequence[str]
) -> str:
    types = [kernels[k].op_type for k in _kernels(claims, name, fused)]
    return " + ".join(dict.fromkeys(types))


def _integer_kernels(
    kernels: Mapping[str, Kernel], claims: Claims, name: str, fused: Sequence[str]
) -> bool:
    found = [kernels[k] for k in _kernels(claims, name, fused)]
    return any(kernel.is_integer or kernel.moves_codes for kernel in found)


def _reason(
    name: str, fused: Sequence[str], quantized: Mapping[str, str], kernel: str
) -> str:
    for each in (name, *fused):
        if each in quantized:
            if not kernel:
                return "onnxruntime removed it"
            return quantized[each] or f"onnxruntime chose the float kernel {kernel}"
    return "left in float"
