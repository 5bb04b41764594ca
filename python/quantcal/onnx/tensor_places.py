"""Where the tensors of a model are: their nodes and operators, in the order of the graph."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from quantcal.onnx._graph.graph import all_nodes, operator_of
from quantcal.onnx._graph.nested_scopes import name_nodes
from quantcal.onnx._model.functions import inline_functions
from quantcal.onnx._model.model import load_model

if TYPE_CHECKING:
    import onnx

    from quantcal.onnx._model.model import Model

INPUT = "input"
"""The operator of a tensor that is an input of the model."""


@dataclass(frozen=True, slots=True)
class TensorPlace:
    """The node that makes a tensor.

    Attributes
    ----------
    node
        Its name; empty for an input of the model.
    operator
        Its operator; ``"input"`` for an input of the model.
    """

    node: str
    operator: str


def find_places(model: Model) -> dict[str, TensorPlace]:
    """Return the place of each tensor, in the order of the graph; inputs come first.

    Nodes without a name get the same names as in a quantized copy.

    Raises
    ------
    CalibrationError
        When the model cannot be read.
    """
    loaded = inline_functions(load_model(model, weights=False))
    graph = loaded.proto.graph
    name_nodes(graph)
    return places_of(graph)


def places_of(graph: onnx.GraphProto) -> dict[str, TensorPlace]:
    """Return the place of each tensor of a graph whose nodes have names."""
    stored = {tensor.name for tensor in graph.initializer}
    places = {
        value.name: TensorPlace("", INPUT)
        for value in graph.input
        if value.name not in stored
    }
    for node in all_nodes(graph):
        place = TensorPlace(node.name, operator_of(node))
        places.update(dict.fromkeys(filter(None, node.output), place))
    return places
