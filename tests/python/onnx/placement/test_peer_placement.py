"""Compare stock placement of Q/DQ pairs with onnxruntime's quantizer, on real networks.

Both get the same float graph, operator types and ranges. For every input of every node the
test records what it reads: a value, rounded or not, or the codes of a constant. The rules of
docs/guide/placement.md predict the differences from the float graph alone. The models must differ in
all predicted inputs and in no others.
"""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any

import onnx
import pytest

import onnx_models as models
import quantcal as qc
from quantcal.onnx._graph.graph import all_nodes
from quantcal.onnx._graph.nested_scopes import scopes
from quantcal.onnx._model.model import load_model
from quantcal.onnx._options.resolved import Options
from quantcal.onnx._options.values import OP_TYPES
from quantcal.onnx._plan.preparation import Prepared, prepare
from tests.models import MODELS
from tests.models.export import missing_packages, onnx_file

pytestmark = pytest.mark.model
MORE = (*OP_TYPES, "ConvTranspose", "Add", "Mul")
NETWORKS = ("pp-ocr-rec", "pp-ocr-det", "magika", "silero-16k-sequence")

BESIDE = "a float node beside a quantized one"
BEFORE = "before a ReLU"
BEHIND = "after a ReLU"
SHORTCUT = "the shortcut of a sum"

Input = tuple[str, int]  # a node and which of its inputs


def reads(model: onnx.ModelProto) -> dict[Input, tuple[str, str]]:
    """What every node except Q and DQ reads, and in which form."""
    maker = {name: node for node in model.graph.node for name in node.output}
    found = {}
    for node in model.graph.node:
        if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            continue
        for index, name in enumerate(node.input):
            made = maker.get(name)
            if made is None or made.op_type != "DequantizeLinear":
                found[node.name, index] = name, "float"
                continue
            before = maker.get(made.input[0])
            if before is None:
                found[node.name, index] = made.input[0], "codes"
            else:
                source = before.input[0].removesuffix("_QuantizeLinear_Input")
                found[node.name, index] = source, "rounded"
    return found


class Graph:
    """A float graph, and the nodes of it that are quantized."""

    def __init__(self, graph: onnx.GraphProto, op_types: tuple[str, ...]) -> None:
        self.nodes = list(graph.node)
        self.op_types = op_types
        self.maker = {name: node for node in graph.node for name in node.output}
        self.inputs = {value.name for value in graph.input}
        self.outputs = {value.name for value in graph.output}
        self.constants = {tensor.name for tensor in graph.initializer}

    @cached_property
    def readers(self) -> dict[str, list[onnx.NodeProto]]:
        found: dict[str, list[onnx.NodeProto]] = {}
        for node in self.nodes:
            for name in node.input:
                found.setdefault(name, []).append(node)
        return found

    def chosen(self, node: onnx.NodeProto | None) -> bool:
        return node is not None and node.op_type in self.op_types

    def is_made(self, name: str) -> bool:
        return self.chosen(self.maker.get(name))

    def is_read(self, name: str) -> bool:
        return any(map(self.chosen, self.readers.get(name, [])))

    def feeds_relu_alone(self, name: str) -> bool:
        readers = self.readers.get(name, [])
        return (
            name not in self.outputs
            and [node.op_type for node in readers] == ["Relu"]
            and not self.chosen(readers[0])
        )

    def relu_of(self, name: str) -> bool:
        """Whether this is the output of a ReLU that the rounding replaces."""
        node = self.maker.get(name)
        return (
            node is not None
            and node.op_type == "Relu"
            and self.is_made(node.input[0])
            and self.feeds_relu_alone(node.input[0])
        )

    def joins(self, node: onnx.NodeProto, index: int) -> bool:
        """Whether this input is added to the output of a Conv that only this node reads."""
        return (
            node.op_type == "Add"
            and node.input[0] != node.input[1]
            and self.fused(node.input[1 - index])
            and not (index == 0 and self.fused(node.input[0]))
        )

    def fused(self, name: str) -> bool:
        """Whether this is the output of a Conv with a single reader."""
        made, readers = self.maker.get(name), self.readers[name]
        return (
            made is not None
            and made.op_type in ("Conv", "ConvTranspose")
            and self.chosen(made)
            and len(readers) == 1
            and name not in self.outputs
        )

    def variables(self) -> list[tuple[onnx.NodeProto, int, str]]:
        return [
            (node, index, name)
            for node in self.nodes
            for index, name in enumerate(node.input)
            if name in self.inputs or name in self.maker
        ]


def predicted(graph: Graph, *, unsigned: bool) -> dict[Input, str]:
    """The inputs in which the models for onnxruntime differ, and why."""
    found = {}
    for node, index, name in graph.variables():
        if unsigned and graph.is_made(name) and graph.feeds_relu_alone(name):
            found[node.name, index] = BEFORE
        elif unsigned and graph.relu_of(name):
            if not graph.is_read(name):
                found[node.name, index] = BEHIND
        elif not graph.is_made(name) and graph.is_read(name) and not graph.chosen(node):
            found[node.name, index] = BESIDE
    return found


def predicted_for_tensorrt(graph: Graph) -> dict[Input, str]:
    """The same for TensorRT."""
    found = {}
    for node, index, name in graph.variables():
        if graph.chosen(node):
            continue
        if graph.joins(node, index):
            if not graph.is_read(name):
                found[node.name, index] = SHORTCUT
        elif graph.is_read(name):
            found[node.name, index] = BESIDE
    return found


def both(
    path: Path, folder: Path, op_types: tuple[str, ...], target: str, activation: str
) -> tuple[Prepared, onnx.ModelProto, onnx.ModelProto]:
    """Write both models from one float graph; all ranges are [-1, 1]."""
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static

    placement = "stock" if target == "onnxruntime" else "minimal"
    asked = qc.onnx.QuantizeOptions(
        target=target,
        activation_type=activation,
        op_types=op_types,
        placement=placement,
    )
    options = Options.of(asked)
    prepared = prepare(load_model(path), options)
    onnx.save(prepared.proto, folder / "float.onnx")
    params = qc.QuantParams.from_range(-1.0, 1.0, format=activation)
    names = [n for n, kind in prepared.types.items() if kind == "tensor(float)"]
    table = qc.CalibrationTable(dict.fromkeys(names, params))
    ours, theirs = folder / "ours.onnx", folder / "theirs.onnx"
    qc.onnx.write(
        folder / "float.onnx",
        ours,
        table,
        target=target,
        op_types=op_types,
        placement=placement,
    )
    more: dict[str, Any] = {}
    if target == "tensorrt":
        more = {
            "QuantizeBias": False,
            "OpTypesToExcludeOutputQuantization": list(op_types),
        }
    qc.exporters.export(table, "onnxruntime", folder / "cache.json")
    quantize_static(
        str(folder / "float.onnx"),
        str(theirs),
        None,
        quant_format=QuantFormat.QDQ,
        op_types_to_quantize=list(op_types),
        per_channel=True,
        activation_type={"uint8": QuantType.QUInt8, "int8": QuantType.QInt8}[
            activation
        ],
        weight_type=QuantType.QInt8,
        extra_options=more,
        calibration_cache_path=folder / "cache.json",
    )
    return prepared, onnx.load(ours), onnx.load(theirs)


def differing(
    first: dict[Input, tuple[str, str]], second: dict[Input, tuple[str, str]]
) -> set[Input]:
    """The inputs that read different things; both models have the same nodes."""
    assert first.keys() == second.keys()
    return {place for place, what in first.items() if second[place] != what}


def network(name: str, folder: Path) -> Path:
    """The file of a network; residual networks of three convolutions are built here."""
    if name in MODELS:
        if missing := missing_packages(name):
            pytest.skip(f"{', '.join(missing)} is not installed")
        return onnx_file(name, folder)
    path = folder / f"{name}.onnx"
    onnx.save(models.residual(gated=name == "gated"), path)
    return path


def present(path: Path, op_types: tuple[str, ...]) -> tuple[str, ...]:
    """The operator types that a network has; quantcal refuses others."""
    found = {node.op_type for node in load_model(path).proto.graph.node}
    return tuple(kind for kind in op_types if kind in found)


CASES = {
    **{
        f"{name}": (name, OP_TYPES, "uint8")
        for name in (*NETWORKS, "residual", "minilm")
    },
    **{f"{name}, more operators": (name, MORE, "uint8") for name in NETWORKS},
    **{f"{name}, symmetric": (name, OP_TYPES, "int8") for name in NETWORKS},
}


@pytest.mark.parametrize(
    ("name", "op_types", "activation"), CASES.values(), ids=CASES.keys()
)
def test_placement_differs_from_onnxruntime_only_by_the_documented_rules(
    tmp_path: Path, name: str, op_types: tuple[str, ...], activation: str
) -> None:
    path = network(name, tmp_path)
    op_types = present(path, op_types)
    prepared, ours, theirs = both(path, tmp_path, op_types, "onnxruntime", activation)
    graph = Graph(prepared.proto.graph, op_types)
    assert set(prepared.plan.nodes) == {n.name for n in graph.nodes if graph.chosen(n)}
    expected = predicted(graph, unsigned=activation == "uint8")
    first, second = reads(ours), reads(theirs)
    assert differing(first, second) == set(expected)
    for place, why in expected.items():
        forms = ("rounded", "float") if why == BEHIND else ("float", "rounded")
        assert (first[place][1], second[place][1]) == forms


@pytest.mark.parametrize("name", [*NETWORKS, "residual", "gated"])
def test_for_tensorrt_only_shortcuts_and_float_readers_differ(
    tmp_path: Path, name: str
) -> None:
    path = network(name, tmp_path)
    op_types = present(path, OP_TYPES)
    prepared, ours, theirs = both(path, tmp_path, op_types, "tensorrt", "int8")
    expected = predicted_for_tensorrt(Graph(prepared.proto.graph, op_types))
    assert differing(reads(ours), reads(theirs)) == set(expected)
    assert (SHORTCUT in expected.values()) == (name == "gated")


def test_every_rule_applies_in_some_network(tmp_path: Path) -> None:
    """An unused rule would explain nothing."""
    met = set()
    for name in NETWORKS:
        prepared = prepare(load_model(network(name, tmp_path)), Options.of())
        met |= set(
            predicted(Graph(prepared.proto.graph, OP_TYPES), unsigned=True).values()
        )
    assert met == {BESIDE, BEFORE, BEHIND}


@pytest.mark.parametrize("name", ["silero", "silero-op18-ifless"])
def test_inside_if_theirs_rounds_nothing_and_ours_all_that_chosen_nodes_read(
    tmp_path: Path, name: str
) -> None:
    path = network(name, tmp_path)
    prepared, ours, theirs = both(path, tmp_path, ("Conv",), "onnxruntime", "uint8")
    assert not any(n.op_type == "QuantizeLinear" for n in all_nodes(theirs.graph))
    for graph in scopes(ours.graph):
        maker = {name: node for node in graph.node for name in node.output}
        for node in graph.node:
            if node.name in prepared.plan.nodes:
                read = [maker[name].op_type for name in node.input if name]
                assert set(read) == {"DequantizeLinear"}
    assert graph is not ours.graph
