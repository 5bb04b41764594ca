"""Weights and biases as codes in the rewritten graph, with nodes that dequantize them.

Codes lie in the graph of the node that reads them, even if the float weight lay in an outer
graph. onnxruntime's fusions do not find all constants of outer graphs, and one fusion then
fails. Codes that several graphs share lie in the main graph if no such fusion applies.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from quantcal.formats import QuantFormat
from quantcal.onnx._graph.graph import all_nodes, operator_of
from quantcal.onnx._graph.weights import Weights
from quantcal.onnx._options.cpu import WeightBits
from quantcal.onnx._options.values import is_float
from quantcal.onnx._plan.sums import Sum
from quantcal.onnx._plan.weight_inputs import BIASED
from quantcal.onnx._plan.weight_sharing import plan_weight_uses
from quantcal.onnx._plan.weight_uses import WeightKey, WeightUse, find_shared_keys
from quantcal.onnx._write.bias_scales import (
    BIAS_MAX,
    replace_zero_scales,
    scales_for_biases,
)
from quantcal.onnx._write.initializers import Initializers
from quantcal.onnx._write.ort_workarounds import marks_signed_codes
from quantcal.onnx._write.weight_quantization import (
    QuantizedWeight,
    quantize_blocks,
    quantize_weight,
)
from quantcal.params import QuantParams

if TYPE_CHECKING:
    import onnx

    from quantcal.onnx._plan.preparation import Prepared


@dataclass(frozen=True, slots=True)
class Scope:
    """One graph while it is rewritten: its nodes, dequantized weights and codes so far."""

    graph: onnx.GraphProto
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    decoded: dict[WeightUse, str] = field(default_factory=dict)
    codes: dict[WeightKey, str] = field(default_factory=dict)
    stored: dict[tuple[WeightKey, float], list[str]] = field(default_factory=dict)


class WeightNodes:
    """Stores codes for the weights of chosen nodes, with DequantizeLinear nodes before them.

    Parameters
    ----------
    prepared : Prepared
    graph : GraphProto
        The main graph of the copy to rewrite.
    initializers : Initializers
    ranges : mapping of str to QuantParams
        The ranges of activations.
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
        initializers: Initializers,
        ranges: Mapping[str, QuantParams],
        bits: WeightBits,
    ) -> None:
        self.formats: Counter[str] = Counter()
        self._plan = prepared.plan
        self._options = prepared.options
        self._graph = graph
        self._marked = marks_signed_codes(prepared.proto)
        self._initializers = initializers
        self._ranges = ranges
        self._bits = bits
        self._floats = Weights(graph, prepared.converted.folder)
        self._inputs = {node.name: list(node.input) for node in all_nodes(graph)}
        self._uses = plan_weight_uses(
            graph, prepared.plan.nodes, prepared.ties, self._options, bits
        )
        self._units = self._first_factors()
        self._least, self._zero = scales_for_biases(
            graph, prepared.plan, self._uses, ranges, self._floats
        )
        self._outside = find_shared_keys(graph, self._uses, self._plan.formats)
        self._coded: dict[WeightKey, QuantizedWeight] = {}
        self._around = Scope(graph)

    def decode(self, node: onnx.NodeProto, scope: Scope) -> None:
        """Let a node read dequantized constants, through nodes inserted before it."""
        original = self._inputs[node.name]
        for index in range(len(original)):
            use = self._uses.get((node.name, index))
            if use is None:
                continue
            if use.key not in self._coded:
                self._coded[use.key] = self._code(use)
                self.formats[use.key.format] += 1
            same = replace(use, name="")  # tied weights may share it
            if same not in scope.decoded:
                scope.decoded[same] = self._store(use, self._scaled(use), scope)
            node.input[index] = scope.decoded[same]
        if (
            len(original) > 2
            and operator_of(node) in BIASED
            and node.name in self._plan.nodes
        ):
            self._bias(node, scope)

    def decode_sum(
        self, node: onnx.NodeProto, terms: Sequence[Sum], scope: Scope
    ) -> None:
        """Quantize the constant of an Add after a MatMul; else keep the Add separate.

        See :mod:`quantcal.onnx._plan.sums`. For TensorRT the constant stays in float.
        """
        for term in terms:
            if self._must_be_subtracted(term, node):
                _subtract(node, term.other, self._negative(node, term.other, scope))
                return
        if not self._options.minimal:
            return
        made = {other.name: other for other in scope.nodes}
        for term in terms:
            decoded = self._as_sum(made[term.matmul], node.input[term.other], scope)
            if decoded is not None:
                node.input[term.other] = decoded
                return
        for term in terms:
            if term.matrices:
                # onnxruntime fuses a MatMul and an Add, and a float bias leaves the result
                # without an integer kernel. It does not fuse a Gemm that way.
                made[term.matmul].op_type = "Gemm"

    def _must_be_subtracted(self, term: Sum, node: onnx.NodeProto) -> bool:
        """Whether onnxruntime would put a Reshape between signed codes and a product.

        It does so for an Add after a product of stacked matrices, and then fails to load
        the model (:mod:`quantcal.onnx._write.ort_workarounds`). Subtracting the negative
        constant gives the same sum, and onnxruntime leaves a Sub alone.
        """
        data = self._ranges.get(self._inputs[term.matmul][0])
        signed = data is not None and data.format == "int8"
        constant = self._floats.is_float(node.input[term.other])
        return signed and self._marked and constant and not term.matrices

    def _negative(self, node: onnx.NodeProto, index: int, scope: Scope) -> str:
        name = node.input[index]
        negative = -self._floats.array(name)
        return self._initializers.add(
            scope.graph, negative, "float32", f"{name}_negative"
        )

    def _code(self, use: WeightUse) -> QuantizedWeight:
        key, array = use.key, self._floats.array(use.name)
        if use.perm:
            array = np.ascontiguousarray(array.transpose(np.argsort(use.perm)))
        strategy = self._options.weight_strategy
        if key.block_size:
            return quantize_blocks(
                array, key.format, strategy, key.axis, key.block_size
            )
        axis = None if key.axis < 0 else key.axis
        coded = quantize_weight(array, key.format, strategy, axis, self._least.get(key))
        if key not in self._zero:
            return coded
        scale = replace_zero_scales(array, coded.scale, axis, self._zero[key])
        return replace(coded, scale=scale)

    def _scaled(self, use: WeightUse) -> QuantizedWeight:
        """Return shared codes with the scale of one of the constants that share them."""
        coded, ratio = self._coded[use.key], use.factor / self._units[use.key]
        if ratio == 1.0:
            return coded
        return replace(coded, scale=coded.scale * np.float32(ratio))

    def _first_factors(self) -> dict[WeightKey, float]:
        """Return, for each key, the factor of the constant that its codes are made from."""
        units: dict[WeightKey, float] = {}
        for use in self._uses.values():
            units.setdefault(use.key, use.factor)
        return units

    def _store(self, use: WeightUse, coded: QuantizedWeight, scope: Scope) -> str:
        """Store a weight's codes once, and append the nodes that dequantize them."""
        at = self._around if use.key in self._outside else scope
        if use.key not in at.codes:
            base = f"{use.name}_quantized"
            add = self._initializers.add
            at.codes[use.key] = add(at.graph, coded.codes, coded.format, base)
        place = use.key, use.factor
        if place not in at.stored:
            zero = coded.zero_point
            if zero is None:
                zero = np.zeros(coded.scale.shape, QuantFormat(coded.format).storage)
            grid = self._initializers.grid(
                at.graph, use.name, coded.scale, zero, coded.format
            )
            at.stored[place] = [at.codes[use.key], *grid]
        options = {} if coded.axis is None else {"axis": coded.axis}
        if coded.block_size:
            options["block_size"] = coded.block_size
        real = self._append(use.name, at.stored[place], scope, options)
        return self._transposed(use, real, scope) if use.perm else real

    def _transposed(self, use: WeightUse, real: str, scope: Scope) -> str:
        """Append a Transpose after DequantizeLinear; onnxruntime fuses through it."""
        import onnx

        result = self._initializers.name(f"{use.name}_Transpose_Output")
        title = self._initializers.name(f"{use.name}_Transpose")
        scope.nodes.append(
            onnx.helper.make_node(
                "Transpose", [real], [result], title, perm=list(use.perm)
            )
        )
        return result

    def _append(
        self, name: str, stored: list[str], scope: Scope, options: Mapping[str, int]
    ) -> str:
        import onnx

        real = self._initializers.name(f"{name}_DequantizeLinear_Output")
        title = self._initializers.name(f"{name}_DequantizeLinear")
        made = onnx.helper.make_node(
            "DequantizeLinear", stored, [real], title, **options
        )
        scope.nodes.append(made)
        return real

    def _bias(self, node: onnx.NodeProto, scope: Scope) -> None:
        """Store the bias in 32 bits at the scale of the products that it is added to.

        It stays in float for TensorRT, and if weights or activations are not integers.
        """
        name, scale = self._inputs[node.name][2], self._product_scale(node)
        if scale is not None and self._floats.is_float(name):
            node.input[2] = self._store_sum(name, scale, scope)

    def _as_sum(self, node: onnx.NodeProto, name: str, scope: Scope) -> str | None:
        """Store the constant added to a MatMul in 32 bits; None when it does not fit."""
        scale = self._product_scale(node)
        if scale is None or not self._floats.is_float(name):
            return None
        array = self._floats.array(name)
        if scale.ndim and array.shape[-1:] != scale.shape:
            return None
        with np.errstate(over="ignore"):
            largest = np.abs(array / scale).max(initial=0)
        # NaN compares false, so it does not fit either.
        return self._store_sum(name, scale, scope) if largest <= BIAS_MAX else None

    def _store_sum(self, name: str, scale: NDArray[np.float32], scope: Scope) -> str:
        """Store a constant as 32-bit codes and append the node that dequantizes them."""
        array = self._floats.array(name).astype(np.float64)
        codes = np.rint(array / scale).clip(-BIAS_MAX, BIAS_MAX).astype(np.int32)
        add = self._initializers.add
        stored = [
            add(scope.graph, codes, "int32", f"{name}_quantized"),
            add(scope.graph, scale, "float32", f"{name}_quantized_scale"),
        ]
        options = {"axis": array.ndim - 1} if scale.ndim else {}
        return self._append(name, stored, scope, options)

    def _product_scale(self, node: onnx.NodeProto) -> NDArray[np.float32] | None:
        """Return the scale of a node's products; None when they are not integers."""
        product = np.float32(1)
        for index, name in enumerate(self._inputs[node.name][:2]):
            use = self._uses.get((node.name, index))
            if name in self._plan.sites:
                params = self._ranges[name]
                format, scale = params.format, np.asarray(params.scale, np.float32)
            elif use is not None and not use.key.block_size:
                format, scale = use.key.format, self._scaled(use).scale
            else:
                return None
            if is_float(format):
                return None
            product = product * scale
        found = np.asarray(product)
        # The product of two tiny scales may underflow to 0 in float32.
        fits = self._options.target == "onnxruntime" and bool((found > 0).all())
        return found if fits else None


def _subtract(node: onnx.NodeProto, index: int, negative: str) -> None:
    """Write an Add of a constant as the Sub of its negative."""
    product = node.input[1 - index]
    node.op_type = "Sub"
    node.input[0], node.input[1] = product, negative
