"""Constants that cannot be coded, and the chosen nodes that stay in float because of them.

No scale holds an infinity, NaN, or a value that stands for an infinity (a mask of -3.4e38)
beside others. Coded all the same, an added mask of -inf would become 0 and let through
what it hides. The rounding of what the node writes would lose such values, too, so that the
whole node stays as it is.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from quantcal.onnx._graph.attributes import attribute
from quantcal.onnx._graph.external import is_external
from quantcal.onnx._graph.graph import all_nodes, constants_of, operator_of
from quantcal.onnx._graph.weights import Weights
from quantcal.onnx._plan.option_values import is_float
from quantcal.onnx._plan.options import Options
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
"""The largest magnitude of a constant that is coded.

Products of two such scales overflow float32 soon after; no trained weight comes near.
"""


def find_unquantizable(
    graph: onnx.GraphProto,
    chosen: set[str],
    options: Options,
    folder: Path | None = None,
    *,
    external: bool = True,
) -> dict[str, str]:
    """Return the chosen nodes that must stay in float, and why: name → reason.

    Parameters
    ----------
    graph : GraphProto
        With computed constants folded, so that weights are initializers.
    chosen : set of str
        Names of the nodes to be quantized.
    options : Options
    folder : Path, optional
        Where external data lies. Each constant is read once.
    external : bool
        Whether the values of external data count.
    """
    looked = _Constants(graph, options, Weights(graph, folder), external)
    found: dict[str, str] = {}
    for node in all_nodes(graph):
        for index in range(len(node.input) if node.name in chosen else 0):
            reason = looked.why_not(node, index)
            if reason is not None:
                found.setdefault(node.name, reason)
    return found


class _Constants:
    """The constants of a graph, each looked at once."""

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
        """Return why an input cannot be coded; None when it can, or is not."""
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
    """Whether a constant is coded, or reaches a tensor that is rounded."""
    if index in weight_positions(node):
        return True
    if operator_of(node) in BIASED and index == 2:
        # Elsewhere biases stay in float, and so does what the node writes.
        rounds = options.target == "onnxruntime" and not options.weights_only
        return rounds and not is_float(options.activation_type)
    return rounds_constants(node) and not options.weights_only


def _largest(array: NDArray[Any]) -> float:
    """Return the largest magnitude, NaN where there is one."""
    return float(max(abs(float(array.min())), abs(float(array.max()))))


def _beyond(value: float) -> str | None:
    """Return what a constant has that cannot be coded; None when all of it can."""
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "infinities"
    return f"values beyond {LARGEST:.0e}" if value > LARGEST else None


def _factor(node: onnx.NodeProto) -> float:
    """Return what a Gemm multiplies its operands by, at most; at least 1."""
    if operator_of(node) != "Gemm":
        return 1.0
    factors = (attribute(node, name, 1.0) for name in ("alpha", "beta"))
    return max(1.0, *(abs(float(factor)) for factor in factors))
