"""A Relu or Clip behind a product, which can take the integer kernel from it.

onnxruntime treats a Relu or Clip as part of the rounding behind it:

* If it is the only reader of a MatMul or Gemm and has one reader itself, onnxruntime expects
  a QuantizeLinear there that makes it redundant. Otherwise it finds no integer kernel.
* It merges a redundant one into that QuantizeLinear, which then reads the product. If there
  are other readers, too, it finds no integer kernel.

So such a node stays only where it alone reads the product and is merged. Elsewhere it is
written with operators that onnxruntime leaves alone (:mod:`quantcal.onnx._write.clip_forms`).
That costs no accuracy, as the product is not rounded.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from quantcal.formats import QuantFormat
from quantcal.onnx._graph.external_data import is_external
from quantcal.onnx._graph.graph import operator_of
from quantcal.onnx._graph.nested_scopes import scopes
from quantcal.onnx._graph.weights import Weights
from quantcal.onnx._plan.kernels import has_integer_sums
from quantcal.params import QuantParams

if TYPE_CHECKING:
    import onnx

# The largest float32 that an int32 holds, with room for a zero point.
_INT32 = 2.0**31 - 256


@dataclass(frozen=True, slots=True)
class Clipping:
    """A Relu or Clip that reads a product in float.

    Attributes
    ----------
    product : str
        The name of the MatMul or Gemm node.
    rounded : str
        The activation whose rounding alone reads what the node makes; "" when there is
        none, or when the product has other readers.
    low, high : float
        The bounds; infinite without one, NaN when it is computed.
    """

    product: str
    rounded: str
    low: float
    high: float

    def is_merged(self, ranges: Mapping[str, QuantParams]) -> bool:
        """Whether onnxruntime merges the node into the rounding behind it, for the better.

        It compares the bounds with the range of the codes as they are stored.

        Parameters
        ----------
        ranges : mapping of str to QuantParams
            Of activations that are rounded.
        """
        if not self.rounded:
            return False
        params = ranges[self.rounded]
        if not has_integer_sums(params.format):
            return False
        limits = np.iinfo(QuantFormat(params.format).storage)
        zero = int(params.zero_point)
        codes = np.array([limits.min - zero, limits.max - zero], np.float32)
        scale, bounds = (
            np.float32(params.scale),
            np.array([self.low, self.high], np.float32),
        )
        # First it compares reals, then codes: those as int32, which holds no large bounds.
        with np.errstate(over="ignore"):
            if _within(codes * scale, bounds):
                return True
            bounds = np.rint(bounds / scale)
        return bool((np.abs(bounds) < _INT32).all()) and _within(codes, bounds)


def _within(inner: NDArray[Any], outer: NDArray[Any]) -> bool:
    return bool(inner[0] >= outer[0] and inner[1] <= outer[1])


def find_clips(
    graph: onnx.GraphProto,
    products: Mapping[str, Collection[str]],
    sites: Mapping[str, frozenset[str] | None],
    removed: Mapping[str, str],
    weights: Weights,
) -> dict[str, Clipping]:
    """Return by name each Relu and Clip that reads a product in float.

    Parameters
    ----------
    graph : GraphProto
        Names mean one value in the whole model.
    products : mapping of str to collection of str
        Name of a MatMul or Gemm node → its result, and the tensors that are the same one
        to onnxruntime. None of them is rounded for all readers.
    sites : mapping of str to (frozenset of str or None)
        Activation that is rounded → the nodes that read it rounded; None for all.
    removed : mapping of str to str
        Output → input of the nodes that onnxruntime removes.
    weights : Weights
        Of the graph.
    """
    readers = _Readers(graph, removed)
    return {
        node.name: Clipping(
            product,
            readers.rounding_behind(node, sites) if alone else "",
            *_bounds(node, weights),
        )
        for product, names in products.items()
        for nodes, alone in [readers.of(names)]
        for node in nodes
        if operator_of(node) in ("Relu", "Clip")
    }


class _Readers:
    """The nodes that read each tensor, and the tensors that graphs give as outputs."""

    def __init__(self, graph: onnx.GraphProto, removed: Mapping[str, str]) -> None:
        self._nodes: dict[str, list[onnx.NodeProto]] = {}
        self._outputs: set[str] = set()
        self._scope: dict[str, int] = {}  # by name of node
        self._behind = {source: name for name, source in removed.items()}
        for index, scope in enumerate(scopes(graph)):
            self._outputs.update(value.name for value in scope.output)
            for node in scope.node:
                self._scope[node.name] = index
                for name in node.input:
                    self._nodes.setdefault(name, []).append(node)

    def of(self, names: Collection[str]) -> tuple[list[onnx.NodeProto], bool]:
        """Return who reads one of these tensors, and whether it is a single node.

        Nodes that make another of these tensors are left out, and so is a Transpose: its
        readers count, as onnxruntime cancels one behind the Relu against it.
        """
        nodes, waiting, output = [], list(names), False
        while waiting:
            name = waiting.pop()
            output |= name in self._outputs
            for node in self._nodes.get(name, ()):
                if operator_of(node) == "Transpose":
                    waiting.append(node.output[0])
                elif not {*names} & {*node.output}:
                    nodes.append(node)
        return nodes, len(nodes) == 1 and not output

    def rounding_behind(
        self, node: onnx.NodeProto, sites: Mapping[str, frozenset[str] | None]
    ) -> str:
        """Return the tensor whose one rounding alone reads a result; "" without one."""
        name = str(node.output[0])
        while name not in sites:
            if len(self._nodes.get(name, ())) != 1 or name in self._outputs:
                return ""
            if name not in self._behind:
                return ""
            name = self._behind[name]
        rounded = sites[name]
        if rounded is None:
            return name
        # Roundings for some readers lie in the graphs of these.
        readers = [node, *self._nodes[name]]
        together = len({self._scope[reader.name] for reader in readers}) == 1
        every = all(reader.name in rounded for reader in readers[1:])
        return name if every and together and name not in self._outputs else ""


def _bounds(node: onnx.NodeProto, weights: Weights) -> tuple[float, float]:
    """Return the lowest and highest result of a Relu or Clip."""
    if operator_of(node) == "Relu":
        return 0.0, np.inf
    low, high = [*node.input[1:], "", ""][:2]
    return _number(low, -np.inf, weights), _number(high, np.inf, weights)


def _number(name: str, without: float, weights: Weights) -> float:
    """Return the value of a stored scalar; NaN when it is computed or lies elsewhere."""
    if not name:
        return without
    if not weights.is_float(name) or is_external(weights.found[name]):
        return np.nan
    return float(weights.array(name).item())
