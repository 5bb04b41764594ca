"""Steps that act on each value: activations, sums, masks, and what infinities pass through."""

from __future__ import annotations

import numpy as np
from fuzz.layers import listed
from fuzz.net import Net, Value
from onnx import TensorProto


@listed(often=8)
def activation(net: Net, x: Value) -> Value | None:
    names = ["Relu"] * 5 + ["Sigmoid", "Tanh", "LeakyRelu", "Elu", "HardSigmoid"]
    names += ["Erf"] * (net.opset >= 9) + ["HardSwish"] * (net.opset >= 14)
    names += ["Gelu"] * (net.opset >= 20)
    return net.add(net.draw(*names), [x], x.shape)


@listed(often=2)
def softmax(net: Net, x: Value) -> Value | None:
    axis = net.draw(x.rank - 1, x.rank - 1, min(1, x.rank - 1))
    return net.add("Softmax", [x], x.shape, axis=axis)


@listed(often=2)
def clip(net: Net, x: Value) -> Value | None:
    low, high = net.draw((0.0, 6.0), (-1.0, 1.0), (0.0, 1.0))
    if net.opset < 11:
        return net.add("Clip", [x], x.shape, min=low, max=high)
    return net.add("Clip", [x, net.floats(low), net.floats(high)], x.shape)


@listed(often=6)
def residual(net: Net, x: Value) -> Value | None:
    other = net.pick(lambda value: value.shape == x.shape and value.name != x.name)
    other = other or net.add("Tanh", [x], x.shape)
    return net.add(net.draw("Add", "Add", "Add", "Sub", "Mul"), [x, other], x.shape)


@listed(often=4)
def with_constant(net: Net, x: Value) -> Value | None:
    op = net.draw("Add", "Sub", "Mul", "Div")
    channels = (x.shape[1], *[1] * (x.rank - 2)) if x.rank > 1 else x.shape
    shape = net.draw((), (1,), x.shape[-1:], channels)
    array = net.normal(*shape)
    if op in ("Mul", "Div"):
        array = np.abs(array) + np.float32(0.5)
    pair = [x, net.floats(array)]
    if op != "Div" and net.flip(0.3):
        pair.reverse()
    out = np.broadcast_shapes(x.shape, array.shape)
    return net.add(op, pair, out) if out == x.shape else None


@listed(since=9)
def gelu_by_erf(net: Net, x: Value) -> Value | None:
    h = net.add("Div", [x, net.floats(np.sqrt(2))], x.shape)
    h = net.add("Erf", [h], x.shape)
    h = net.add("Add", [h, net.floats(1)], x.shape)
    h = net.add("Mul", [x, h], x.shape)
    return net.add("Mul", [h, net.floats(0.5)], x.shape)


@listed(often=1)
def passed_on(net: Net, x: Value) -> Value | None:
    form = net.draw("Identity", "Dropout", "Cast")
    if form == "Cast":
        kind = net.draw(TensorProto.DOUBLE, TensorProto.FLOAT)
        h = net.add("Cast", [x], x.shape, to=kind)
        return net.add("Cast", [h], x.shape, to=TensorProto.FLOAT)
    return net.add(form, [x], x.shape)


@listed(since=9, often=2)
def where(net: Net, x: Value) -> Value | None:
    """A fixed mask chooses between a tensor and a constant, which may be NaN unread."""
    mask = net.rng.random(x.shape[-1:]) < 0.7
    other = net.draw(0.0, -1.0, np.nan if mask.all() else 0.5)
    chosen = net.constant(mask, np.bool_)
    return net.add("Where", [chosen, x, net.floats(np.float32(other))], x.shape)


@listed(often=2)
def masked_softmax(net: Net, x: Value) -> Value | None:
    """A mask of −inf, or of the minimum float, is added before a Softmax."""
    if x.shape[-1] < 2:
        return None
    mask = np.zeros(x.shape[-1], np.float32)
    mask[net.between(1, x.shape[-1] - 1) :] = net.draw(-np.inf, -3.4e38, -1e4)
    w = net.weight(x.shape[-1], x.shape[-1], fan=x.shape[-1])
    h = net.add("MatMul", [x, w], x.shape) if x.rank > 1 and net.flip(0.6) else x
    h = net.add("Add", [h, net.floats(mask)], x.shape)
    return net.add("Softmax", [h], x.shape, axis=x.rank - 1)


@listed(often=1)
def infinite_bias(net: Net, x: Value) -> Value | None:
    """A bias of −inf switches outputs off, behind a Sigmoid."""
    if x.rank != 2:
        return None
    bias = net.normal(4)
    bias[0] = net.draw(-np.inf, np.inf)
    w = net.weight(x.shape[1], 4, fan=x.shape[1])
    h = net.add("Gemm", [x, w, net.floats(bias)], (x.shape[0], 4))
    return net.add("Sigmoid", [h], h.shape)


@listed(since=9, often=1)
def never_finite(net: Net, x: Value) -> Value | None:
    """A product of infinities, of which only whether they are NaN is read."""
    if x.rank < 2:
        return None
    h = net.add("Add", [x, net.floats(np.inf)], x.shape)
    columns = 3
    w = net.weight(x.shape[-1], columns, fan=x.shape[-1])
    shape = (*x.shape[:-1], columns)
    h = net.add("MatMul", [h, w], shape)
    h = net.add("IsNaN", [h], shape)
    return net.add("Cast", [h], shape, to=TensorProto.FLOAT)


@listed(often=1)
def contrib(net: Net, x: Value) -> Value | None:
    """Operators of onnxruntime's own domain."""
    form = net.draw("Gelu", "QuickGelu", "FusedMatMul")
    if form != "FusedMatMul":
        return net.add(form, [x], x.shape, domain="com.microsoft")
    if x.rank < 2:
        return None
    columns = net.between(1, 8)
    w = net.weight(columns, x.shape[-1], fan=x.shape[-1])
    shape = (*x.shape[:-1], columns)
    options = {"transB": 1, "alpha": 0.5, "domain": "com.microsoft"}
    return net.add("FusedMatMul", [x, w], shape, **options)
