"""Select nodes by operator type and by patterns of names."""

from __future__ import annotations

from typing import TYPE_CHECKING

from quantcal._core import CalibrationError
from quantcal.onnx._graph.graph import all_nodes, operator_of
from quantcal.onnx._options.names import matches, near
from quantcal.onnx._options.resolved import Options
from quantcal.onnx._options.values import OP_TYPES

if TYPE_CHECKING:
    import onnx


def check_names(proto: onnx.ModelProto, label: str, options: Options) -> None:
    """Refuse operator types and patterns that match nothing, and list similar names."""
    present = {operator_of(node) for node in all_nodes(proto.graph)}
    if options.op_types != OP_TYPES:
        for op_type in options.op_types:
            if op_type not in present:
                raise CalibrationError(
                    f"{label} has no {op_type!r} node. {near(op_type, present)}"
                )
    names = [name for node in all_nodes(proto.graph) for name in _names_of(node)]
    for option in ("include", "exclude"):
        for pattern in getattr(options, option):
            if not any(matches(name, [pattern]) for name in names):
                raise CalibrationError(
                    f"{option}={pattern!r} matches no node of {label} and no output "
                    f"of a node. {near(pattern, names)}"
                )


def _names_of(node: onnx.NodeProto) -> list[str]:
    """Return the names by which a node can be selected: its name and its outputs."""
    return [name for name in (node.name, *node.output) if name]


def why_excluded(node: onnx.NodeProto, options: Options) -> str | None:
    """Return why patterns leave a node in float; None when they do not."""
    names = _names_of(node)
    if any(matches(name, options.exclude) for name in names):
        return "excluded"
    if options.include and not any(matches(name, options.include) for name in names):
        return "not included"
    return None
