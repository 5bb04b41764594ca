"""Checking that the prepared float model computes the same as the original, on one sample.

A wrong conversion would otherwise go unnoticed, so all tensors of the main graph are
compared before calibration. Rounding errors may differ, and some operators amplify them: a
Sigmoid of large values, or an ArgMax between two equal scores. So where two tensors differ
by more than rounding, the original node runs on its inputs from the prepared model. If the
result agrees with the prepared model, the node is not at fault.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from quantcal._core import CalibrationError
from quantcal.onnx._check.rounding import describe, is_rounding
from quantcal.onnx._graph.graph import all_nodes, inputs_of, sort_nodes, subgraphs
from quantcal.onnx._graph.inputs import Feed, Sample
from quantcal.onnx._model.model import model_inputs, opset_of
from quantcal.onnx._runtime.memory_groups import GroupedRun, run
from quantcal.onnx._runtime.session import Workspace

if TYPE_CHECKING:
    import onnx

    from quantcal.onnx._plan.preparation import Prepared

    Array = np.ndarray[Any, Any]

MAX_MEMORY = 1 << 28
"""Limit in bytes for the tensors of both models in memory: 256 MiB."""

_KINDS = frozenset(
    f"tensor({kind})"
    for kind in (
        *("float16", "float", "double", "bool", "int8", "int16", "int32", "int64"),
        *("uint8", "uint16", "uint32", "uint64"),
    )
)
"""Types that numpy has. Others are not compared."""

_RANDOM = ("Random", "Multinomial", "Bernoulli")
_AT_ONCE = 16  # suspects that share one run for their inputs


def check_equivalence(
    prepared: Prepared, feed: Feed, where: str, max_memory: int = MAX_MEMORY
) -> None:
    """Raise an error when the prepared model does not compute the same as the original.

    Models that were not rewritten are not run.

    Parameters
    ----------
    prepared : Prepared
    feed : feed
        One sample.
    where : str
        The name of the sample in errors.
    max_memory : int
        In bytes, see ``MAX_MEMORY``.

    Raises
    ------
    CalibrationError
        When a tensor differs by more than rounding. Names the first one in graph order.
        Also when one of the two models cannot run.
    """
    if not is_rewritten(prepared):
        return
    changed = replace(prepared.converted, proto=prepared.proto)
    with Workspace(prepared.original) as before, Workspace(changed) as after:
        comparison = _Comparison(prepared, before, after, feed, where)
        suspects: list[str] = []
        for name in comparison.differing(max_memory):
            suspects.append(name)
            if len(suspects) == _AT_ONCE:
                comparison.check_nodes(suspects)
                suspects.clear()
        comparison.check_nodes(suspects)


def first_sample_check(prepared: Prepared) -> Callable[[Feed, str], None]:
    """Return a check of the first sample. Further calls do nothing."""
    # The check releases the prepared model, which may be large, after its first call.
    held = [prepared]

    def check(feed: Feed, where: str) -> None:
        while held:
            check_equivalence(held.pop(), feed, where)

    return check


def is_rewritten(prepared: Prepared) -> bool:
    """Return whether the float model was changed beyond names."""
    original, converted = prepared.original.proto, prepared.converted.proto
    return bool(
        opset_of(original) != opset_of(converted)
        or original.functions
        or prepared.proto.graph != converted.graph
    )


def check_on_random_inputs(prepared: Prepared) -> Sample | None:
    """Check a model without samples, on random inputs.

    Returns
    -------
    Sample, optional
        The random inputs. None when nothing was checked, because an input is not a float
        tensor of fixed shape, or the original model fails on random numbers.
    """
    feed: Feed = {}
    where = "random inputs"
    rng = np.random.default_rng(0)
    for spec in model_inputs(prepared.original.proto):
        if not spec.required:
            continue
        sizes = [size for size in spec.shape or () if size is not None]
        fixed = spec.shape is not None and len(sizes) == len(spec.shape)
        if not fixed or spec.dtype is None or spec.dtype.kind != "f":
            return None
        feed[spec.name] = rng.standard_normal(sizes).astype(spec.dtype)
    outputs = [value.name for value in prepared.original.proto.graph.output]
    try:
        with Workspace(prepared.original) as before:
            run(before.open(outputs), outputs, feed, where)
    except CalibrationError:
        return None
    check_equivalence(prepared, feed, where)
    return Sample(feed, where)


class _Comparison:
    """Compares the original and the prepared model on one sample.

    Parameters
    ----------
    prepared : Prepared
    before, after : Workspace
        Workspaces of the original and the prepared model.
    feed : feed
    where : str
        The name of the sample in errors.
    """

    def __init__(
        self,
        prepared: Prepared,
        before: Workspace,
        after: Workspace,
        feed: Feed,
        where: str,
    ) -> None:
        self._prepared = prepared
        self._before, self._after = before, after
        self._feed, self._where = feed, where
        graph = type(before.light.graph)()
        graph.CopyFrom(before.light.graph)
        sort_nodes(graph)
        self._nodes = list(graph.node)
        self._maker = {
            name: index
            for index, node in enumerate(self._nodes)
            for name in node.output
            if name
        }
        here = {name for node in prepared.proto.graph.node for name in node.output}
        types = before.types(name for name in self._maker if name in here)
        self._types = {name: kind for name, kind in types.items() if kind in _KINDS}

    def differing(self, max_memory: int) -> Iterator[str]:
        """Yield the tensors that differ by more than rounding, in graph order."""
        groups = GroupedRun(self._before, self._types, max_memory // 2)
        for arrays in groups(self._feed, self._where):
            names = list(arrays)
            session = self._after.open(names)
            found = run(session, names, self._feed, self._where)
            for name, got in zip(names, found, strict=True):
                node = self._nodes[self._maker[name]]
                if not is_rounding(arrays.pop(name), got) and not _is_random(node):
                    yield name

    def check_nodes(self, suspects: list[str]) -> None:
        """Run the original nodes of these tensors on inputs from the prepared model."""
        cones = {name: self._cone(name) for name in suspects}
        needed = {name for _, read in cones.values() for name in read} | set(suspects)
        names = [name for name in self._types if name in needed]
        if not names:
            return
        made = run(self._after.open(names), names, self._feed, self._where)
        values = dict(zip(names, made, strict=True)) | self._feed
        for name, (nodes, read) in cones.items():
            given = {n: values[n] for n in read}
            given |= {n: a for n, a in self._feed.items() if n not in given}
            session = self._alone(name, nodes, read)
            (want,) = run(session, [name], given, f"{self._where} ({name!r} alone)")
            terms = [values[n] for n in read]
            if not is_rounding(want, values[name], terms):
                self._refuse(name, nodes, want, values[name])

    def _cone(self, name: str) -> tuple[list[int], list[str]]:
        """Return the nodes that compute a tensor from tensors of both models, and these."""
        nodes: set[int] = set()
        read: dict[str, None] = {}
        todo = [self._maker[name]]
        while todo:
            index = todo.pop()
            if index in nodes:
                continue
            nodes.add(index)
            for source in inputs_of(self._nodes[index]):
                if source in self._types and source != name:
                    read[source] = None
                elif source in self._maker:
                    todo.append(self._maker[source])
        return sorted(nodes), list(read)

    def _alone(self, name: str, indices: list[int], read: list[str]) -> Any:
        """Open a session of some nodes, whose inputs become inputs of the model."""
        import onnx

        numbers = {
            f"tensor({key.lower()})": number
            for key, number in onnx.TensorProto.DataType.items()
        }

        def change(proto: onnx.ModelProto) -> None:
            graph = proto.graph
            del graph.node[:], graph.output[:], graph.value_info[:]
            graph.node.extend(self._nodes[index] for index in indices)
            graph.output.append(onnx.ValueInfoProto(name=name))
            graph.input.extend(
                onnx.helper.make_tensor_value_info(n, numbers[self._types[n]], None)
                for n in read
            )

        return self._before.open_changed(change)

    def _refuse(self, name: str, cone: list[int], want: Array, got: Array) -> None:
        label = self._prepared.converted.label
        makers = [self._nodes[index] for index in cone]
        makers = [node for node in makers if node.op_type != "Constant"][-3:]
        old = opset_of(self._prepared.original.proto)
        new = opset_of(self._prepared.converted.proto)
        named = " and ".join(
            f"the {node.op_type} node" + (f" {node.name!r}" if node.name else "")
            for node in makers
        )
        if old != new:
            done = f"Converting {label} from opset {old} to {new} would change it"
            remedy = f"Export the model again with opset {new} or later."
        else:
            done = f"Preparing {label} would change it"
            remedy = "Leave the node in float with exclude=, and please report it."
        raise CalibrationError(
            f"{done}: {name!r}, which {named} make{'s' * (len(makers) == 1)}, "
            f"{describe(want, got)} on {self._where}. {remedy}"
        )


def _is_random(node: onnx.NodeProto) -> bool:
    def all_inside() -> Iterable[onnx.NodeProto]:
        yield node
        for graph in subgraphs(node):
            yield from all_nodes(graph)

    return any(
        n.op_type.startswith(_RANDOM) or (n.op_type == "Dropout" and len(n.input) > 2)
        for n in all_inside()
    )
