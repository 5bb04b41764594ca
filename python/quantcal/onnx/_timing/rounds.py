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
    one, other = (
        _Table(m, c, share_kernels(m.kernels, c, groups, nodes, quantized))
        for m, c in zip(models, claims, strict=True)
    )
    owners = {name for name, count in counts.items() if count}
    owners |= one.whole.keys() | other.whole.keys()
    fused: dict[str, list[str]] = {}
    for name, top in groups.items():
        if name not in owners:
            fused.setdefault(top, []).append(name)
    found = {}
    for name in sorted(owners, key=nodes.order.__getitem__):
        with_it = fused.get(groups[name], [])
        kind, count = nodes.operators[name], counts.get(name, 0)
        found[name] = _node_time(name, with_it, kind, count, quantized, one, other)
    return found, (one.other, other.other)


class _Table:
    """The times of one model by node and round, and its kernels by node."""

    def __init__(self, model: ModelRounds, claims: Claims, shares: Shares) -> None:
        self._rounds = len(model.rounds)
        self._kernels: dict[str, list[Kernel]] = {}
        for kernel, nodes in claims.items():
            for name in nodes:
                self._kernels.setdefault(name, []).append(model.kernels[kernel])
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

    def kernels(self, names: Sequence[str]) -> list[Kernel]:
        """Return the kernels of nodes, those of the first node first."""
        return [kernel for name in names for kernel in self._kernels.get(name, ())]

    def label(self, names: Sequence[str]) -> str:
        return " + ".join(dict.fromkeys(k.op_type for k in self.kernels(names)))


def _node_time(
    name: str,
    fused: Sequence[str],
    op_type: str,
    count: int,
    quantized: Mapping[str, str],
    one: _Table,
    other: _Table,
) -> NodeTime:
    together = [name, *fused]
    first, second = one.of(name), other.of(name)
    lower, upper = np.quantile(first - second, (0.25, 0.75))
    kernel = other.label(together)
    integer = any(k.is_integer or k.moves_codes for k in other.kernels(together))
    return NodeTime(
        op_type=op_type,
        float_ms=float(np.median(first)),
        integer_ms=float(np.median(second)),
        conversion_ms=other.conversions_of(name),
        spread_ms=float(upper - lower) / 2,
        rounds_won=float(np.mean(second < first)),
        multiply_adds=count,
        float_kernel=one.label(together),
        kernel=kernel,
        quantized=any(each in quantized for each in together),
        reason="" if integer else _reason(together, quantized, kernel),
        fused=tuple(fused),
    )


def _reason(names: Sequence[str], quantized: Mapping[str, str], kernel: str) -> str:
    for each in names:
        if each in quantized:
            if not kernel:
                return "onnxruntime removed it"
            return quantized[each] or f"onnxruntime chose the float kernel {kernel}"
    return "left in float"
