"""A random graph that grows node by node, and the many forms in which it holds constants."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

Array = np.ndarray[Any, Any]
Shape = tuple[int, ...]

STYLES: dict[str, Callable[[str, int], str]] = {
    "plain": lambda hint, n: f"{hint}_{n}",
    "torch": lambda hint, n: f"/model/layers.{n}/{hint}/{hint}_output_0",
    "keras": lambda hint, n: f"model_1/{hint}:{n}",
    "odd": lambda hint, n: f"层 {n} «{hint}» ß'\"\\",
    "number": lambda hint, n: str(n + 100),
}


@dataclass(frozen=True)
class Value:
    """A float32 tensor that is computed, and its shape in every sample."""

    name: str
    shape: Shape

    @property
    def rank(self) -> int:
        return len(self.shape)


class Names:
    """Names for tensors and nodes in one style; each tensor's name is new."""

    def __init__(self, style: str, nodes: str) -> None:
        self._style = STYLES[style]
        self._nodes = nodes
        self._count = 0

    def tensor(self, hint: str) -> str:
        self._count += 1
        return self._style(hint, self._count)

    def node(self, op_type: str, position: int) -> str:
        if self._nodes == "unnamed":
            return ""
        if self._nodes == "equal":  # in graphs inside one another
            return f"{op_type}_{position}"
        self._count += 1
        return self._style(f"{op_type}_node", self._count)


class Net:
    """One graph; with a ``parent`` one that lies inside a node of the parent's.

    Attributes
    ----------
    rng : numpy.random.Generator
        Set anew before every step, so that steps can be left out one by one.
    values : list of Value
        What the next node may read.
    odd : dict of str to float
        Properties that the whole model has: the scale of its values, the probabilities
        of dead channels and of weights that are inputs.
    """

    def __init__(
        self,
        rng: np.random.Generator,
        opset: int,
        names: Names,
        odd: dict[str, float],
        parent: Net | None = None,
    ) -> None:
        self.rng = rng
        self.opset = opset
        self.names = names
        self.odd = odd
        self.parent = parent
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self.values: list[Value] = []
        self.weights: list[tuple[str, Shape]] = []
        self.inputs: list[str] = []  # constants that are inputs of the model, too
        self.functions: list[onnx.FunctionProto] = (
            [] if parent is None else parent.functions
        )
        self.domains: set[str] = set() if parent is None else parent.domains

    def inside(self) -> Net:
        """Return a graph for a body; it sees what this one has computed so far."""
        # Odd scales of weights would grow by the iteration.
        return Net(self.rng, self.opset, self.names, self.odd | {"weights": 1.0}, self)

    @property
    def _nodes_only(self) -> bool:
        """Whether constants must be nodes: before opset 9 bodies had no initializers."""
        return self.parent is not None and self.opset < 9

    # Draws

    def flip(self, probability: float) -> bool:
        return bool(self.rng.random() < probability)

    def draw(self, *choices: Any) -> Any:
        return choices[int(self.rng.integers(len(choices)))]

    def between(self, low: int, high: int) -> int:
        return int(self.rng.integers(low, high + 1))

    def normal(self, *shape: int) -> Array:
        return self.rng.standard_normal(shape).astype(np.float32)

    def pick(self, fits: Callable[[Value], bool] = lambda value: True) -> Value | None:
        """Return a tensor that fits: mostly the newest, sometimes one from outside."""
        around = self.parent.values if self.parent else []
        found = [value for value in (*around, *self.values) if fits(value)]
        if not found:
            return None
        return found[-1] if self.flip(0.7) else found[self.between(0, len(found) - 1)]

    # Nodes

    def add(
        self, op_type: str, inputs: Sequence[str | Value], shape: Shape, **more: Any
    ) -> Value:
        return self.add_many(op_type, inputs, [shape], **more)[0]

    def add_many(
        self,
        op_type: str,
        inputs: Sequence[str | Value],
        shapes: Sequence[Shape],
        *,
        domain: str = "",
        **attributes: Any,
    ) -> list[Value]:
        made = [Value(self.names.tensor(op_type), tuple(shape)) for shape in shapes]
        read = [item.name if isinstance(item, Value) else item for item in inputs]
        node = helper.make_node(
            op_type,
            read,
            [value.name for value in made],
            self.node_name(op_type),
            domain=domain,
            **attributes,
        )
        if domain:
            self.domains.add(domain)
        self.nodes.append(node)
        return made

    def node_name(self, op_type: str) -> str:
        return self.names.node(op_type, len(self.nodes))

    def constant(self, array: Any, dtype: Any = np.int64) -> str:
        """Store a constant as an initializer or by a Constant node."""
        name = self.names.tensor("const")
        tensor = numpy_helper.from_array(np.asarray(array, dtype), name)
        if self._nodes_only or self.flip(0.3):
            made = helper.make_node(
                "Constant", [], [name], self.node_name("Constant"), value=tensor
            )
            self.nodes.append(made)
        else:
            self.constants.append(tensor)
        return name

    def floats(self, array: Any) -> str:
        return self.constant(array, np.float32)

    def weight(
        self, *shape: int, fan: int | None = None, dead: int | None = None
    ) -> str:
        """Store random weights, in one of many forms, or take some that are there.

        ``fan`` values are added up with them; ``dead`` is the axis of channels that may
        be all zero.
        """
        shared = [name for name, known in self._all_weights() if known == shape]
        if shared and self.flip(0.15):
            return shared[self.between(0, len(shared) - 1)]
        fan = fan or max(1, int(np.prod(shape[:-1])))
        array = self.normal(*shape) / np.float32(np.sqrt(fan))
        array *= np.float32(self.odd["weights"])
        if dead is not None and self.flip(self.odd["dead"]):
            channels = [slice(None)] * len(shape)
            channels[dead] = self.between(0, max(0, shape[dead] - 1))
            array[tuple(channels)] = self.draw(0, 0, 1e-40)
        name = self._store(array)
        self.weights.append((name, shape))
        return name

    def _all_weights(self) -> list[tuple[str, Shape]]:
        return [*(self.parent._all_weights() if self.parent else []), *self.weights]

    def _store(self, array: Array) -> str:
        form = self.draw(
            *["initializer"] * 6, "node", "identity", "transpose", "scaled"
        )
        if form == "identity":
            return self.add("Identity", [self.floats(array)], array.shape).name
        if form == "transpose" and array.ndim > 1:
            order = [int(axis) for axis in self.rng.permutation(array.ndim)]
            stored = np.ascontiguousarray(array.transpose(np.argsort(order)))
            source = self.floats(stored)
            return self.add("Transpose", [source], array.shape, perm=order).name
        if form == "scaled":
            factors = [self.floats(array * np.float32(2)), self.floats(np.float32(0.5))]
            return self.add("Mul", factors, array.shape).name
        name = self.names.tensor("weight")
        tensor = numpy_helper.from_array(array, name)
        if form == "node" or self._nodes_only:
            node = helper.make_node("Constant", [], [name], self.node_name("Constant"))
            node.attribute.append(helper.make_attribute("value", tensor))
            self.nodes.append(node)
            return name
        self.constants.append(tensor)
        if self.parent is None and self.flip(self.odd["inputs"]):
            self.inputs.append(name)
        return name

    def graph(
        self, name: str, inputs: Sequence[Any], outputs: Sequence[Any]
    ) -> onnx.GraphProto:
        return helper.make_graph(self.nodes, name, inputs, outputs, self.constants)
