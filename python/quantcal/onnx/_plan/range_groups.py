"""Groups of tensors that share a range because one contains the values of the others.

Reshape, Transpose, Slice and MaxPool move or select values and make no new ones. The output
can have the range of the input, and rounding it again with the same scale changes nothing.
There are three relations:

* The output of such a node takes the range of the quantized tensor it comes from, and is not
  observed. The same holds for nodes that change nothing.
* The output of a Concat contains the values of all inputs. If all inputs are quantized, they
  take the range of the output.
* A tensor that only a ReLU or a Clip with minimum 0 reads takes the range of its output.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING

from quantcal.onnx._graph.graph import all_nodes, operator_of

if TYPE_CHECKING:
    import onnx

_MOVING = frozenset(
    {
        *("Reshape", "Transpose", "Squeeze", "Unsqueeze", "Flatten", "Identity"),
        *("Split", "Slice", "Gather", "MaxPool", "Expand", "DepthToSpace"),
        *("SpaceToDepth",),
    }
)


class RangeGroups:
    """The groups of tensors that share a range, and which of them must be observed.

    Parameters
    ----------
    graph : GraphProto
        The main graph. Names are unique in the whole model.
    sites : iterable of str
        The tensors that are quantized, in the order of the graph.
    constants : set of str
    zero_clips : mapping of str to str
        Tensor → output of the ReLU or Clip with minimum 0 that is its only reader.
    removed : mapping of str to str
        Output → input of nodes that change nothing.
    """

    def __init__(
        self,
        graph: onnx.GraphProto,
        sites: Iterable[str],
        constants: set[str],
        zero_clips: Mapping[str, str],
        removed: Mapping[str, str],
    ) -> None:
        self._removed = removed
        self._sites = dict.fromkeys(sites)
        self._maker = {n: node for node in all_nodes(graph) for n in node.output if n}
        self._leader: dict[str, str] = {}
        self._covered: set[str] = set()
        for name in self._sites:
            source = self._moved_from(name, lambda _: True)
            if source is not None:
                self._join(name, source)
        for name in self._sites:
            self._concat(name, constants)
        for name, let_through in zero_clips.items():
            if name in self._sites:
                self._join(name, let_through)

    def sources(self) -> dict[str, tuple[str, ...]]:
        """Return, for each quantized tensor, those from whose values its range is computed."""
        groups: dict[str, list[str]] = {}
        for name in {**self._sites, **self._leader}:
            members = groups.setdefault(self._lead(name), [])
            if name not in self._covered:
                members.append(name)
        return {name: tuple(groups[self._lead(name)]) for name in self._sites}

    def _moved_from(
        self, name: str, allowed: Callable[[onnx.NodeProto], bool]
    ) -> str | None:
        """Return the quantized tensor upstream that contains all values of this one."""
        while source := self._moved_directly_from(name, allowed):
            if source in self._sites:
                return source
            name = source
        return None

    def _moved_directly_from(
        self, name: str, allowed: Callable[[onnx.NodeProto], bool]
    ) -> str:
        if name in self._removed:
            return self._removed[name]
        node = self._maker.get(name)
        if node is None or operator_of(node) not in _MOVING or not allowed(node):
            return ""
        return str(node.input[0])

    def _concat(self, name: str, constants: set[str]) -> None:
        """Join the inputs of a Concat with its output if all are quantized."""
        node = self._maker.get(name)
        if node is None or operator_of(node) != "Concat":
            return
        parts = [n for n in node.input if n not in constants]
        roots = [
            part if part in self._sites else self._moved_from(part, _keeps_all)
            for part in parts
        ]
        if all(roots):
            for root in roots:
                if root is not None:
                    self._join(root, name)

    def _join(self, covered: str, by: str) -> None:
        """Put two tensors into one group; the second contains the values of the first."""
        first, second = self._lead(covered), self._lead(by)
        if covered == by or covered in self._covered or first == second:
            return
        self._covered.add(covered)
        self._leader[first] = second
        self._leader.setdefault(second, second)

    def _lead(self, name: str) -> str:
        while self._leader.get(name, name) != name:
            name = self._leader[name]
        return name


def _keeps_all(node: onnx.NodeProto) -> bool:
    """Whether a moving node's output contains all values of its input."""
    return operator_of(node) not in {"Split", "Slice", "Gather", "MaxPool"}
