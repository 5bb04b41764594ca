"""Bytes of the constants that a written model stores in float, by operator.

Only sizes are read, so weights outside the file are not loaded.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING

from quantcal._text import share
from quantcal.onnx._graph.graph import all_nodes, constants_of, operator_of
from quantcal.onnx._graph.nested_scopes import scopes

if TYPE_CHECKING:
    import onnx

_QUANTIZERS = frozenset({"QuantizeLinear", "DequantizeLinear"})
_SMALL = 0.001
"""Operators with a smaller share of the file are not listed."""


def count_float_weights(graph: onnx.GraphProto) -> dict[str, int]:
    """Return the bytes of constants in float by the operator that reads them.

    Parameters
    ----------
    graph : GraphProto
        The graph of the written model.

    Returns
    -------
    dict of str to int
        Largest first. A constant counts for its first reader. Nodes that compute another
        constant from it are skipped. Scales of quantized weights do not count.
    """
    sizes = {
        tensor.name: float_bytes(tensor)
        for scope in scopes(graph)
        for tensor in scope.initializer
    }
    fixed = constants_of(graph)
    found: Counter[str] = Counter()
    for node in all_nodes(graph):
        operator = operator_of(node)
        if operator == "Constant":
            held = sum(float_bytes(a.t) for a in node.attribute if a.HasField("t"))
            sizes[node.output[0]] = held
        if operator.rpartition(".")[2] in _QUANTIZERS:
            continue
        held = sum(sizes.pop(name, 0) for name in node.input)
        if held and node.output[0] in fixed:
            sizes[node.output[0]] = held
        elif held:
            found[operator] += held
    return dict(sorted(found.items(), key=lambda item: (-item[1], item[0])))


def float_bytes(tensor: onnx.TensorProto) -> int:
    """Return the bytes of a tensor of a float type; 0 for other types."""
    width = {
        tensor.FLOAT: 4,
        tensor.DOUBLE: 8,
        tensor.FLOAT16: 2,
        tensor.BFLOAT16: 2,
    }.get(tensor.data_type, 0)
    return int(width * math.prod(tensor.dims))


def describe_float_weights(found: Mapping[str, int], size: int) -> str:
    """Return the operators with their shares of the file; empty when all are small.

    Parameters
    ----------
    found : mapping of str to int
        The result of :func:`count_float_weights`.
    size : int
        Bytes of the file and of its external data.
    """
    parts = {name: held / max(size, 1) for name, held in found.items()}
    large = {name: part for name, part in parts.items() if part >= _SMALL}
    return ", ".join(f"{name} {share(part)}" for name, part in large.items())
