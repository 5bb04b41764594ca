"""A copy of a model that a correction may change, and the end of such a change."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING

from quantcal._io.temporary import TemporaryFolder, working
from quantcal.onnx._graph.external_data import embed_weights, externalize_weights
from quantcal.onnx._graph.graph import operator_of
from quantcal.onnx._graph.nested_scopes import (
    name_nodes,
    remove_nodes,
    scopes,
    unify_names,
)
from quantcal.onnx._graph.weights import Weights, drop_unread, uses_of
from quantcal.onnx._model.functions import inline_functions
from quantcal.onnx._model.model import WEIGHTS_FILE, LoadedModel, load_light

if TYPE_CHECKING:
    import onnx

    from quantcal.onnx._model.model import Model

# Changed weights of so many bytes move to a temporary file, which all sessions map.
_MANY_BYTES = 16 << 20


class FloatCopy:
    """A copy of a model with unique names, and its weights to change.

    Functions are inlined and nodes get names, as when a model is prepared. The given model
    is not changed.

    Parameters
    ----------
    model : path, bytes, ModelProto or LoadedModel
    """

    def __init__(self, model: Model | LoadedModel) -> None:
        import onnx

        given = model if isinstance(model, LoadedModel) else load_light(model)
        proto = onnx.ModelProto()
        proto.CopyFrom(given.proto)
        self.given = given
        self._loaded = inline_functions(replace(given, proto=proto, file=None))
        self.graph = self._loaded.proto.graph
        name_nodes(self.graph)
        unify_names(self.graph)
        self._read = uses_of(self.graph)
        self.weights = Weights(self.graph, given.folder)
        # The caller of a model may replace such a weight in each run.
        self._replaceable = {value.name for value in self.graph.input}

    @property
    def loaded(self) -> LoadedModel:
        """The copy as a model."""
        return self._loaded

    def is_constant(self, name: str) -> bool:
        """Whether a tensor is a stored float32 constant that no caller replaces."""
        return self.weights.is_float(name) and name not in self._replaceable

    def why_not_own(self, name: str) -> str | None:
        """Return why a matrix cannot be changed for its node alone; None when it can."""
        if not self.is_constant(name):
            return "weights that are no float32 constant"
        if self.weights.used[name] != 1:
            return "weights that several nodes read"
        return None

    def finish(self) -> LoadedModel:
        """Return the changed model. Many changed weights go to a temporary file."""
        _drop_unread_constants(self.graph, self._read)
        drop_unread(self.graph, self._read)
        loaded = self._loaded
        inline = sum(
            len(tensor.raw_data)
            for scope in scopes(self.graph)
            for tensor in scope.initializer
        )
        if loaded.folder is None or inline < _MANY_BYTES:
            return loaded
        with working():
            made = TemporaryFolder()
            embed_weights(loaded.proto, loaded.folder)
            externalize_weights(loaded.proto, made.path, WEIGHTS_FILE)
        proto = type(loaded.proto)()  # without the memory of the removed fields
        proto.CopyFrom(loaded.proto)
        return replace(loaded, proto=proto, folder=made.path, temporary=made)


def _drop_unread_constants(graph: onnx.GraphProto, before: Counter[str]) -> None:
    """Remove the Constant and Identity nodes whose results are no longer read."""
    used = uses_of(graph)

    def unread(node: onnx.NodeProto) -> bool:
        if operator_of(node) not in ("Constant", "Identity"):
            return False
        if any(used[name] or not before[name] for name in node.output):
            return False
        used.subtract(node.input)
        return True

    for scope in reversed(list(scopes(graph))):
        remove_nodes(scope, unread)


class Wiring:
    """Which nodes of one scope make and read its tensors.

    Parameters
    ----------
    scope : GraphProto
        The main graph, or a subgraph.
    weights : Weights
        Counts the readers in the whole model.
    """

    def __init__(self, scope: onnx.GraphProto, weights: Weights) -> None:
        self.nodes = list(scope.node)
        self._used = weights.used
        self.maker = {n: node for node in self.nodes for n in node.output if n}
        self.readers: dict[str, list[onnx.NodeProto]] = {}
        for node in self.nodes:
            for name in dict.fromkeys(filter(None, node.input)):
                self.readers.setdefault(name, []).append(node)

    def only_readers(self, name: str) -> list[onnx.NodeProto] | None:
        """Return the nodes that read a tensor's values; None when a subgraph or output does.

        Nodes that read only its shape are left out.
        """
        nodes = self.readers.get(name, [])
        if self._used[name] != sum(list(node.input).count(name) for node in nodes):
            return None
        return [node for node in nodes if operator_of(node) not in ("Shape", "Size")]

    def only_reader(self, name: str) -> onnx.NodeProto | None:
        """Return the one node that reads a tensor, once; None when there are others."""
        nodes = self.only_readers(name)
        if nodes is None or len(nodes) != 1 or list(nodes[0].input).count(name) != 1:
            return None
        return nodes[0]
