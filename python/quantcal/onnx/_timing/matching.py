"""Which node of the float model each node of its quantized copy computes.

Nodes keep their names when quantcal or onnxruntime's quantizer writes a model, and tensors
keep theirs but for a suffix. Q/DQ nodes compute nothing and belong to no node.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from quantcal._core import CalibrationError
from quantcal.onnx._graph.graph import (
    all_nodes,
    constants_of,
    inputs_of,
    operator_of,
)
from quantcal.onnx._timing.profile import CONVERSIONS

if TYPE_CHECKING:
    import onnx

_SUFFIXES = (
    *("_QuantizeLinear_Input", "_QuantizeLinear_Output", "_DequantizeLinear_Output"),
    *("_quantized", "_dequantized"),
)
_PRODUCTS = frozenset({"Conv", "MatMul", "Gemm"})
_ON_CODES = ("QLinear", "com.microsoft.QLinear", "com.microsoft.QGemm", "MatMulInteger")

_WEIGHTED = _PRODUCTS | {
    *("ConvTranspose", "Gather", "LSTM", "GRU", "RNN", "Einsum"),
    "com.microsoft.Attention",
}

# Operators that only move values. Their codes serve other nodes.
_MOVING = frozenset(
    {
        *(
            "Reshape",
            "Transpose",
            "Squeeze",
            "Unsqueeze",
            "Flatten",
            "Expand",
            "Identity",
        ),
        *("Slice", "Split", "MaxPool", "Resize", "DepthToSpace", "SpaceToDepth", "Pad"),
    }
)

# Operators of which onnxruntime has kernels that compute on codes.
_HAVE_KERNELS = _PRODUCTS | {
    *("Add", "Mul", "Concat", "Where", "Sigmoid", "Softmax", "LeakyRelu", "Gather"),
    *("AveragePool", "GlobalAveragePool", "ReduceMean"),
}


@dataclass(frozen=True, slots=True)
class Match:
    """How the nodes of a quantized model belong to those of the float model.

    Attributes
    ----------
    names : tuple of (str or None)
        For each node of the quantized model, in order, the name of the float node; None for
        Q/DQ nodes and others that have none.
    quantized : dict of str to str
        Float nodes that compute on codes in the quantized model: name → why the graph does
        not let onnxruntime take an integer kernel. ``""`` where it does.
    """

    names: tuple[str | None, ...]
    quantized: dict[str, str]


def match_nodes(first: onnx.GraphProto, second: onnx.GraphProto, label: str) -> Match:
    """Match the nodes of a quantized model to those of its float model.

    Parameters
    ----------
    first, second : GraphProto
        The float model and the quantized one.
    label : str
        The name of the quantized model in errors.

    Raises
    ------
    CalibrationError
        When the first has Q/DQ nodes, the second has none, or nothing matches.
    """
    floats = list(all_nodes(first))
    nodes = list(all_nodes(second))
    if any(operator_of(node) == "QuantizeLinear" for node in floats):
        raise CalibrationError(
            "The float model has QuantizeLinear nodes. Give the float model first, then its "
            "quantized copy."
        )
    if not any(
        _is_conversion(n) or operator_of(n).startswith(_ON_CODES) for n in nodes
    ):
        raise CalibrationError(
            f"{label} has no QuantizeLinear or DequantizeLinear node, so it is not quantized. "
            "Give the float model first, then its quantized copy."
        )
    known = {str(node.name) for node in floats}
    makers = {
        str(name): str(node.name) for node in floats for name in node.output if name
    }
    found: list[str | None] = [
        None if _is_conversion(node) else _by_name(node, known, makers)
        for node in nodes
    ]
    _from_readers(nodes, found)
    reader = _Codes(second, nodes)
    kinds = {str(node.name): str(node.op_type) for node in floats}
    quantized: dict[str, str] = {}
    is_copy = False
    for node, name in zip(nodes, found, strict=True):
        why = reader.why_float(node)
        if name is not None and why is not None:
            quantized[name] = why
            # A Conv that took over a normalization makes the tensor of that node.
            own = kinds.get(str(node.name), kinds[name])
            is_copy |= str(node.op_type).endswith((kinds[name], own))
    if not is_copy:
        raise CalibrationError(
            f"{label} has no quantized node in common with the float model, by the names of "
            "nodes and tensors. Give a model and its quantized copy."
        )
    return Match(tuple(found), quantized)


def _is_conversion(node: onnx.NodeProto) -> bool:
    return operator_of(node) in CONVERSIONS


def _by_name(
    node: onnx.NodeProto, known: set[str], makers: Mapping[str, str]
) -> str | None:
    for output in node.output:
        name = str(output)
        for suffix in _SUFFIXES:
            name = name.removesuffix(suffix)
        if name in makers:
            return makers[name]
    title = str(node.name)
    for name in (title, title.removesuffix("_quant")):
        if name in known:
            return name
    return None


def _from_readers(nodes: list[onnx.NodeProto], found: list[str | None]) -> None:
    """Give nodes that a rewriting put before another one the name of that one."""
    readers: dict[str, list[int]] = {}
    for place, node in enumerate(nodes):
        for name in inputs_of(node):
            readers.setdefault(name, []).append(place)
    for place in reversed(range(len(nodes))):
        if found[place] is None and not _is_conversion(nodes[place]):
            after = {
                found[r] for name in nodes[place].output for r in readers.get(name, ())
            }
            if len(after) == 1:
                found[place] = after.pop()


class _Codes:
    """Where a quantized graph has codes."""

    def __init__(self, graph: onnx.GraphProto, nodes: list[onnx.NodeProto]) -> None:
        self._makers = {name: node for node in nodes for name in node.output}
        self._constants = constants_of(graph)
        self._readers: dict[str, list[str]] = {}
        for node in nodes:
            for name in inputs_of(node):
                self._readers.setdefault(name, []).append(operator_of(node))

    def why_float(self, node: onnx.NodeProto) -> str | None:
        """Return why a quantized node has no integer kernel; None if it is not quantized."""
        kind = operator_of(node)
        if kind.startswith(_ON_CODES):
            return ""
        sources = {self._source(name) for name in node.input if name}
        rounded = all(
            set(self._readers.get(name, ())) == {"QuantizeLinear"}
            for name in node.output
            if name
        )
        # Constants of an Add behind a MatMul may have codes that no kernel reads.
        weights = "code weights" in sources and kind in _WEIGHTED
        chosen = weights or (self._reads_codes(node) and (rounded or kind in _PRODUCTS))
        if not chosen or kind in CONVERSIONS or kind in _MOVING:
            return None
        if kind not in _HAVE_KERNELS:
            return f"onnxruntime has no integer kernel for {kind}"
        if "codes" not in sources:
            return "its input is float, only its weights have codes"
        return "its result is not rounded" if kind == "Conv" and not rounded else ""

    def _reads_codes(self, node: onnx.NodeProto) -> bool:
        """Whether all that a node computes on has codes; a bias or a condition need not."""
        kind, inputs = operator_of(node), list(node.input)
        read = inputs[:2] if kind in _PRODUCTS else inputs[kind == "Where" :]
        sources = {self._source(name) for name in read if name}
        return "codes" in sources and sources <= {"codes", "code weights"}

    def _source(self, name: str) -> str:
        """Return what an input is: "constant", "code weights", "codes" or "float"."""
        maker = self._makers.get(name)
        if maker is not None and operator_of(maker) in CONVERSIONS:
            return "code weights" if name in self._constants else "codes"
        return "constant" if name in self._constants else "float"
