"""The error at every layer of a quantized model, one sample at a time.

Up to four graphs run on each sample, with the tensors of a group of layers as outputs. They
are the float model, the quantized one as written, and its fused graph with this machine's
kernels. The fourth has each layer alone, on the float model's tensors.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from quantcal._notebook import Shown
from quantcal._text import plural
from quantcal.onnx._graph.graph import all_nodes, operator_of, tensors_of
from quantcal.onnx._graph.inputs import Feed
from quantcal.onnx._graph.nested_scopes import name_nodes
from quantcal.onnx._graph.nonstandard_operators import dequantizes
from quantcal.onnx._model.functions import inline_functions
from quantcal.onnx._model.model import LoadedModel, load_light, model_inputs
from quantcal.onnx._plan.preparation import declared_types
from quantcal.onnx._runtime.memory_groups import OBSERVABLE, GroupedRun, run
from quantcal.onnx._runtime.plain_session import save_fused
from quantcal.onnx._runtime.session import Workspace
from quantcal.onnx.layer_graphs import (
    LocalGraph,
    NativeTaps,
    Tap,
    float_inputs,
    local_graph,
)
from quantcal.onnx.layer_places import QuantizedGraph
from quantcal.onnx.output_error import Comparison, OutputError

if TYPE_CHECKING:
    import onnx
    import onnxruntime

    from quantcal.onnx._model.model import Model

_OWN = "own"
_SAME_DB = 40.0  # less is more than float rounding between two forms of a graph


@dataclass(frozen=True, slots=True)
class LayerError(Shown):
    """The error of a layer, which is a quantized node of the main graph.

    Attributes
    ----------
    node, operator
        The name and operator of the node.
    tensor
        Its result, by the float model's name. Of a rounded result, the rounded values count.
        A Relu or Clip behind the node, or the Add of a constant, belong to it.
    inputs
        The nodes of the layers that it reads, directly or through float nodes.
    errors
        Arithmetic (``"exact"``, ``"native"``) → the accumulated error, of this layer and all
        before it, against the float model. An arithmetic is missing where its graph has no
        such tensor.
    own
        The error that the layer adds itself: it alone, in exact arithmetic, on the float
        model's tensors. It rounds its inputs, its weights and, where the model does so, its
        result. None where it cannot be run alone.
    """

    node: str
    operator: str
    tensor: str
    inputs: tuple[str, ...]
    errors: dict[str, OutputError]
    own: OutputError | None

    def sqnr_db(self, arithmetic: str = "exact") -> float | None:
        """Return the accumulated SQNR in dB; None without a figure."""
        error = self.errors.get(arithmetic)
        return None if error is None else error.sqnr_db


@dataclass(frozen=True, slots=True)
class _Group:
    """The sessions of a group of layers, and the name of each layer's tensor in them."""

    sessions: dict[str, onnxruntime.InferenceSession]
    names: dict[str, dict[int, str]]
    local: LocalGraph


class LayerRun:
    """Compares the layers of two models on samples. Use it as a context manager.

    Parameters
    ----------
    float_model, quantized
        The models.
    arithmetics : sequence of str
        ``"exact"``, ``"native"`` or both.
    max_memory : int
        Bytes that the tensors of a group may take.

    Attributes
    ----------
    layers : list of Layer
    """

    def __init__(
        self,
        float_model: Model,
        quantized: Model,
        arithmetics: Sequence[str],
        max_memory: int,
    ) -> None:
        self._warnings: list[str] = []
        source = inline_functions(load_light(float_model))
        other = replace(inline_functions(load_light(quantized)), file=None)
        name_nodes(other.proto.graph)
        self._float, self._quantized = Workspace(source), Workspace(other)
        self._types = _float_types(source, self._float)
        graph = other.proto.graph
        self._inside = _decoding(all_nodes(graph)) - _decoding(graph.node)
        types = self._quantized.types(tensors_of(graph)) | declared_types(graph)
        makers = {n: operator_of(k) for k in source.proto.graph.node for n in k.output}
        known = {name: makers.get(name, "") for name in self._types}
        self._graph = QuantizedGraph(graph, types, known)
        self.layers, self._uncompared = self._graph.layers()
        self._native: Workspace | None = None
        self._taps: dict[int, Tap] = {}
        self._kept = [source, other]  # with temporary folders that sessions map
        if "native" in arithmetics and self.layers:
            fused = save_fused(other)
            self._kept.append(fused)
            self._native = Workspace(fused)
            native = NativeTaps(fused.proto.graph, graph)
            found = {i: native.find(i, layer) for i, layer in enumerate(self.layers)}
            self._taps = {i: tap for i, tap in found.items() if tap is not None}
        self._arithmetics = list(arithmetics)
        self._inputs = {spec.name for spec in model_inputs(source.proto)}
        self._run = GroupedRun(self._float, self._types, max_memory // 2, self._sets())
        self._groups: dict[tuple[int, ...], _Group] = {}
        self._compared: dict[tuple[int, str], Comparison] = {}
        self._dropped: set[tuple[int, str]] = set()
        self._checked = False

    def __enter__(self) -> LayerRun:
        return self

    def __exit__(self, *_: object) -> None:
        for work in (self._float, self._quantized, self._native):
            if work is not None:
                work.__exit__()

    def add(self, feed: Feed, where: str, native: Mapping[str, Any] | None) -> None:
        """Compare all layers on a sample.

        Parameters
        ----------
        feed, where
            The sample, and its name in errors.
        native
            The outputs of the model with this machine's kernels, to check the fused graph.
        """
        for number, arrays in enumerate(self._run(feed, where)):
            members = tuple(self._run.members[number])
            if members not in self._groups:
                self._groups[members] = self._open(members)
            group = self._groups[members]
            if native is not None and not self._checked and "native" in group.sessions:
                self._check(group.sessions["native"], feed, where, native)
            for label, session in group.sessions.items():
                given = feed
                if label == _OWN:
                    given = {
                        name: arrays[tensor] if tensor in arrays else feed[tensor]
                        for name, tensor in group.local.inputs.items()
                    }
                wanted = group.names[label]
                names = list(dict.fromkeys(wanted.values()))
                made = dict(zip(names, run(session, names, given, where), strict=True))
                for index, name in wanted.items():
                    self._add(index, label, arrays, made[name])
        current = set(map(tuple, self._run.members))
        self._groups = {m: g for m, g in self._groups.items() if m in current}

    def notes(self) -> list[str]:
        """Return what is missing or doubtful in the figures, a sentence each."""
        notes = list(self._warnings)
        if self._inside:
            notes.append(
                f"{plural(self._inside, 'node')} inside If, Loop or Scan read codes and are "
                "not compared, because tensors there cannot be outputs of a model"
            )
        elif not self.layers:
            notes.append(
                "there is no layer to compare: no node of the second model reads codes "
                "through DequantizeLinear and has a counterpart in the first"
            )
        if self._uncompared:
            shown = ", ".join(map(repr, self._uncompared[:5]))
            notes.append(
                f"{plural(len(self._uncompared), 'quantized node')} have no counterpart in "
                f"the float model and are not compared: {shown}"
            )
        return notes

    def result(self) -> tuple[LayerError, ...]:
        """Return the errors of all layers in graph order, over all samples so far."""
        made = {
            key: comparison.result()
            for key, comparison in self._compared.items()
            if key not in self._dropped
        }
        return tuple(
            LayerError(
                layer.node,
                layer.operator,
                layer.tensor,
                layer.inputs,
                {a: made[i, a] for a in self._arithmetics if (i, a) in made},
                made.get((i, _OWN)),
            )
            for i, layer in enumerate(self.layers)
        )

    def _sets(self) -> list[list[str]]:
        """Return the float tensors that each layer needs at the same time."""
        found = []
        for layer in self.layers:
            read = float_inputs(self._graph, layer) or []
            found.append(
                [layer.tensor, *(name for name in read if name not in self._inputs)]
            )
        return found

    def _open(self, members: tuple[int, ...]) -> _Group:
        layers = {index: self.layers[index] for index in members}
        local = local_graph(self._graph, layers)
        names: dict[str, dict[int, str]] = {}
        sessions = {}
        if "exact" in self._arithmetics:
            names["exact"] = {i: layer.value for i, layer in layers.items()}
            sessions["exact"] = self._quantized.open(
                dict.fromkeys(names["exact"].values())
            )
        taps = {i: self._taps[i] for i in members if i in self._taps}
        if self._native is not None and taps:
            names["native"] = {i: tap.output for i, tap in taps.items()}
            sessions["native"] = _open_taps(self._native, list(taps.values()))
        if local.outputs:
            names[_OWN] = dict(local.outputs)
            sessions[_OWN] = _open_local(self._quantized, local, self._types)
        return _Group(sessions, names, local)

    def _add(self, index: int, label: str, arrays: Mapping[str, Any], got: Any) -> None:
        want = arrays[self.layers[index].tensor]
        key = (index, label)
        if not isinstance(got, np.ndarray) or got.shape != want.shape:
            self._dropped.add(key)  # a fused kernel has its result in another layout
            return
        if key not in self._compared:
            self._compared[key] = Comparison(elements_only=True)
        self._compared[key].add(want, got)

    def _check(
        self,
        session: onnxruntime.InferenceSession,
        feed: Feed,
        where: str,
        native: Mapping[str, Any],
    ) -> None:
        """Compare the outputs of the fused graph with those of the plain session."""
        self._checked = True
        for name, got in zip(
            native, run(session, list(native), feed, where), strict=True
        ):
            want = native[name]
            if not isinstance(want, np.ndarray) or want.dtype.kind not in "fV":
                continue
            same = Comparison(elements_only=True)
            same.add(want, got)
            if (same.result().sqnr_db or 0) < _SAME_DB and want.size:
                self._warnings.append(
                    "native figures of layers are doubtful: the graph that they are from "
                    f"computes another {name!r} than the model "
                    f"({same.result().sqnr_db:.1f} dB on {where})"
                )


def _decoding(nodes: Iterable[onnx.NodeProto]) -> int:
    """Return how many nodes read a result of DequantizeLinear."""
    nodes = list(nodes)
    decoded = {node.output[0] for node in nodes if dequantizes(node)}
    return sum(
        not decoded.isdisjoint(node.input)
        for node in nodes
        if node.op_type != "QuantizeLinear"
    )


def _float_types(loaded: LoadedModel, work: Workspace) -> dict[str, str]:
    """Return the types of a model's float tensors, and of all its inputs."""
    graph = loaded.proto.graph
    types = work.types(tensors_of(graph))
    types = {name: kind for name, kind in types.items() if kind in OBSERVABLE}
    inputs = [spec.name for spec in model_inputs(loaded.proto)]
    declared = declared_types(graph)
    return types | {name: declared[name] for name in inputs if name in declared}


def _open_taps(work: Workspace, taps: Sequence[Tap]) -> onnxruntime.InferenceSession:
    """Open the fused graph with the tensors of layers beside its own outputs."""
    import onnx

    def change(proto: onnx.ModelProto) -> None:
        graph = proto.graph
        outputs = {value.name for value in graph.output}
        known = {tensor.name for tensor in graph.initializer}
        for tap in taps:
            if tap.node is not None:
                graph.node.append(tap.node)
            new = [t for t in tap.constants if t.name not in known]
            graph.initializer.extend(new)
            known.update(t.name for t in new)
            if tap.output not in outputs:
                graph.output.append(onnx.ValueInfoProto(name=tap.output))
                outputs.add(tap.output)

    return work.open_changed(change)


def _open_local(
    work: Workspace, local: LocalGraph, types: Mapping[str, str]
) -> onnxruntime.InferenceSession:
    """Open a graph of layers whose inputs are the float model's tensors."""
    import onnx

    numbers = {
        f"tensor({name.lower()})": number
        for name, number in onnx.TensorProto.DataType.items()
    }

    def change(proto: onnx.ModelProto) -> None:
        graph = proto.graph
        for values in (graph.node, graph.input, graph.output, graph.value_info):
            del values[:]
        graph.node.extend(local.nodes)
        graph.input.extend(
            onnx.helper.make_tensor_value_info(name, numbers[types[tensor]], None)
            for name, tensor in local.inputs.items()
        )
        graph.output.extend(
            onnx.ValueInfoProto(name=name)
            for name in dict.fromkeys(local.outputs.values())
        )

    return work.open_changed(change)
