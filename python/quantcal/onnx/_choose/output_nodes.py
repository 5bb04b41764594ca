"""The last quantized nodes: their rounded results reach the outputs and no other kernel.

They compute logits, masks or other last outputs. The rounding goes straight into the
outputs, and nothing averages it out. In float such a node costs little if it is small.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from quantcal.onnx._graph.graph import all_nodes, captured_by

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    import onnx

    from quantcal.onnx._plan.preparation import Prepared


def last_nodes(prepared: Prepared) -> tuple[str, ...]:
    """Return the quantized nodes from whose rounded result no other is computed."""
    plan = prepared.plan
    made: dict[str, str] = {}
    readers: dict[str, list[onnx.NodeProto]] = {}
    for node in all_nodes(prepared.proto.graph):
        made.update(dict.fromkeys(node.output, node.name))
        for name in (*node.input, *captured_by(node)):
            readers.setdefault(name, []).append(node)
    found: list[str] = []
    for name, rounded_for in plan.sites.items():
        if rounded_for is None and not _is_read_on(name, readers, plan.nodes):
            # A tensor that is rounded behind a ReLU is made by no quantized node.
            own = made.get(name, "")
            found += [own] if own in plan.nodes else plan.beside[name]
    return tuple(dict.fromkeys(found))


def _is_read_on(
    name: str,
    readers: Mapping[str, Sequence[onnx.NodeProto]],
    quantized: Collection[str],
) -> bool:
    """Whether a quantized node reads the tensor, or anything computed from it."""
    waiting, seen = [name], {name}
    while waiting:
        for node in readers.get(waiting.pop(), ()):
            if node.name in quantized:
                return True
            new = [output for output in node.output if output not in seen]
            seen.update(new)
            waiting += new
    return False
