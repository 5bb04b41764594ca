"""Rewriting a prepared graph: Q/DQ pairs around chosen nodes, codes in place of weights.

A pair on a tensor lies in the graph of its readers, so that onnxruntime can take it into
their kernels; codes and scales lie in the main graph, which all graphs see. Names follow
onnxruntime's quantizer: ``x_QuantizeLinear_Output``, ``w_quantized``, ``w_scale``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from quantcal import QuantFormat, QuantParams
from quantcal.onnx.coding import Coded, code, code_blocks, tensor_of
from quantcal.onnx.cpu import WeightBits
from quantcal.onnx.model import all_nodes, sort_nodes, subgraphs, unique_name
from quantcal.onnx.names import rule_for
from quantcal.onnx.operands import channel_axis
from quantcal.onnx.options import is_float
from quantcal.onnx.scopes import scopes
from quantcal.onnx.weights import Weights, uses_of

if TYPE_CHECKING:
    import onnx

    from quantcal.onnx.prepare import Prepared

# The largest code of a bias: half of what 32 bits hold, as products are added to it.
_BIAS_MAX = float(2**30)
_BIASED = frozenset({"Conv", "ConvTranspose", "Gemm"})
_SUMS = frozenset({"Add", "Sub", "Mul", "Div"})
_CODED = _BIASED | {"MatMul"} | _SUMS  # whose constants are weights


def rewrite(
    prepared: Prepared, ranges: Mapping[str, QuantParams], bits: WeightBits
) -> tuple[onnx.ModelProto, Counter[str]]:
    """Return a quantised copy of the prepared model.

    Parameters
    ----------
    prepared : Prepared
    ranges : mapping of str to QuantParams
        Of all tensors that the plan rounds.
    bits : WeightBits
        Which nodes store 8-bit weights with 7 bits.

    Returns
    -------
    tuple of (ModelProto, Counter)
        And how many weights took which format.
    """
    import onnx

    proto = onnx.ModelProto()
    proto.CopyFrom(prepared.proto)
    sort_nodes(proto.graph)
    work = _Rewriter(prepared, proto, ranges, bits)
    work.scope(proto.graph, {})
    work.drop_floats()
    return proto, work.weights


class _Rewriter:
    """One rewriting, from the outermost graph inwards."""

    def __init__(
        self,
        prepared: Prepared,
        proto: onnx.ModelProto,
        ranges: Mapping[str, QuantParams],
        bits: WeightBits,
    ) -> None:
        self._plan = prepared.plan
        self._options = prepared.options
        self._ranges = ranges
        self._bits = bits
        self._graph = proto.graph
        self._floats = Weights(proto.graph)
        self._coded: dict[tuple[str, int, str], tuple[Coded, list[str]]] = {}
        self._grids: dict[str, list[str]] = {}
        self._least = self._least_scales()
        self.weights: Counter[str] = Counter()

    def scope(self, graph: onnx.GraphProto, around: Mapping[str, str]) -> None:
        """Rewrite one graph, and those inside it.

        ``around`` says what is read instead of a tensor, inside this graph too.
        """
        names = dict(around)
        pairs: dict[str, str] = {}  # what only some nodes read rounded
        decoded: dict[str, str] = {}
        outputs = {value.name for value in graph.output}
        nodes: list[onnx.NodeProto] = []
        for node in graph.node:
            original = list(node.input)
            for index, name in enumerate(original):
                if self._rounds(node, name, around):
                    if name not in pairs:
                        source = names.get(name, name)
                        pairs[name] = self._pair(nodes, name, source)
                    node.input[index] = pairs[name]
                elif name in names:
                    node.input[index] = names[name]
            if node.name in self._plan.nodes:
                self._weights(node, original, nodes, decoded)
            nodes.append(node)
            for index, name in enumerate(node.output):
                if self._plan.sites.get(name, frozenset()) is not None:
                    continue
                source = name
                if name in outputs:
                    source = self._name(f"{name}_QuantizeLinear_Input")
                    node.output[index] = source
                names[name] = self._pair(nodes, name, source, keep=name in outputs)
            for inner in subgraphs(node):
                self.scope(inner, names)
        del graph.node[:]
        graph.node.extend(nodes)
        made = {name for node in graph.node for name in node.output}
        made |= {value.name for value in graph.input}
        kept = [value for value in graph.value_info if value.name in made]
        del graph.value_info[:]
        graph.value_info.extend(kept)

    def _rounds(
        self, node: onnx.NodeProto, name: str, around: Mapping[str, str]
    ) -> bool:
        """Whether a node takes a rounded tensor from a pair of its own graph.

        What is rounded where it is made needs none, unless it comes from outside:
        kernels do not look there.
        """
        readers = self._plan.sites.get(name, frozenset())
        if readers is None:
            return name in around and node.name in self._plan.nodes
        return node.name in readers

    def drop_floats(self) -> None:
        """Remove the float weights that nothing reads any more."""
        used = uses_of(self._graph)
        replaced = {name for name, *_ in self._coded}
        for graph in scopes(self._graph):
            for index in reversed(range(len(graph.initializer))):
                name = graph.initializer[index].name
                if name in replaced and not used[name]:
                    del graph.initializer[index]

    def _name(self, base: str) -> str:
        return unique_name(base, self._floats.taken)

    def _pair(
        self,
        nodes: list[onnx.NodeProto],
        name: str,
        source: str,
        *,
        keep: bool = False,
    ) -> str:
        """Append Q and DQ of a tensor; return what DQ gives (``name`` itself if kept)."""
        import onnx

        if name not in self._grids:
            self._grids[name] = self._grid(name)
        coded = self._name(f"{name}_QuantizeLinear_Output")
        real = name if keep else self._name(f"{name}_DequantizeLinear_Output")
        for op_type, given, gives in (
            ("QuantizeLinear", source, coded),
            ("DequantizeLinear", coded, real),
        ):
            inputs = [given, *self._grids[name]]
            title = self._name(f"{name}_{op_type}")
            nodes.append(onnx.helper.make_node(op_type, inputs, [gives], title))
        return real

    def _grid(self, name: str) -> list[str]:
        """Store scale and zero point of an activation; return their names."""
        params = self._ranges[name]
        scale = np.asarray(params.scale, dtype=np.float32)
        zero = np.asarray(params.zero_point).astype(QuantFormat(params.format).storage)
        return self._store_grid(name, scale, zero, params.format)

    def _store_grid(
        self, name: str, scale: NDArray[Any], zero: NDArray[Any] | None, format: str
    ) -> list[str]:
        names = [self._store(scale, "float32", f"{name}_scale")]
        if zero is not None:
            names.append(self._store(zero, format, f"{name}_zero_point"))
        return names

    def _store(self, array: NDArray[Any], format: str, base: str) -> str:
        from onnx import numpy_helper

        name = self._name(base)
        if format in ("float32", "int32"):
            tensor = numpy_helper.from_array(array, name)
        else:
            tensor = tensor_of(array, format, name)
        self._graph.initializer.append(tensor)
        return name

    def _weights(
        self,
        node: onnx.NodeProto,
        original: list[str],
        nodes: list[onnx.NodeProto],
        decoded: dict[str, str],
    ) -> None:
        """Give a chosen node decoded weights, and a bias in its scale where it helps."""
        last: Coded | None = None
        for index, name in enumerate(original):
            bias = node.op_type in _BIASED and index == 2
            if bias or node.op_type not in _CODED or not self._floats.is_float(name):
                continue
            last, stored = self._code(node, name, index)
            node.input[index] = self._decode(nodes, decoded, last, stored, name)
        if len(original) > 2 and node.op_type in _BIASED and last is not None:
            self._bias(node, original, nodes, last)

    def _code(
        self, node: onnx.NodeProto, name: str, index: int
    ) -> tuple[Coded, list[str]]:
        options = self._options
        array = self._floats.array(name)
        axis: int | None = None
        if node.op_type in _SUMS:  # kernels want both numbers in one format
            format, options = options.activation, replace(options, per_channel=False)
        else:
            axis = channel_axis(node, array.ndim)
            default = options.weight
            format = rule_for(options.weight_formats, name, [node.name], default)
            narrow = self._bits.reduce or node.name in self._bits.nodes
            if narrow and format in ("int8", "uint8"):
                format = format.replace("8", "7")
        matrix = array.ndim == 2 and node.op_type in ("MatMul", "Gemm") and index == 1
        if not options.per_channel or (node.op_type == "MatMul" and not matrix):
            # A constant first input and a vector have only the axis that is summed over,
            # and kernels refuse one scale a column for stacks of matrices.
            axis = None
        key = (name, -1 if axis is None else axis, format)
        if key not in self._coded:
            strategy, size = options.weight_strategy, options.block_size
            blocks = matrix and size and QuantFormat(format).bits <= 4
            if blocks and axis is not None:
                coded = code_blocks(array, format, strategy, 1 - axis, size)
            else:
                coded = code(array, format, strategy, axis, self._least.get(name))
            zero = coded.zero_point
            if zero is None:
                storage = QuantFormat(format).storage
                zero = np.zeros(coded.scale.shape, storage)
            stored = [self._store(coded.codes, format, f"{name}_quantized")]
            stored += self._store_grid(name, coded.scale, zero, format)
            self._coded[key] = coded, stored
            self.weights[format] += 1
        return self._coded[key]

    def _decode(
        self,
        nodes: list[onnx.NodeProto],
        decoded: dict[str, str],
        coded: Coded,
        stored: list[str],
        name: str,
    ) -> str:
        """Append the DequantizeLinear of a weight, once in each graph."""
        import onnx

        if stored[0] not in decoded:
            real = self._name(f"{name}_DequantizeLinear_Output")
            options = {} if coded.axis is None else {"axis": coded.axis}
            if coded.block_size:
                options["block_size"] = coded.block_size
            title = self._name(f"{name}_DequantizeLinear")
            nodes.append(
                onnx.helper.make_node(
                    "DequantizeLinear", stored, [real], title, **options
                )
            )
            decoded[stored[0]] = real
        return decoded[stored[0]]

    def _bias(
        self,
        node: onnx.NodeProto,
        original: list[str],
        nodes: list[onnx.NodeProto],
        weight: Coded,
    ) -> None:
        """Store the bias in 32 bits at the scale of the sums, which kernels add it to.

        It stays in float for TensorRT, and with weights or activations that have no
        integer sums.
        """
        import onnx

        name = original[2]
        input_scale = self._sums_scale(node, original)
        if input_scale is None or is_float(weight.format) or weight.block_size:
            return
        scale = input_scale * weight.scale
        bias = self._floats.array(name).astype(np.float64)
        codes = np.rint(bias / scale).clip(-_BIAS_MAX, _BIAS_MAX).astype(np.int32)
        stored = self._store(codes, "int32", f"{name}_quantized")
        grid = self._store(scale, "float32", f"{name}_quantized_scale")
        real = self._name(f"{name}_DequantizeLinear_Output")
        options = {"axis": 0} if scale.ndim else {}
        title = self._name(f"{name}_DequantizeLinear")
        nodes.append(
            onnx.helper.make_node(
                "DequantizeLinear", [stored, grid], [real], title, **options
            )
        )
        node.input[2] = real
        self._coded[(name, -2, "int32")] = weight, [stored]

    def _sums_scale(
        self, node: onnx.NodeProto, inputs: Sequence[str]
    ) -> np.float32 | None:
        """Return the scale of a node's input when its sums can be integers."""
        params = self._ranges.get(inputs[0]) if inputs else None
        if (
            self._options.target != "onnxruntime"
            or node.op_type not in _BIASED
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
            scale = self._sums_scale(node, node.input)
            if node.name not in self._plan.nodes or scale is None:
                continue
            bias = np.abs(self._floats.array(node.input[2]).astype(np.float64))
            floor = (bias / (float(scale) * _BIAS_MAX)).astype(np.float32)
            name = node.input[1]
            least[name] = np.maximum(floor, least[name]) if name in least else floor
        return least
