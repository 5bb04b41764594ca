"""New initializers of a rewritten graph, with names that are unique in the model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from quantcal.onnx._graph.graph import all_nodes, names_of, unique_name
from quantcal.onnx._write.weight_quantization import codes_to_tensor

if TYPE_CHECKING:
    import onnx


class Initializers:
    """Creates initializers with new names.

    Parameters
    ----------
    graph : GraphProto
        The main graph. Names are unique in the whole model.
    """

    def __init__(self, graph: onnx.GraphProto) -> None:
        self._taken = names_of(graph) | {node.name for node in all_nodes(graph)}

    def name(self, base: str) -> str:
        """Return ``base``, or an unused name like it."""
        return unique_name(base, self._taken)

    def add(
        self, graph: onnx.GraphProto, array: NDArray[Any], format: str, base: str
    ) -> str:
        """Store an array in a graph; return its name.

        ``format`` is a quantized format, "float32" or "int32".
        """
        from onnx import numpy_helper

        name = self.name(base)
        if format in ("float32", "int32"):
            tensor = numpy_helper.from_array(array, name)
        else:
            tensor = codes_to_tensor(array, format, name)
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
        """Store the scale and zero point of ``name``; return their names."""
        return [
            self.add(graph, scale, "float32", f"{name}_scale"),
            self.add(graph, zero, format, f"{name}_zero_point"),
        ]
