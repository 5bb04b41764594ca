"""Reading the attributes of a node."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import onnx


def attribute(node: onnx.NodeProto, name: str, default: Any) -> Any:
    """Return the value of an attribute as onnx returns it, or ``default``."""
    from onnx import helper

    found = [a for a in node.attribute if a.name == name]
    return helper.get_attribute_value(found[0]) if found else default
