"""The graph of a trial: each Q/DQ pair of an activation reads its grid from an input.

The input ``quantcal.grids`` has a row for each activation that is rounded: scale, zero
point, lowest and highest code. A scale of 0 leaves the activation in float. There are two
forms of the graph:

* with operators: ``quantcal::Round`` is both nodes of a pair. ``quantcal::RoundInPlace``
  writes over its input, so that a tensor in float is not even copied.
* plain, for runtimes that cannot load them: QuantizeLinear, DequantizeLinear and Where.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from quantcal.formats import QuantFormat
from quantcal.onnx._graph.graph import (
    all_nodes,
    captured_by,
    names_of,
    operator_of,
    subgraphs,
    unique_name,
)
from quantcal.onnx._options.values import is_float
from quantcal.onnx._write.qdq_insertion import RENAMED
from quantcal.onnx._write.weight_quantization import onnx_type

if TYPE_CHECKING:
    import onnx

    from quantcal.onnx._write.qdq_insertion import Insertion
    from quantcal.params import QuantParams

GRIDS = "quantcal.grids"
"""The input with the grids: float32, shape (activations, 4)."""

DOMAIN = "quantcal"
OFF = np.zeros(4, np.float32)
"""The row of an activation that stays in float."""

# The outputs of these are new memory that nothing else reads, so they may be overwritten.
# A Reshape, for example, may return the memory of its input.
_OWN_MEMORY = frozenset(
    {
        *("Conv", "ConvTranspose", "MatMul", "Gemm", "Add", "Sub", "Mul", "Div"),
        *("Relu", "Clip", "LeakyRelu", "PRelu", "Sigmoid", "Tanh", "Erf", "Gelu"),
        *("HardSigmoid", "HardSwish", "Softmax", "LayerNormalization"),
        *("GlobalAveragePool", "AveragePool", "MaxPool"),
        *("BatchNormalization", "InstanceNormalization", "ThresholdedRelu"),
    }
)


def grid_of(params: QuantParams) -> NDArray[np.float32]:
    """Return the row of an activation with this grid."""
    scale, zero = float(params.scale), float(params.zero_point)
    if is_float(params.format):
        return np.array([scale, zero, -np.inf, np.inf], np.float32)
    limits = np.iinfo(QuantFormat(params.format).storage)
    return np.array([scale, zero, limits.min, limits.max], np.float32)


@dataclass(frozen=True, slots=True)
class TrialGraph:
    """The graph, and the rows of its input.

    Attributes
    ----------
    proto : ModelProto
    tensors : tuple of str
        The activation of each row.
    """

    proto: onnx.ModelProto
    tensors: tuple[str, ...]


def make_trial_graph(
    inserted: Insertion,
    formats: Mapping[str, str],
    ranks: Mapping[str, int],
    *,
    operators: bool,
) -> TrialGraph:
    """Replace the pairs of activations.

    Parameters
    ----------
    inserted : Insertion
        The model with pairs; it is changed.
    formats : mapping of str to str
        Activation → its format.
    ranks : mapping of str to int
        Of activations, where known.
    operators : bool
        Whether quantcal's operators may be used. Small floats always take the plain form.
    """
    import onnx

    proto = inserted.proto
    tensors = tuple(inserted.grids)
    rows = {inserted.grids[name][0]: row for row, name in enumerate(tensors)}
    kinds = [formats[name] for name in tensors]
    work = _PairReplacer(proto.graph, rows, kinds, operators=operators)
    work.replace(proto.graph)
    # onnxruntime infers no shapes behind operators of ours, and some of its optimizations
    # need the rank. Without it the kernels would differ from those of the written model.
    for real, source, row in work.made:
        # A tensor that the graph returns was renamed before its rounding.
        renamed = source.startswith(f"{tensors[row]}{RENAMED}")
        rank = ranks.get(tensors[row] if renamed else source)
        if rank is not None:
            shape = [None] * rank
            value = onnx.helper.make_tensor_value_info(
                real, onnx.TensorProto.FLOAT, shape
            )
            proto.graph.value_info.append(value)
    rows_and_columns = [max(len(tensors), 1), 4]
    proto.graph.input.append(
        onnx.helper.make_tensor_value_info(
            GRIDS, onnx.TensorProto.FLOAT, rows_and_columns
        )
    )
    proto.opset_import.append(onnx.helper.make_opsetid(DOMAIN, 1))
    return TrialGraph(proto, tensors)


class _PairReplacer:
    """Replaces the pairs of one model.

    Parameters
    ----------
    graph : GraphProto
        The main graph.
    rows : mapping of str to int
        The name of a scale → the row of its activation.
    formats : sequence of str
        Of each row.
    operators : bool

    Attributes
    ----------
    made : list of (str, str, int)
        The outputs of the pairs, what they round, and their rows.
    """

    def __init__(
        self,
        graph: onnx.GraphProto,
        rows: Mapping[str, int],
        formats: list[str],
        *,
        operators: bool,
    ) -> None:
        self._rows = rows
        self._formats = formats
        self._operators = operators
        self.made: list[tuple[str, str, int]] = []
        self._taken = names_of(graph)
        self._reads: Counter[str] = Counter()
        for node in all_nodes(graph):
            self._reads.update(node.input)
            self._reads.update(captured_by(node))
        self._reads.update(value.name for value in graph.output)

    def replace(self, graph: onnx.GraphProto) -> None:
        """Replace the pairs of one graph and of those inside it."""
        coded: dict[str, str] = {}
        maker = {name: node for node in graph.node for name in node.output}
        nodes: list[onnx.NodeProto] = []
        for node in graph.node:
            for inner in subgraphs(node):
                self.replace(inner)
            row = self._rows.get(node.input[1]) if len(node.input) > 1 else None
            if row is not None and node.op_type == "QuantizeLinear":
                coded[node.output[0]] = node.input[0]
            elif row is not None and node.op_type == "DequantizeLinear":
                source = coded[node.input[0]]
                nodes += self._pair(source, node.output[0], row, maker.get(source))
            else:
                nodes.append(node)
        del graph.node[:]
        graph.node.extend(nodes)

    def _pair(
        self, source: str, real: str, row: int, maker: onnx.NodeProto | None
    ) -> list[onnx.NodeProto]:
        import onnx

        self.made.append((real, source, row))
        if not self._operators or is_float(self._formats[row]):
            return self._plain_pair(source, real, row)
        alone = self._reads[source] == 1 and maker is not None
        in_place = alone and maker is not None and operator_of(maker) in _OWN_MEMORY
        made = onnx.helper.make_node(
            "RoundInPlace" if in_place else "Round",
            [source, GRIDS],
            [real],
            f"Round {real}",
            domain=DOMAIN,
            position=row,
        )
        return [made]

    def _plain_pair(self, source: str, real: str, row: int) -> list[onnx.NodeProto]:
        import onnx

        def name(part: str) -> str:
            return unique_name(f"{real}_{part}", self._taken)

        def node(kind: str, inputs: list[str], part: str, **more: object) -> str:
            output = part if part == real else name(part)
            nodes.append(onnx.helper.make_node(kind, inputs, [output], **more))
            return output

        def constant(value: object, part: str) -> str:
            array = onnx.numpy_helper.from_array(np.asarray(value))
            return node("Constant", [], part, value=array)

        nodes: list[onnx.NodeProto] = []
        grid = node("Gather", [GRIDS, constant(np.int64(row), "row")], "grid", axis=0)
        parts = [
            node("Gather", [grid, constant(np.int64(i), f"part{i}")], f"value{i}")
            for i in range(2)
        ]
        kind = onnx_type(self._formats[row])
        zero = node("Cast", [parts[1]], "zero", to=kind)
        codes = node("QuantizeLinear", [source, parts[0], zero], "codes")
        rounded = node("DequantizeLinear", [codes, parts[0], zero], "rounded")
        off = node("Equal", [parts[0], constant(np.float32(0), "nothing")], "off")
        node("Where", [off, source, rounded], real)
        return nodes
