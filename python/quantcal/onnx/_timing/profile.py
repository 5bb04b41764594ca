"""Kernels that onnxruntime runs, and their times by its profiler."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from quantcal._core import CalibrationError
from quantcal.onnx._graph.graph import all_nodes, inputs_of, operator_of, subgraphs

if TYPE_CHECKING:
    import onnx

_NODE = "_kernel_time"
_CODES = {"int8", "uint8"}

# Kernels that compute on codes, whatever they return. Their names are onnxruntime's.
_INTEGER = (
    *("QLinear", "QGemm", "QAttention", "QMoE", "MatMulInteger", "ConvInteger"),
    *("DynamicQuantize", "MatMulNBits", "GatherBlockQuantized", "QEmbed"),
)

CONVERSIONS = frozenset(
    {
        *("QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear"),
        *("com.microsoft.QuantizeLinear", "com.microsoft.DequantizeLinear"),
        *("com.microsoft.nchwc.ReorderInput", "com.microsoft.nchwc.ReorderOutput"),
    }
)
"""Operators that only change how values are stored."""


@dataclass(frozen=True, slots=True)
class Kernel:
    """A node of the graph that onnxruntime runs.

    Attributes
    ----------
    name : str
        Its name in the profile.
    operator : str
        With the domain, unless that is the standard one.
    inputs, outputs : tuple of str
        Tensors; those that subgraphs capture are inputs, too.
    inside : tuple of str
        The kernels of its subgraphs, whose time it includes in the profile.
    on_codes : bool
        Whether all its outputs are 8-bit integers, as of a Transpose that moves codes.
    """

    name: str
    operator: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    inside: tuple[str, ...] = ()
    on_codes: bool = False

    @property
    def op_type(self) -> str:
        """The operator without its domain."""
        return self.operator.rpartition(".")[2]

    @property
    def is_integer(self) -> bool:
        """Whether it computes on codes."""
        return self.op_type.startswith(_INTEGER)

    @property
    def moves_codes(self) -> bool:
        """Whether it moves codes without computing, as a Transpose of them."""
        return self.on_codes and not self.is_integer and not self.is_conversion

    @property
    def is_conversion(self) -> bool:
        """Whether it only changes how values are stored."""
        return self.operator in CONVERSIONS


def kernels_of(graph: onnx.GraphProto) -> dict[str, Kernel]:
    """Return the kernels of an optimized graph and its subgraphs, by name."""
    found: dict[str, Kernel] = {}
    for node in all_nodes(graph):
        inside = tuple(inner.name for g in subgraphs(node) for inner in g.node)
        kernel = Kernel(
            node.name,
            operator_of(node),
            tuple(inputs_of(node)),
            tuple(name for name in node.output if name),
            inside,
        )
        # onnxruntime's own names may repeat in subgraphs; their times are added.
        found.setdefault(node.name, kernel)
    return found


def with_types(
    kernels: Mapping[str, Kernel], events: Iterable[Mapping[str, Any]]
) -> dict[str, Kernel]:
    """Return the kernels with what the events of a run tell of their types."""
    found = dict(kernels)
    for event in events:
        kernel = found.get(node_of(event))
        types = {
            kind for each in event["args"].get("output_type_shape", ()) for kind in each
        }
        if kernel is not None and types and types <= _CODES:
            found[kernel.name] = replace(kernel, on_codes=True)
    return found


def read_runs(path: Path, label: str, wanted: int) -> list[list[dict[str, Any]]]:
    """Return the events of the kernels of a profile, run by run.

    Parameters
    ----------
    path : Path
        The file that ``end_profiling`` names.
    label : str
        The name of the model in errors.
    wanted : int
        The number of runs.

    Raises
    ------
    CalibrationError
        When runs are missing: the profiler keeps a million events.
    """
    events = json.loads(path.read_bytes())
    runs = [each for each in events if each.get("name") == "model_run"]
    runs.sort(key=lambda run: int(run["ts"]))
    if len(runs) < wanted:
        raise CalibrationError(
            f"onnxruntime's profiler kept {len(runs)} of {wanted} runs of {label}. It keeps "
            "a million events, one for each node and run. Give fewer rounds or samples."
        )
    nodes = sorted(
        (each for each in events if each.get("cat") == "Node"),
        key=lambda event: int(event["ts"]),
    )
    return list(_split(nodes, runs))


def _split(
    nodes: list[dict[str, Any]], runs: list[dict[str, Any]]
) -> Iterator[list[dict[str, Any]]]:
    place = 0
    for run in runs:
        start, end = int(run["ts"]), int(run["ts"]) + int(run["dur"])
        found = []
        while place < len(nodes) and int(nodes[place]["ts"]) <= end:
            if int(nodes[place]["ts"]) >= start:
                found.append(nodes[place])
            place += 1
        yield [each for each in found if each["name"].endswith(_NODE)]


def node_of(event: Mapping[str, Any]) -> str:
    """Return the name of an event's node."""
    return str(event["name"]).removesuffix(_NODE)


def times_of(
    events: Iterable[Mapping[str, Any]], kernels: Mapping[str, Kernel]
) -> dict[str, float]:
    """Return the milliseconds of each kernel in one run, without those inside it."""
    whole: dict[str, float] = dict.fromkeys(kernels, 0.0)
    for event in events:
        name = node_of(event)
        whole[name] = whole.get(name, 0.0) + int(event["dur"]) / 1000
    own = dict(whole)
    for name, kernel in kernels.items():
        within = sum(whole[inner] for inner in dict.fromkeys(kernel.inside))
        own[name] = max(own[name] - within, 0.0)
    return own
