"""Relu and Clip in operators that onnxruntime merges with nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from quantcal.onnx._graph.graph import operator_of

if TYPE_CHECKING:
    import onnx


def in_other_form(
    node: onnx.NodeProto, name: Callable[[str], str]
) -> Iterator[onnx.NodeProto]:
    """Yield the nodes that compute a Relu or Clip; the last is the node itself, changed.

    A Relu becomes a ThresholdedRelu, which takes one pass on all threads, a Clip Max and
    Min. Finite values stay the same.

    Parameters
    ----------
    node : NodeProto
    name : callable
        Returns a name like the given one that is free.
    """
    import onnx

    if operator_of(node) == "Relu":
        node.op_type = "ThresholdedRelu"
        node.attribute.append(onnx.helper.make_attribute("alpha", 0.0))
    else:
        yield from _max_before_min(node, name)
    yield node


def _max_before_min(
    node: onnx.NodeProto, name: Callable[[str], str]
) -> Iterator[onnx.NodeProto]:
    """Change a Clip to a Max or Min; yield the Max before it where it has both bounds."""
    import onnx

    value = node.input[0]
    low, high = [*node.input[1:], "", ""][:2]
    if low and high:
        above = name(f"{node.output[0]}_above")
        title = name(f"{node.name}_Max")
        yield onnx.helper.make_node("Max", [value, low], [above], title)
        value, low = above, ""
    # Without bounds it is the Max of one value.
    node.op_type = "Min" if high else "Max"
    del node.input[:]
    node.input.extend(read for read in (value, low, high) if read)
