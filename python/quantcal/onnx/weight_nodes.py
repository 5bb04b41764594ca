"""Constants of a rewritten graph: weights and biases as codes, and the nodes to decode them.

Codes lie in the graph of the node that reads them, even when the float weight lay outside:
onnxruntime's fusions do not find all of them elsewhere, and one of them then fails.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from quantcal import QuantFormat, QuantParams
from quantcal.onnx.coding import Coded, code, code_blocks, tensor_of
from quantcal.onnx.cpu import WeightBits
from quantcal.onnx.graph import all_nodes, names_of, operator_of, unique_name
from quantcal.onnx.names import rule_for
from quantcal.onnx.operands import channel_axis
from quantcal.onnx.options import is_float
from quantcal.onnx.sums import Sum
from quantcal.onnx.weights import Weights

if TYPE_CHECKING:
    import onnx

    from quantcal.onnx.prepare import Prepared

# The largest code of a bias: half of what 32 bits hold, as products are added to it.
_BIAS_MAX = float(2**30)
_BIASED = frozenset({"Conv", "ConvTranspose", "Gemm"})
_SUMS = frozenset({"Add", "Sub", "Mul", "Div"})
_CODED = _BIASED | {"MatMul"} | _SUMS  # whose constants are weights


class Constants:
    """New names and initializers.

    Parameters
    ----------
    graph : GraphProto
        The main graph; names are new in the whole model.
    """

    def __init__(self, graph: onnx.GraphProto) -> None:
        self._taken = names_of(graph) | {node.name for node in all_nodes(graph)}

    def name(self, base: str) -> str:
        """Return ``base``, or a name like it that is free."""
        return unique_name(base, self._taken)

    def add(
        self, graph: onnx.GraphProto, array: NDArray[Any], format: str, base: str
    ) -> str:
        """Store an array in a graph; return its name.

        ``format`` is that of codes, or "float32" or "int32".
        """
        from onnx import numpy_helper

        name = self.name(base)
        if format in ("float32", "int32"):
            tensor = numpy_helper.from_array(array, name)
        else:
            tensor = tensor_of(array, format, name)
        graph.initializer.append(tensor)
        return name

    def grid(
        self,
        graph: onnx.GraphProto,
        name: str,
        scale: NDArray[np.float32],
        zero: NDArray[Any],
        format: str,
    ) -> list[str]:
        """Store scale and zero point of ``name``; return their names."""
        return [
            self.add(graph, scale, "float32", f"{name}_scale"),
            self.add(graph, zero, format, f"{name}_zero_point"),
        ]


Key: TypeAlias = tuple[str, int, str]
"""A weight, the axis of its channels (-1 for one scale), and its format."""


@dataclass(frozen=True, slots=True)
class Scope:
    """One graph while it is rewritten: its nodes so far, and what they decode."""

    graph: onnx.GraphProto
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    decoded: dict[Key, str] = field(default_factory=dict)


class WeightNodes:
    """Codes for the weights of chosen nodes, and DequantizeLinear nodes before these.

    Parameters
    ----------
    prepared : Prepared
    graph : GraphProto
        The main graph of the copy that is rewritten.
    constants : Constants
    ranges : mapping of str to QuantParams
        Of activations.
    bits : WeightBits

    Attributes
    ----------
    formats : Counter of str
        Format → number of weights.
    """

    def __init__(
        self,
        prepared: Prepared,
        graph: onnx.GraphProto,
        constants: Constants,
        ranges: Mapping[str, QuantParams],
        bits: WeightBits,
    ) -> None:
        self.formats: Counter[str] = Counter()
        self._plan = prepared.plan
        self._options = prepared.options
        self._graph = graph
        self._constants = constants
        self._ranges = ranges
        self._bits = bits
        self._floats = Weights(graph, prepared.converted.folder)
        self._inputs = {node.name: list(node.input) for node in all_nodes(graph)}
        self._least = self._least_scales()
        self._coded: dict[Key, Coded] = {}

    def decode(self, node: onnx.NodeProto, scope: Scope) -> None:
        """Let a chosen node read decoded constants, by nodes that go before it."""
        original = self._inputs[node.name]
        for index, name in enumerate(original):
            bias = operator_of(node) in _BIASED and index == 2
            if (
                bias
                or operator_of(node) not in _CODED
                or not self._floats.is_float(name)
            ):
                continue
            key = self._key(node, name, index)
            if key not in self._coded:
                self._coded[key] = self._code(key, node, index)
                self.formats[key[2]] += 1
            if key not in scope.decoded:
                scope.decoded[key] = self._store(name, self._coded[key], scope)
            node.input[index] = scope.decoded[key]
        if len(original) > 2 and operator_of(node) in _BIASED:
            self._bias(node, scope)

    def decode_sum(
        self, node: onnx.NodeProto, terms: Sequence[Sum], scope: Scope
    ) -> None:
        """Code the constant of an Add behind a MatMul; else keep the Add apart.

        See :mod:`quantcal.onnx.sums`.
        """
        made = {other.name: other for other in scope.nodes}
        for term in terms:
            matmul = made[term.matmul]
            name = node.input[term.other]
            decoded = self._as_sum(matmul, name, scope)
            if decoded is not None:
                node.input[term.other] = decoded
                return
        for term in terms:
            if term.matrices:
                made[term.matmul].op_type = "Gemm"

    def _key(self, node: onnx.NodeProto, name: str, index: int) -> Key:
        """Return weight, axis of channels (-1 for one scale) and format."""
        options = self._options
        if operator_of(node) in _SUMS:  # kernels want both numbers in one format
            return name, -1, options.activation
        default = options.weight
        format = rule_for(options.weight_formats, name, [node.name], default)
        narrow = self._bits.reduce or node.name in self._bits.nodes
        if narrow and format in ("int8", "uint8"):
            format = format.replace("8", "7")
        rank = len(self._floats.shape(name))
        if index == 0:
            # No kernel multiplies signed codes by unsigned ones in this order.
            codes = self._ranges.get(self._inputs[node.name][1])
            if codes is not None and codes.format == "uint8" and "int" in format:
                format = "uint8" if QuantFormat(format).bits <= 8 else format
            return name, -1, format
        if not options.per_channel or (
            operator_of(node) == "MatMul" and (index, rank) != (1, 2)
        ):
            # A constant first input and a vector have only the axis that is summed over,
            # and kernels refuse one scale a column for stacks of matrices.
            return name, -1, format
        return name, channel_axis(node, rank), format

    def _code(self, key: Key, node: onnx.NodeProto, index: int) -> Coded:
        name, channels, format = key
        array = self._floats.array(name)
        strategy, size = self._options.weight_strategy, self._options.block_size
        matrix = (
            operator_of(node) in ("MatMul", "Gemm") and index == 1 and array.ndim == 2
        )
        if matrix and size and channels >= 0 and QuantFormat(format).bits <= 4:
            return code_blocks(array, format, strategy, 1 - channels, size)
        axis = None if channels < 0 else channels
        return code(array, format, strategy, axis, self._least.get(name))

    def _store(self, name: str, coded: Coded, scope: Scope) -> str:
        """Store a weight's codes and append the node that decodes them."""
        zero = coded.zero_point
        if zero is None:
            zero = np.zeros(coded.scale.shape, QuantFormat(coded.format).storage)
        graph, add = scope.graph, self._constants.add
        stored = [
            add(graph, coded.codes, coded.format, f"{name}_quantized"),
            *self._constants.grid(graph, name, coded.scale, zero, coded.format),
        ]
        options = {} if coded.axis is None else {"axis": coded.axis}
        if coded.block_size:
            options["block_size"] = coded.block_size
        return self._append(name, stored, scope, options)

    def _append(
        self, name: str, stored: list[str], scope: Scope, options: Mapping[str, int]
    ) -> str:
        import onnx

        real = self._constants.name(f"{name}_DequantizeLinear_Output")
        title = self._constants.name(f"{name}_DequantizeLinear")
        made = onnx.helper.make_node(
            "DequantizeLinear", stored, [real], title, **options
        )
        scope.nodes.append(made)
        return real

    def _bias(self, node: onnx.NodeProto, scope: Scope) -> None:
        """Store the bias in 32 bits at the scale of the sums, which kernels add it to.

        It stays in float for TensorRT, and with weights or activations that have no
        integer sums.
        """
        name, scale = self._inputs[node.name][2], self._product_scale(node)
        if scale is not None and self._floats.is_float(name):
            node.input[2] = self._store_sum(name, scale, scope)

    def _as_sum(self, node: onnx.NodeProto, name: str, scope: Scope) -> str | None:
        """Store what is added to a MatMul in 32 bits; None when it does not fit."""
        scale = self._product_scale(node)
        if scale is None or not self._floats.is_float(name):
            return None
        array = self._floats.array(name)
        if scale.ndim and array.shape[-1:] != scale.shape:
            return None
        with np.errstate(over="ignore"):
            largest = np.abs(array / scale).max(initial=0)
        # NaN compares false, too.
        return self._store_sum(name, scale, scope) if largest <= _BIAS_MAX else None

    def _store_sum(self, name: str, scale: NDArray[np.float32], scope: Scope) -> str:
        """Store a constant as 32-bit codes and append the node that decodes them."""
        array = self._floats.array(name).astype(np.float64)
        codes = np.rint(array / scale).clip(-_BIAS_MAX, _BIAS_MAX).astype(np.int32)
        add = self._constants.add
        stored = [
            add(scope.graph, codes, "int32", f"{name}_quantized"),
            add(scope.graph, scale, "float32", f"{name}_quantized_scale"),
        ]
        options = {"axis": array.ndim - 1} if scale.ndim else {}
        return self._append(name, stored, scope, options)

    def _product_scale(self, node: onnx.NodeProto) -> NDArray[np.float32] | None:
        """Return the scale of a node's products; None when they are no integers."""
        product = np.float32(1)
        for index, name in enumerate(self._inputs[node.name][:2]):
            if name in self._plan.sites:
                params = self._ranges[name]
                format, scale = params.format, np.asarray(params.scale, np.float32)
            elif self._floats.is_float(name):
                coded = self._coded.get(self._key(node, name, index))
                if coded is None or coded.block_size:
                    return None
                format, scale = coded.format, coded.scale
            else:
                return None
            if is_float(format):
                return None
            product = product * scale
        return np.asarray(product) if self._options.target == "onnxruntime" else None

    def _sums_scale(self, node: onnx.NodeProto) -> np.float32 | None:
        """Return the scale of a node's input when its sums can be integers."""
        inputs = self._inputs[node.name]
        params = self._ranges.get(inputs[0]) if inputs else None
        if (
            self._options.target != "onnxruntime"
            or operator_of(node) not in _BIASED
            or len(inputs) < 3
            or params is None
            or is_float(params.format)
            or inputs[0] not in self._plan.sites
            or not self._floats.is_float(inputs[1], inputs[2])
        ):
            return None
        scale: np.float32 = np.float32(params.scale)
        return scale

    def _least_scales(self) -> dict[str, NDArray[np.float32]]:
        """Return, by weight, the scales below which a bias would not fit 32 bits.

        They matter where weights are next to nothing beside the bias; onnxruntime would
        let the bias overflow.
        """
        least: dict[str, NDArray[np.float32]] = {}
        for node in all_nodes(self._graph):
            scale = self._sums_scale(node)
            if node.name not in self._plan.nodes or scale is None:
                continue
            bias = np.abs(self._floats.array(node.input[2]).astype(np.float64))
            floor = (bias / (float(scale) * _BIAS_MAX)).astype(np.float32)
            name = node.input[1]
            least[name] = np.maximum(floor, least[name]) if name in least else floor
        return least
