"""The weights of a graph: counting their readers, and changing them for one reader."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from quantcal.onnx._graph.constants import stored_tensors
from quantcal.onnx._graph.external_data import values_of
from quantcal.onnx._graph.graph import names_of, unique_name
from quantcal.onnx._graph.nested_scopes import scopes

if TYPE_CHECKING:
    import onnx


def uses_of(graph: onnx.GraphProto) -> Counter[str]:
    """Count the readers of each tensor: nodes, and outputs of the model and subgraphs."""
    used: Counter[str] = Counter()
    for scope in scopes(graph):
        used.update(name for node in scope.node for name in node.input if name)
        used.update(value.name for value in scope.output)
    return used


def drop_unread(graph: onnx.GraphProto, before: Counter[str]) -> None:
    """Remove the constants that are no longer read.

    Parameters
    ----------
    graph : GraphProto
        Changed in place.
    before : Counter
        The readers before a change, from :func:`uses_of`. A constant that had none in the
        user's model stays.
    """
    used = uses_of(graph)
    inputs = {value.name for value in graph.input}
    for scope in scopes(graph):
        for index in reversed(range(len(scope.initializer))):
            name = scope.initializer[index].name
            if before[name] and not used[name] and name not in inputs:
                del scope.initializer[index]


class Weights:
    """Stored tensors by name, which can be changed for one reader alone.

    Tensors in ``Constant`` nodes and in subgraphs are included. New ones go to the main
    graph, where every subgraph sees them. A name must mean one value in the whole model.
    """

    def __init__(self, graph: onnx.GraphProto, folder: Path | None = None) -> None:
        self.graph = graph
        self.folder = folder  # of the external data
        self.used = uses_of(graph)
        self.taken = names_of(graph)
        self.found = stored_tensors(graph)
        self._initializers = {
            tensor.name for scope in scopes(graph) for tensor in scope.initializer
        }

    def array(self, name: str) -> np.ndarray[Any, Any]:
        return values_of(self.found[name], self.folder)

    def shape(self, name: str) -> tuple[int, ...]:
        return tuple(self.found[name].dims)

    def is_float(self, *names: str) -> bool:
        import onnx

        kind = onnx.TensorProto.FLOAT
        return all(n in self.found and self.found[n].data_type == kind for n in names)

    def put(self, name: str, array: np.ndarray[Any, Any]) -> str:
        """Store float32 data, under a new name when ``name`` has other readers."""
        if self.used[name] == 1 and name in self._initializers:
            self.found[name].CopyFrom(_float32(array, name))
            return name
        self.used[name] -= 1
        new = self.add(f"{name}_copy" if name in self.found else name, array)
        self.used[new] = 1
        return new

    def add(self, name: str, array: np.ndarray[Any, Any]) -> str:
        """Store float32 data under ``name``, with a number if that is taken."""
        new = unique_name(name, self.taken)
        self.graph.initializer.append(_float32(array, new))
        self.found[new] = self.graph.initializer[-1]
        self._initializers.add(new)
        return new


def _float32(array: np.ndarray[Any, Any], name: str) -> onnx.TensorProto:
    from onnx import numpy_helper

    return numpy_helper.from_array(np.asarray(array, dtype=np.float32), name)
