"""Rewriting old operators as nodes of opset 13 or later, one function per operator.

:mod:`quantcal.onnx._model.converter_workarounds` finds the nodes. The rewritten nodes
compute what onnxruntime computes for the old ones, and a test compares both.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from quantcal.onnx._graph.graph import unique_name

if TYPE_CHECKING:
    import onnx

    Nodes: TypeAlias = list[onnx.NodeProto]

Types: TypeAlias = dict[str, tuple[int, "list[int | None] | None"]]
"""Tensor → element type and shape, where known."""

_FLOAT, _INT64, _BOOL = 1, 7, 9  # numbers of onnx.TensorProto
_END = 2**31 - 1  # an end of Slice beyond every axis


class OldNode:
    """A node to rewrite, its context, and the new nodes so far.

    Parameters
    ----------
    node : NodeProto
    version : int
        The opset of the node.
    types : dict
        Types and shapes of the tensors before the conversion.
    constants : mapping of str to TensorProto
        The constants that are visible to the node.
    taken : set of str
        All names in use. New ones are added.
    """

    def __init__(
        self,
        node: onnx.NodeProto,
        version: int,
        types: Types,
        constants: Mapping[str, onnx.TensorProto],
        taken: set[str],
    ) -> None:
        import onnx

        self.node = node
        self.version = version
        self.attributes = {
            a.name: onnx.helper.get_attribute_value(a) for a in node.attribute
        }
        self.kind, self.shape = types.get(node.input[0], (_FLOAT, None))
        self.made: Nodes = []
        self._constants = constants
        self._taken = taken

    def value(self, name: str) -> np.ndarray[Any, Any] | None:
        """Return the value of a constant; None for computed tensors and external data."""
        import onnx

        tensor = self._constants.get(name)
        if tensor is None or tensor.data_location == tensor.EXTERNAL:
            return None
        return np.asarray(onnx.numpy_helper.to_array(tensor))

    def constant(self, values: Any, kind: int | None = None) -> str:
        """Add a constant, by default of the type of the input, and return its name."""
        import onnx

        dtype = onnx.helper.tensor_dtype_to_np_dtype(kind or self.kind)
        tensor = onnx.numpy_helper.from_array(np.asarray(values).astype(dtype))
        return self.add("Constant", [], value=tensor)

    def add(self, op_type: str, inputs: list[str], **attributes: Any) -> str:
        """Add a node, and return the name of its output."""
        import onnx

        base = f"{self.node.output[0] or self.node.name}_{op_type.lower()}"
        name = unique_name(base, self._taken)
        self.made.append(onnx.helper.make_node(op_type, inputs, [name], **attributes))
        return name

    def end(self, op_type: str, inputs: list[str], **attributes: Any) -> Nodes:
        """Add the last node, with the old name and output, and return all new nodes."""
        import onnx

        output = [self.node.output[0]]
        name = self.node.name
        made = onnx.helper.make_node(op_type, inputs, output, name, **attributes)
        return [*self.made, made]


def resize(old: OldNode) -> Nodes:
    """Upsample 7 and 9 and Resize 10 become Resize with asymmetric coordinates."""
    # The old "nearest" rounds down along axes that grow and up along axes that shrink.
    # The new Resize has one rounding for all axes. So scales of both kinds, and computed
    # ones, need two nodes.
    mode = old.attributes.get("mode", b"nearest").decode()
    common = {"mode": mode, "coordinate_transformation_mode": "asymmetric"}
    x = old.node.input[0]
    if "scales" in old.attributes:
        values: Any = np.asarray(old.attributes["scales"], np.float32)
        scales = old.constant(values, _FLOAT)
    else:
        scales = old.node.input[1]
        values = old.value(scales)
    if mode != "nearest":
        return old.end("Resize", [x, "", scales], **common)
    if values is not None and (values >= 1).all():
        return old.end("Resize", [x, "", scales], nearest_mode="floor", **common)
    if values is not None and (values <= 1).all():
        return old.end("Resize", [x, "", scales], nearest_mode="ceil", **common)
    one = old.constant([1.0], _FLOAT)
    growing, shrinking = (old.add(op, [scales, one]) for op in ("Max", "Min"))
    # onnxruntime's Resize copies its input when no size changes, even where the scale
    # 1.1 would move elements by rounding down. The old operator does not copy when another
    # axis shrinks. So the first node also doubles a new axis, which prevents the copy.
    shrinks = old.add("Less", [old.add("ReduceMin", [scales]), one])
    more = old.add("Where", [shrinks, old.constant([2.0], _FLOAT), one])
    wide = old.add("Unsqueeze", [x, old.constant([0], _INT64)])
    all_growing = old.add("Concat", [more, growing], axis=0)
    twice = old.add("Resize", [wide, "", all_growing], nearest_mode="floor", **common)
    grown = old.add("Gather", [twice, old.constant(0, _INT64)])
    return old.end("Resize", [grown, "", shrinking], nearest_mode="ceil", **common)


def normalize_over_trailing_axes(old: OldNode) -> Nodes:
    """Hardmax and Softmax below 13 treat all axes from ``axis`` on as one."""
    x = old.node.input[0]
    shape = old.add("Shape", [x])
    flat = old.add("Flatten", [x], axis=old.attributes.get("axis", 1))
    made = old.add(old.node.op_type, [flat], axis=-1)
    return old.end("Reshape", [made, shape])


def dropout(old: OldNode) -> Nodes:
    """Dropout below 12 drops nothing in inference, and its mask is 0 (false) everywhere."""
    import onnx

    x, mask = old.node.input[0], old.node.output[1]
    kind = old.kind if old.version < 10 else _BOOL
    zero = np.zeros(1, onnx.helper.tensor_dtype_to_np_dtype(kind))
    filled = {"value": onnx.numpy_helper.from_array(zero)}
    shape = old.add("Shape", [x])
    old.made.append(onnx.helper.make_node("ConstantOfShape", [shape], [mask], **filled))
    return old.end("Identity", [x]) if old.node.output[0] else old.made


def clip(old: OldNode) -> Nodes:
    """Clip below 11 has the bounds as attributes."""
    bounds = [
        old.constant(old.attributes[name]) if name in old.attributes else ""
        for name in ("min", "max")
    ]
    return old.end("Clip", [old.node.input[0], *bounds])


def pad(old: OldNode) -> Nodes:
    """Pad below 11 has the sizes and the value as attributes."""
    sizes = old.constant(old.attributes["pads"], _INT64)
    value = old.constant(old.attributes.get("value", 0.0))
    mode = old.attributes.get("mode", b"constant").decode()
    return old.end("Pad", [old.node.input[0], sizes, value], mode=mode)


def batch_norm(old: OldNode) -> Nodes:
    """BatchNormalization below 9 with ``spatial=0`` has parameters per element."""
    x, gain, shift, mean, variance = old.node.input
    epsilon = old.constant(old.attributes.get("epsilon", 1e-5))
    spread = old.add("Sqrt", [old.add("Add", [variance, epsilon])])
    unit = old.add("Div", [old.add("Sub", [x, mean]), spread])
    return old.end("Add", [old.add("Mul", [unit, gain]), shift])


def group_norm(old: OldNode) -> Nodes:
    """GroupNormalization 18 to 20 has a scale per group, later versions per channel."""
    x = old.node.input[0]
    groups = old.attributes["num_groups"]
    channels = old.shape[1] if old.shape is not None and len(old.shape) > 1 else None
    if channels:
        sizes = old.constant([1, channels // groups], _INT64)
    else:
        count = old.add("Shape", [x], start=1, end=2)
        each = old.add("Div", [count, old.constant([groups], _INT64)])
        sizes = old.add("Concat", [old.constant([1], _INT64), each], axis=0)
    column, flat = old.constant([-1, 1], _INT64), old.constant([-1], _INT64)
    inputs = [x]
    for name in old.node.input[1:3]:
        wide = old.add("Expand", [old.add("Reshape", [name, column]), sizes])
        inputs.append(old.add("Reshape", [wide, flat]))
    return old.end("GroupNormalization", inputs, **old.attributes)


def affine(old: OldNode) -> Nodes:
    """Affine: alpha · x + beta."""
    scaled = old.add("Mul", [old.node.input[0], _factor(old, "alpha")])
    return old.end("Add", [scaled, old.constant(old.attributes.get("beta", 0.0))])


def image_scaler(old: OldNode) -> Nodes:
    """ImageScaler: scale · x + a bias per channel."""
    scaled = old.add("Mul", [old.node.input[0], _factor(old, "scale")])
    bias = np.reshape(old.attributes["bias"], (-1, 1, 1))
    return old.end("Add", [scaled, old.constant(bias)])


def scaled_tanh(old: OldNode) -> Nodes:
    """ScaledTanh: alpha · tanh(beta · x)."""
    inner = old.add("Mul", [old.node.input[0], _factor(old, "beta")])
    return old.end("Mul", [old.add("Tanh", [inner]), _factor(old, "alpha")])


def parametric_softplus(old: OldNode) -> Nodes:
    """ParametricSoftplus: alpha · log(1 + exp(beta · x))."""
    inner = old.add("Mul", [old.node.input[0], _factor(old, "beta")])
    return old.end("Mul", [old.add("Softplus", [inner]), _factor(old, "alpha")])


def _factor(old: OldNode, name: str) -> str:
    return old.constant(old.attributes.get(name, 1.0))


def dynamic_slice(old: OldNode) -> Nodes:
    """DynamicSlice is an old name of Slice."""
    return old.end("Slice", list(old.node.input))


def crop(old: OldNode) -> Nodes:
    """Crop: removes the borders (left, top, right, bottom), or keeps a size from left, top."""
    left, top, right, bottom = old.attributes["border"]
    if "scale" in old.attributes:
        height, width = old.attributes["scale"]
        ends = [top + height, left + width]
    else:
        ends = [-bottom or _END, -right or _END]
    starts, stops, axes = (
        old.constant(values, _INT64) for values in ([top, left], ends, [2, 3])
    )
    return old.end("Slice", [old.node.input[0], starts, stops, axes])


REWRITES: dict[str, Callable[[OldNode], Nodes]] = {
    "Affine": affine,
    "BatchNormalization": batch_norm,
    "Clip": clip,
    "Crop": crop,
    "Dropout": dropout,
    "DynamicSlice": dynamic_slice,
    "GroupNormalization": group_norm,
    **dict.fromkeys(("Hardmax", "Softmax", "LogSoftmax"), normalize_over_trailing_axes),
    "ImageScaler": image_scaler,
    "Pad": pad,
    "ParametricSoftplus": parametric_softplus,
    "Resize": resize,
    "ScaledTanh": scaled_tanh,
    "Upsample": resize,
}
"""Operator → the function that rewrites it."""
