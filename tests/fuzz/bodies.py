"""Steps with graphs inside them: If, Loop, Scan, and functions that the model brings."""

from __future__ import annotations

import numpy as np
import onnx
from fuzz.elementwise import activation, gelu_by_erf, residual, with_constant
from fuzz.layers import layer_norm, listed
from fuzz.net import Net, Value
from onnx import TensorProto, helper, numpy_helper

_FLOAT = TensorProto.FLOAT


def _value(name: str, kind: int = _FLOAT) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, None)


def _depth(net: Net) -> int:
    return 0 if net.parent is None else 1 + _depth(net.parent)


def _square(net: Net, x: Value) -> Value:
    """A product or convolution that keeps the shape."""
    size = x.shape[-1]
    if x.rank == 4 and net.flip(0.7):
        c = x.shape[1]
        w = net.weight(c, c, 1, 1, fan=c, dead=0)
        return net.add("Conv", [x, w], x.shape)
    w = net.weight(size, size, fan=size, dead=1)
    return net.add("MatMul", [x, w], x.shape)


def _body(net: Net, x: Value) -> Value:
    """Grow one to three steps that keep the shape of ``x``."""
    h = x
    for _ in range(net.between(1, 3)):
        bodies = [if_, loop] if _depth(net) < 3 and net.flip(0.15) else []
        others = [activation, residual, with_constant]
        others += [gelu_by_erf] * (net.opset >= 9) + [layer_norm] * (net.opset >= 17)
        step = net.draw(_square, _square, *others, *bodies)
        made = step(net, h)
        if made is not None and made.shape == x.shape:
            h = made
            net.values.append(h)
    return h


def _closed(net: Net, h: Value) -> Value:
    """Return a result that this graph computes itself, as an output must be."""
    made = {name for node in net.nodes for name in node.output}
    return h if h.name in made else net.add("Identity", [h], h.shape)


def _condition(net: Net) -> str:
    """Return a condition: a constant, or one that the samples decide."""
    root = net
    while root.parent is not None:
        root = root.parent
    if net.flip(0.25) or root.values[0].rank == 0:
        return net.constant(net.flip(0.5), np.bool_)
    largest = net.add("ReduceMax", [root.values[0]], (), keepdims=0)
    limit = net.floats(np.float32(net.draw(-100, 2, 3, 100)))
    return net.add("Greater", [largest, limit], ()).name


def _captured(net: Net, x: Value) -> Value:
    """Return what a body begins with: ``x``, or a tensor like it from outside."""
    if net.flip(0.7):
        return x
    return net.pick(lambda value: value.shape == x.shape) or x


@listed(often=3)
def if_(net: Net, x: Value) -> Value | None:
    if x.rank < 2:
        return None
    condition = _condition(net)
    branches = {}
    for key in ("then_branch", "else_branch"):
        inner = net.inside()
        h = _closed(inner, _body(inner, _captured(inner, x)))
        branches[key] = inner.graph(key, [], [_value(h.name)])
    return net.add("If", [condition], x.shape, **branches)


@listed(often=2)
def loop(net: Net, x: Value) -> Value | None:
    if x.rank < 2:
        return None
    inner = net.inside()
    step, go, state = (net.names.tensor(hint) for hint in ("i", "go", "state"))
    begin = Value(state, x.shape)
    inner.values.append(begin)
    h = _closed(inner, _body(inner, begin))
    if net.flip(0.4):
        h = inner.add("Add", [h, _captured(inner, x)], x.shape)
    on = inner.add("Identity", [go], ())
    inputs = [_value(step, TensorProto.INT64), _value(go, TensorProto.BOOL)]
    body = inner.graph(
        "body",
        [*inputs, _value(state)],
        [_value(on.name, TensorProto.BOOL), _value(h.name)],
    )
    # Shapes of scalars must be said.
    for value in (*body.input[:2], body.output[0]):
        value.type.tensor_type.shape.SetInParent()
    count = net.constant(net.between(1, 3))
    return net.add("Loop", [count, net.constant(True, np.bool_), x], x.shape, body=body)


@listed(since=9, often=2)
def scan(net: Net, x: Value) -> Value | None:
    if x.rank < 3 or x.shape[0] == 0:
        return None
    inner = net.inside()
    part = Value(net.names.tensor("part"), x.shape[1:])
    state = Value(net.names.tensor("state"), x.shape[1:])
    inner.values += [state, part]
    h = _body(inner, part)
    h = inner.add("Add", [h, state], part.shape)
    after = inner.add("Tanh", [h], part.shape)
    copy = inner.add("Identity", [after], part.shape)
    names = [value.name for value in (state, part, after, copy)]
    body = inner.graph("scan", [*map(_value, names[:2])], [*map(_value, names[2:])])
    for value in body.output:  # which must have a rank
        for _ in part.shape:
            value.type.tensor_type.shape.dim.add()
    start = net.floats(np.zeros(part.shape))
    made = net.add_many(
        "Scan", [start, x], [part.shape, x.shape], body=body, num_scan_inputs=1
    )
    return made[1]


@listed(often=3)
def function(net: Net, x: Value) -> Value | None:
    """A function of the model; its name may be that of an operator of ONNX."""
    if x.rank < 2 or net.odd["functions"] == 0:
        return None
    size = x.shape[-1]
    name = net.draw("Block", "Transpose", "BatchNormalization", "Conv", "Identity")
    name = f"{name}{len(net.functions)}" if net.flip(0.5) else name
    if any(known.name == name for known in net.functions):
        return None
    w = net.normal(size, size) / np.float32(np.sqrt(size))
    inner = [
        helper.make_node("MatMul", ["x", "w"], ["h"], "product"),
        helper.make_node("Relu", ["h"], ["r"]),
        helper.make_node("Add", ["r", "x"], ["y"], "sum"),
    ]
    inputs = ["x", "w"]
    if net.flip(0.4):  # the weight lies inside
        tensor = numpy_helper.from_array(w, "w")
        inner.insert(0, helper.make_node("Constant", [], ["w"], value=tensor))
        inputs = ["x"]
    imports = [helper.make_opsetid("", net.opset)]
    called = [known for known in net.functions if len(known.input) == 1]
    if called and net.flip(0.5):
        inner.append(helper.make_node(called[0].name, ["y"], ["z"], domain="local"))
        imports.append(helper.make_opsetid("local", 1))
        # Only one that takes tensors of this size can be called.
        kept = [n for n in called[0].node if n.op_type == "Constant"]
        dims = [a.t.dims[0] for n in kept for a in n.attribute if a.name == "value"]
        if dims != [size]:
            inner.pop()
            imports.pop()
    result = inner[-1].output[0]
    made = helper.make_function("local", name, inputs, [result], inner, imports)
    net.functions.append(made)
    h = x
    for _ in range(net.between(1, 2)):
        more = [net.weight(size, size, fan=size)] if len(inputs) == 2 else []
        h = net.add(name, [h, *more], h.shape, domain="local")
    return h
