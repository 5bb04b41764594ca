"""Constants that cannot be quantized, and the chosen nodes that stay in float because of them.

No scale represents an infinity or NaN beside finite values, nor a mask of -3.4e38, which
stands for an infinity. If an added mask of -inf were quantized, it would become 0 and no
longer hide anything. Rounding the node's output would lose such values too, so the whole
node stays in float.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from quantcal.onnx._graph.attributes import attribute
from quantcal.onnx._graph.external_data import is_external
from quantcal.onnx._graph.graph import all_nodes, constants_of, operator_of
from quantcal.onnx._graph.weights import Weights
from quantcal.onnx._options.resolved import Options
from quantcal.onnx._options.values import is_float
from quantcal.onnx._plan.weight_inputs import (
    ALIKE,
    BIASED,
    is_unsupported_weight,
    rounds_constants,
    weight_positions,
)

if TYPE_CHECKING:
    import onnx

LARGEST = 1e30
"""The largest magnitude of a constant that is quantized.

No trained weight comes near it. Products of two much larger scales overflow float32.
"""


def find_unquantizable(
    graph: onnx.GraphProto,
    chosen: set[str],
    options: Options,
    folder: Path | None = None,
    *,
    external: bool = True,
) -> dict[str, str]:
    """Return the chosen nodes that must stay in float: name → reason.

    Parameters
    ----------
    graph : GraphProto
        The graph after constant folding, so that weights are initializers.
    chosen : set of str
        Names of the nodes to quantize.
    options : Options
    folder : Path, optional
        The folder of external data. Each constant is read once.
    external : bool
        Whether external data is read and checked.
    """
    constants = _Constants(graph, options, Weights(graph, folder), external)
    found: dict[str, str] = {}
    for node in all_nodes(graph):
        for index in range(len(node.input) if node.name in chosen else 0):
            reason = constants.why_not(node, index)
            if reason is not None:
                found.setdefault(node.name, reason)
    return found


class _Constants:
    """The constants of a graph; each is scanned once."""

    def __init__(
        self,
        graph: onnx.GraphProto,
        options: Options,
        weights: Weights,
        external: bool,
    ) -> None:
        self._options = options
        self._weights = weights
        self._external = external
        self._ends: dict[str, float] = {}
        self._computed = constants_of(graph) - {
            name
            for node in all_nodes(graph)
            if node.op_type == "DequantizeLinear"
            for name in node.output
        }

    def why_not(self, node: onnx.NodeProto, index: int) -> str | None:
        """Return why an input cannot be quantized; None if it can, or if it never is."""
        name, weights = node.input[index], self._weights
        if not weights.is_float(name):
            coded = index in weight_positions(node) and operator_of(node) not in ALIKE
            computed = coded and name in self._computed
            return f"with weights that are computed ({name!r})" if computed else None
        size = math.prod(weights.shape(name))
        if is_unsupported_weight(node, index, size):
            return f"with weights that cannot be coded ({name!r})"
        unread = not self._external and is_external(weights.found[name])
        if not size or unread or not _is_rounded(node, index, self._options):
            return None
        if name not in self._ends:
            self._ends[name] = _largest(weights.array(name))
        what = _beyond(self._ends[name] * _factor(node))
        return f"with {what} in {name!r}" if what else None


def _is_rounded(node: onnx.NodeProto, index: int, options: Options) -> bool:
    """Whether a constant is quantized, or affects a tensor that is rounded."""
    if index in weight_positions(node):
        return True
    if operator_of(node) in BIASED and index == 2:
        # Other targets and formats leave biases and the outputs of these nodes in float.
        rounds = options.target == "onnxruntime" and not options.weights_only
        return rounds and not is_float(options.activation_type)
    return rounds_constants(node) and not options.weights_only


def _largest(array: NDArray[Any]) -> float:
    """Return the largest magnitude; NaN if any value is NaN."""
    return float(max(abs(float(array.min())), abs(float(array.max()))))


def _beyond(value: float) -> str | None:
    """Return what a constant has that cannot be quantized; None if nothing."""
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "infinities"
    return f"values beyond {LARGEST:.0e}" if value > LARGEST else None


def _factor(node: onnx.NodeProto) -> float:
    """Return the largest factor of a Gemm's operands, at least 1."""
    if operator_of(node) != "Gemm":
        return 1.0
    factors = (attribute(node, name, 1.0) for name in ("alpha", "beta"))
    return max(1.0, *(abs(float(factor)) for factor in factors))
