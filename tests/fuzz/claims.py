"""The fields of a result, compared with the written file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx
from fuzz.cases import Case

# What an operator may be written as.
_WRITTEN = {
    **dict.fromkeys(("MatMul", "Gemm"), ("MatMul", "Gemm")),
    "Clip": ("Clip", "Max", "Min", "Identity"),
}


def check_file(case: Case, options: dict[str, Any], result: Any) -> str | None:
    """Return which claim is false; None when all are true."""
    written = onnx.load(result.output)
    chosen = set(options.get("op_types", ("Conv", "MatMul", "Gemm")))
    expected = sum(1 for node in _calls(case.model) if node.op_type in chosen)
    claimed = sum(result.quantized_nodes.values())
    reported = claimed + sum(result.left_in_float.values())
    if reported < expected:
        return f"{expected} nodes of {sorted(chosen)}, of which the result reports {reported}"
    decoding = _decoding(written)
    for kind, count in result.quantized_nodes.items():
        kinds = _WRITTEN.get(kind, (kind,))
        wanted = sum(result.quantized_nodes.get(name, 0) for name in kinds)
        found = sum(decoding[name] for name in kinds)
        if found < wanted:
            return f"{wanted} {kind} are called quantized, {found} read codes ({count})"
    before, after = _weight_bytes(case.model), _weight_bytes(written)
    if after > 1.1 * before + 64 and claimed:
        return f"{after} bytes of weights, {before} before"
    return None


def _calls(model: onnx.ModelProto) -> Iterator[onnx.NodeProto]:
    """Yield nodes that compute on activations, those of functions at each call."""
    bodies = {(f.domain, f.name): list(f.node) for f in model.functions}

    def walk(nodes: Any, fixed: set[str]) -> Iterator[onnx.NodeProto]:
        known = set(fixed)
        for node in nodes:
            if (node.domain, node.op_type) in bodies:
                yield from walk(bodies[node.domain, node.op_type], set())
                continue
            inner = [a.g for a in node.attribute if a.HasField("g")]
            reads = [name for name in node.input if name]
            if not inner and all(name in known for name in reads):
                known |= set(node.output)
                continue
            for graph in inner:
                more = {tensor.name for tensor in graph.initializer}
                yield from walk(graph.node, known | more)
            if node.domain in ("", "ai.onnx"):
                yield node

    fixed = {tensor.name for tensor in model.graph.initializer}
    yield from walk(model.graph.node, fixed)


def _decoding(model: onnx.ModelProto) -> Counter[str]:
    """Count the nodes that read a decoded tensor or make one that is coded at once."""
    found: Counter[str] = Counter()

    def walk(graph: onnx.GraphProto, outside: set[str]) -> None:
        decoded = outside | {
            name
            for node in graph.node
            if node.op_type == "DequantizeLinear"
            for name in node.output
        }
        coded = {
            node.input[0]
            for node in graph.node
            if node.op_type in ("QuantizeLinear", "DequantizeLinear")
        }
        for node in graph.node:
            reads = any(name in decoded for name in node.input)
            found[node.op_type] += reads or any(name in coded for name in node.output)
            for attribute in node.attribute:
                if attribute.HasField("g"):
                    walk(attribute.g, decoded)

    walk(model.graph, set())
    return found


def _weight_bytes(model: onnx.ModelProto) -> int:
    """Return the bytes of all constants but the scales and zero points of grids."""
    grids = set()
    tensors: dict[int, onnx.TensorProto] = {}

    def walk(graph: Any) -> None:
        for tensor in getattr(graph, "initializer", ()):
            tensors[id(tensor)] = tensor
        for node in graph.node:
            if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
                grids.update(node.input[1:])
            for attribute in node.attribute:
                if attribute.HasField("g"):
                    walk(attribute.g)
                if attribute.HasField("t"):
                    tensors[id(attribute.t)] = attribute.t

    walk(model.graph)
    for function in model.functions:
        walk(function)
    total = 0.0
    for tensor in tensors.values():
        if tensor.name in grids:
            continue
        width = {
            onnx.TensorProto.FLOAT: 4.0,
            onnx.TensorProto.INT64: 0.0,  # shapes
            onnx.TensorProto.INT32: 4.0,
            onnx.TensorProto.INT16: 2.0,
            onnx.TensorProto.UINT16: 2.0,
            onnx.TensorProto.INT4: 0.5,
            onnx.TensorProto.UINT4: 0.5,
        }.get(tensor.data_type, 1.0)
        total += width * float(np.prod(tensor.dims)) if tensor.dims else width
    return int(total)
