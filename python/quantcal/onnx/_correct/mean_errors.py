"""The mean of the products of some nodes, by channel, over samples.

Reductions are put into the graph, so that a run returns a few numbers for each node. What
corrects a node is an input of that graph.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from quantcal.onnx._correct.bias_targets import Target
from quantcal.onnx._correct.sampled_rows import (
    RowStore,
    as_rows,
    places_of,
    row_nodes,
)
from quantcal.onnx._graph.graph import names_of, unique_name
from quantcal.onnx._graph.inputs import Feed
from quantcal.onnx._runtime.memory_groups import run
from quantcal.onnx._runtime.session import Workspace

if TYPE_CHECKING:
    import onnx

Vector = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Probe:
    """The tensors that measure and correct the products of one node.

    Attributes
    ----------
    target : Target
    total, size : str
        The sum by channel, and the number of values.
    rows : str
        Some of the values: see :mod:`quantcal.onnx._correct.sampled_rows`.
    shift : str
        An input that is added to the products.
    """

    target: Target
    total: str
    size: str
    rows: str
    shift: str

    @property
    def outputs(self) -> tuple[str, str, str]:
        """What a run returns."""
        return self.total, self.size, self.rows

    def shaped(self, shift: Vector | None) -> NDArray[np.float32]:
        """Return a shift of the channels, as the graph takes it; None for zeros."""
        values = np.zeros(self.target.channels) if shift is None else shift
        shape = (-1,) + (1,) * (-self.target.axis - 1)
        return values.astype(np.float32).reshape(shape)


class Means:
    """Sums of the channels of some nodes, to be divided by their number of values."""

    def __init__(self, probes: Mapping[str, Probe]) -> None:
        self._channels = {name: p.target.channels for name, p in probes.items()}
        self._totals = {name: np.zeros(c) for name, c in self._channels.items()}
        self._counts = dict.fromkeys(probes, 0)

    def add(self, name: str, total: Any, size: Any) -> None:
        """Add the sums of one run."""
        self._totals[name] += np.reshape(total, -1)
        self._counts[name] += int(size) // self._channels[name]

    def result(self) -> dict[str, Vector]:
        """Return the means. Every value of a channel counts the same.

        They are NaN for products that were empty in all samples.
        """
        counts = self._counts
        return {n: total / (counts[n] or np.nan) for n, total in self._totals.items()}


def float_means(
    work: Workspace, targets: Sequence[Target], samples: Sequence[Feed], rows: RowStore
) -> dict[str, Vector]:
    """Return the mean of each channel of the products of a model's nodes, by node name.

    Also put some of the products into ``rows``.
    """
    probes: dict[str, Probe] = {}
    places = places_of(len(samples))
    session = work.open_changed(
        lambda proto: probes.update(insert_probes(proto, targets, places))
    )
    wanted = [name for probe in probes.values() for name in probe.outputs]
    zeros = {probe.shift: probe.shaped(None) for probe in probes.values()}
    means = Means(probes)
    for number, feed in enumerate(samples):
        found = run(session, wanted, {**feed, **zeros}, f"sample {number}")
        for (name, probe), total, size, some in zip(
            probes.items(), found[::3], found[1::3], found[2::3], strict=True
        ):
            means.add(name, total, size)
            rows.add(name, number, as_rows(probe.target, some, places))
    return means.result()


def insert_probes(
    proto: onnx.ModelProto, targets: Sequence[Target], places: int
) -> dict[str, Probe]:
    """Put reductions and shifts behind the nodes of targets, which are found by name.

    The outputs of the model become those of the probes, with values at so many ``places``.
    """
    import onnx

    helper, graph = onnx.helper, proto.graph
    wanted = {target.node.name: target for target in targets}
    probes: dict[str, Probe] = {}
    taken = names_of(graph) | {node.name for node in graph.node}
    nodes: list[Any] = []
    del graph.output[:]
    for node in graph.node:
        nodes.append(node)
        target = wanted.get(node.name)
        if target is None:
            continue
        made = node.output[0]
        raw, wide, axes = (
            unique_name(f"{made}_{what}", taken) for what in ("raw", "wide", "axes")
        )
        names = [
            unique_name(f"{made}_{what}", taken)
            for what in ("total", "size", "rows", "shift")
        ]
        probe = Probe(target, *names)
        node.output[0] = raw
        others = np.asarray(_other_axes(target), dtype=np.int64)
        graph.initializer.append(onnx.numpy_helper.from_array(others, axes))
        double = onnx.TensorProto.DOUBLE
        picked, constants = row_nodes(target, raw, probe.rows, places, taken)
        graph.initializer.extend(constants)
        nodes += [
            helper.make_node("Cast", [raw], [wide], to=double),
            *_totals(target, wide, axes, probe.total, taken),
            helper.make_node("Size", [raw], [probe.size]),
            *picked,
            helper.make_node("Add", [raw, probe.shift], [made]),
        ]
        graph.input.append(
            helper.make_tensor_value_info(
                probe.shift, onnx.TensorProto.FLOAT, [None] * -target.axis
            )
        )
        graph.output.extend(onnx.ValueInfoProto(name=name) for name in probe.outputs)
        probes[node.name] = probe
    del graph.node[:]
    graph.node.extend(nodes)
    return probes


def _other_axes(target: Target) -> list[int]:
    """Return the axes of a Conv's products without that of the channels."""
    rank = 1 - target.axis
    return [axis for axis in range(rank) if axis != rank + target.axis]


def _totals(
    target: Target, wide: str, axes: str, total: str, taken: set[str]
) -> list[Any]:
    """Return the nodes that sum a tensor by channel, for any rank of a MatMul."""
    import onnx

    if target.axis < -1:
        return [onnx.helper.make_node("ReduceSum", [wide, axes], [total], keepdims=0)]
    # The rank of a MatMul's product is not known: all axes but the last become one.
    flat = unique_name(f"{wide}_rows", taken)
    return [
        onnx.helper.make_node("Flatten", [wide], [flat], axis=-1),
        onnx.helper.make_node("ReduceSum", [flat, axes], [total], keepdims=0),
    ]
