"""Measuring the quantized model in the order of the graph, each node running once a sample.

A stage is the part of the graph up to the next products to measure. What later stages read
stays in memory for each sample. So the shifts of one stage are known before the next one
runs, and no part of the model runs twice.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from quantcal.onnx._correct.bias_targets import Target
from quantcal.onnx._correct.mean_errors import Means, Vector, insert_probes
from quantcal.onnx._correct.sampled_rows import Rows, RowStore, Votes, as_rows
from quantcal.onnx._graph.graph import constants_of, inputs_of, sort_nodes
from quantcal.onnx._graph.inputs import Feed
from quantcal.onnx._runtime.memory_groups import run
from quantcal.onnx._runtime.session import Workspace

if TYPE_CHECKING:
    import onnx
    import onnxruntime

MAX_MEMORY = 1 << 30
"""Bytes that the tensors between stages may take together, all samples included: 1 GiB."""


@dataclass(slots=True)
class _Stage:
    """A part of the graph that runs at once.

    Attributes
    ----------
    nodes : list of int
        Numbers of nodes in the graph.
    probes : list of str
        The names of the nodes that it measures.
    reads, keeps : list of str
        The tensors that it takes from earlier stages, and those that it makes for later ones.
    """

    nodes: list[int] = field(default_factory=list)
    probes: list[str] = field(default_factory=list)
    reads: list[str] = field(default_factory=list)
    keeps: list[str] = field(default_factory=list)


class StagedRun:
    """Runs a quantized model stage by stage, and shifts the products of each stage.

    Parameters
    ----------
    work : Workspace
        The quantized model.
    targets : sequence of Target
        The nodes to measure, which are found by name.
    places : int
        The number of places of a sample whose values are compared one by one.
    """

    def __init__(self, work: Workspace, targets: Sequence[Target], places: int) -> None:
        import onnx

        self._work = work
        self._proto = onnx.ModelProto()
        self._proto.CopyFrom(work.light)
        sort_nodes(self._proto.graph)
        self._places = places
        self._probes = insert_probes(self._proto, targets, places)
        self._nodes = list(self._proto.graph.node)
        self._constants = constants_of(self._proto.graph)
        self._makers = {
            name: index
            for index, node in enumerate(self._nodes)
            for name in node.output
        }
        self._stages = self._divide()
        self._types = self._types_between()

    @property
    def can_run(self) -> bool:
        """Whether all values between stages are tensors."""
        return all(kind.startswith("tensor(") for kind in self._types.values())

    def __call__(
        self, samples: Sequence[Feed], wanted: Mapping[str, Vector], rows: RowStore
    ) -> dict[str, Vector]:
        """Return by node the shifts with which its products have the wanted means.

        A channel has no shift if it would bring less than half of its values nearer to the
        wanted ``rows``. Products whose means are not finite get no shift. As many of the
        samples run as ``MAX_MEMORY`` allows, by the size of the first one.
        """
        count = max(1, MAX_MEMORY // max(self._size(samples[0]), 1))
        chosen = samples[:count]
        shifts: dict[str, Vector] = {}
        live: list[dict[str, Any]] = [dict(feed) for feed in chosen]
        for index, stage in enumerate(self._stages):
            session = self._open(stage)
            probes = {name: self._probes[name] for name in stage.probes}
            means = Means(probes)
            votes = Votes({name: p.target.channels for name, p in probes.items()})
            for number, values in enumerate(live):
                some = self._run(session, stage, values, shifts, means, number)
                for name, found in some.items():
                    votes.add(name, rows.get(name, number), found)
                self._forget(values, index)
            for name, mean in means.result().items():
                with np.errstate(invalid="ignore"):  # infinite means
                    shift = wanted[name] - mean
                if np.isfinite(shift).all():
                    shifts[name] = np.where(votes.helped(name, shift), shift, 0.0)
        return shifts

    def _size(self, feed: Feed) -> int:
        """Return the largest number of bytes that one sample keeps between stages."""
        values, largest = dict(feed), 0
        for index, stage in enumerate(self._stages):
            means = Means({name: self._probes[name] for name in stage.probes})
            self._run(self._open(stage), stage, values, {}, means, 0)
            self._forget(values, index)
            kept = [np.asarray(array).nbytes for array in values.values()]
            largest = max(largest, sum(kept))
        return largest

    def _run(
        self,
        session: onnxruntime.InferenceSession,
        stage: _Stage,
        values: dict[str, Any],
        shifts: Mapping[str, Vector],
        means: Means,
        number: int,
    ) -> dict[str, Rows]:
        """Run a stage of one sample, and return some of its products."""
        probes = [self._probes[name] for name in stage.probes]
        names = [name for probe in probes for name in probe.outputs]
        given = {
            probe.shift: probe.shaped(shifts.get(name))
            for name, probe in self._probes.items()
            if probe.shift in stage.reads
        }
        given |= {name: values[name] for name in stage.reads if name in values}
        found = run(session, [*names, *stage.keeps], given, f"sample {number}")
        some: dict[str, Rows] = {}
        for place, name in enumerate(stage.probes):
            total, size, picked = found[3 * place : 3 * place + 3]
            means.add(name, total, size)
            target = self._probes[name].target
            some[name] = as_rows(target, picked, self._places)
        values |= dict(zip(stage.keeps, found[len(names) :], strict=True))
        return some

    def _forget(self, values: dict[str, Any], index: int) -> None:
        """Drop what no later stage reads."""
        later = {name for stage in self._stages[index + 1 :] for name in stage.reads}
        for name in [name for name in values if name not in later]:
            del values[name]

    def _divide(self) -> list[_Stage]:
        """Divide the graph: a shift is known one stage after its products are measured."""
        probes = {probe.shift: name for name, probe in self._probes.items()}
        at: dict[str, int] = {}
        stages: list[_Stage] = []
        for index, node in enumerate(self._nodes):
            if set(node.output) <= self._constants:
                continue
            number = max((at.get(name, 0) for name in inputs_of(node)), default=0)
            while len(stages) <= number:
                stages.append(_Stage())
            stages[number].nodes.append(index)
            at.update(dict.fromkeys(node.output, number))
            if node.name in self._probes:
                at[self._probes[node.name].shift] = number + 1
                stages[number].probes.append(node.name)
        last = max((i for i, stage in enumerate(stages) if stage.probes), default=-1)
        stages = stages[: last + 1]
        for number, stage in enumerate(stages):
            self._connect(number, stage, stages, at, set(probes))
        return stages

    def _connect(
        self,
        number: int,
        stage: _Stage,
        stages: list[_Stage],
        at: Mapping[str, int],
        shifts: set[str],
    ) -> None:
        """Find what a stage reads, and let earlier stages keep it."""
        read = [n for index in stage.nodes for n in inputs_of(self._nodes[index])]
        inputs = {value.name for value in self._proto.graph.input}
        for name in dict.fromkeys(read):
            if name in inputs:
                stage.reads.append(name)
            elif name not in self._constants and at[name] < number:
                stage.reads.append(name)
                kept = stages[at[name]].keeps
                if name not in kept:
                    kept.append(name)

    def _types_between(self) -> dict[str, str]:
        """Return onnxruntime's types of the tensors that stages keep."""
        kept = [name for stage in self._stages for name in stage.keeps]

        def change(proto: onnx.ModelProto) -> None:
            import onnx

            proto.CopyFrom(self._proto)
            proto.graph.output.extend(onnx.ValueInfoProto(name=name) for name in kept)

        found = self._work.open_changed(change).get_outputs()
        return {value.name: value.type for value in found if value.name in set(kept)}

    def _open(self, stage: _Stage) -> onnxruntime.InferenceSession:
        """Open a session of one stage, with the constants that it needs."""
        import onnx

        numbers = {
            f"tensor({key.lower()})": number
            for key, number in onnx.TensorProto.DataType.items()
        }
        chosen = set(stage.nodes)
        todo = list(stage.nodes)
        while todo:
            for name in inputs_of(self._nodes[todo.pop()]):
                maker = self._makers.get(name)
                if (
                    name in self._constants
                    and maker is not None
                    and maker not in chosen
                ):
                    chosen.add(maker)
                    todo.append(maker)
        probes = [self._probes[name] for name in stage.probes]
        outputs = [name for probe in probes for name in probe.outputs]

        def change(proto: onnx.ModelProto) -> None:
            proto.CopyFrom(self._proto)
            graph = proto.graph
            given = [value for value in graph.input if value.name in stage.reads]
            listed = {value.name for value in given}
            given += [
                onnx.helper.make_tensor_value_info(
                    name, numbers[self._types[name]], None
                )
                for name in stage.reads
                if name not in listed
            ]
            del graph.node[:], graph.input[:], graph.output[:], graph.value_info[:]
            graph.node.extend(self._nodes[index] for index in sorted(chosen))
            graph.input.extend(given)
            graph.output.extend(
                onnx.ValueInfoProto(name=name) for name in (*outputs, *stage.keeps)
            )

        return self._work.open_changed(change)
