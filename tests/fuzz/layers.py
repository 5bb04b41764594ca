"""Steps with weights: convolutions, matrix products, norms, recurrence, embeddings.

A step is a function that adds nodes behind a tensor and returns the last one, or None
where the tensor does not suit it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from fuzz.net import Net, Value

Step = Callable[[Net, Value], "Value | None"]


@dataclass(frozen=True)
class Listed:
    """A step, the opsets that have its operators, and how often it is drawn."""

    step: Step
    since: int
    often: int


STEPS: list[Listed] = []


def listed(since: int = 7, often: int = 2) -> Callable[[Step], Step]:
    """Enter a step in the list."""

    def enter(step: Step) -> Step:
        STEPS.append(Listed(step, since, often))
        return step

    return enter


@listed(often=12)
def conv(net: Net, x: Value) -> Value | None:
    if x.rank not in (3, 4):
        return None
    channels, sizes = x.shape[1], x.shape[2:]
    divisors = [n for n in range(1, channels + 1) if channels % n == 0]
    groups = net.draw(1, 1, net.draw(*divisors), channels)
    made = groups * net.between(1, 3)
    window = [net.between(1, min(3, size)) if size else 1 for size in sizes]
    strides = [net.draw(1, 1, 2) for _ in sizes]
    options: dict[str, Any] = {"strides": strides, "group": groups}
    padding = net.draw("none", "pads", "SAME_UPPER", "VALID")
    pads = [net.between(0, 1) for _ in range(2 * len(sizes))]
    if padding != "pads":
        pads = [0] * len(pads)
    if padding in ("none", "pads"):
        options["pads"] = pads
        dilations = [net.draw(1, 1, 2) for _ in sizes]
        if all(
            (w - 1) * d < size
            for w, d, size in zip(window, dilations, sizes, strict=False)
        ):
            options["dilations"] = dilations
    else:
        options["auto_pad"] = padding
    spread = options.get("dilations", [1] * len(sizes))
    out = []
    for axis, size in enumerate(sizes):
        room = size + pads[axis] + pads[axis + len(sizes)]
        if padding == "SAME_UPPER":
            out.append(-(-size // strides[axis]))
        else:
            out.append(
                (room - (window[axis] - 1) * spread[axis] - 1) // strides[axis] + 1
            )
    if net.flip(0.7):
        options["kernel_shape"] = window
    fan = channels // groups * int(np.prod(window))
    inputs = [x, net.weight(made, channels // groups, *window, fan=fan, dead=0)]
    if net.flip(0.6):
        inputs.append(net.weight(made, fan=4))
    return net.add("Conv", inputs, (x.shape[0], made, *out), **options)


@listed(often=3)
def conv_norm(net: Net, x: Value) -> Value | None:
    h = conv(net, x)
    return None if h is None else batch_norm(net, h)


@listed(often=2)
def conv_transpose(net: Net, x: Value) -> Value | None:
    if x.rank not in (3, 4) or max(x.shape[2:]) > 8:
        return None
    channels, sizes = x.shape[1], x.shape[2:]
    groups = net.draw(1, 1, channels)
    each, stride = net.between(1, 3), net.draw(1, 2)
    fan = channels // groups * 2
    inputs = [x, net.weight(channels, each, *[2] * len(sizes), fan=fan, dead=0)]
    if net.flip(0.6):
        inputs.append(net.weight(groups * each, fan=4))
    out = [(size - 1) * stride + 2 for size in sizes]
    shape = (x.shape[0], groups * each, *out)
    strides = [stride] * len(sizes)
    return net.add("ConvTranspose", inputs, shape, strides=strides, group=groups)


@listed(often=14)
def matmul(net: Net, x: Value) -> Value | None:
    if x.rank < 2:
        return None
    rows = x.shape[-1]
    columns = net.between(1, 16)
    form = net.draw(*["matrix"] * 6, "stack", "vector", "first")
    if form == "vector":
        return net.add("MatMul", [x, net.weight(rows, fan=rows)], x.shape[:-1])
    if form == "first":
        fan = x.shape[-2]
        w = net.weight(columns, fan, fan=fan)
        return net.add("MatMul", [w, x], (*x.shape[:-2], columns, rows))
    stack = x.shape[:-2] if form == "stack" else ()
    w = net.weight(*stack, rows, columns, fan=rows, dead=len(stack) + 1)
    h = net.add("MatMul", [x, w], (*x.shape[:-1], columns))
    if net.flip(0.5):
        bias = net.weight(*net.draw((columns,), (1,), (1,) * x.rank, ()), fan=4)
        pair = [h, bias] if net.flip(0.7) else [bias, h]
        h = net.add("Add", pair, h.shape)
    return h


@listed(often=3)
def product(net: Net, x: Value) -> Value | None:
    """A product of two activations, as in attention."""
    if x.rank < 2:
        return None
    order = [*range(x.rank - 2), x.rank - 1, x.rank - 2]
    other = net.pick(lambda value: value.shape == x.shape) or x
    turned = (*x.shape[:-2], x.shape[-1], x.shape[-2])
    t = net.add("Transpose", [other], turned, perm=order)
    h = net.add("MatMul", [x, t], (*x.shape[:-1], x.shape[-2]))
    h = net.add("Mul", [h, net.floats(1 / np.sqrt(max(1, x.shape[-1])))], h.shape)
    return net.add("Softmax", [h], h.shape, axis=x.rank - 1) if net.flip(0.5) else h


@listed(often=10)
def gemm(net: Net, x: Value) -> Value | None:
    if x.rank != 2:
        return None
    transposed = net.draw(0, 0, 0, 1)
    count, rows = x.shape[::-1] if transposed else x.shape
    columns, second = net.between(1, 16), net.draw(0, 1)
    shape = (columns, rows) if second else (rows, columns)
    w = net.weight(*shape, fan=rows, dead=1 - second)
    form = net.draw("none", "row", "row", "rows", "matrix", "scalar", "one", "computed")
    inputs: list[str | Value] = [x, w]
    found = net.pick(lambda v: v.shape == (count, columns))
    if form == "computed" and found is not None:
        inputs.append(found)
    elif form != "none" or net.opset < 11:  # an input that opset 11 made optional
        sizes = {"rows": (1, columns), "matrix": (count, columns), "scalar": ()}
        inputs.append(
            net.weight(*sizes.get(form, (1,) if form == "one" else (columns,)))
        )
    options = {"transA": transposed, "transB": second}
    if net.flip(0.3):
        options |= {"alpha": net.draw(0.5, 2.0, -1.0), "beta": net.draw(0.5, 1.0, 0.0)}
    return net.add("Gemm", inputs, (count, columns), **options)


@listed(often=2)
def batch_norm(net: Net, x: Value) -> Value | None:
    if x.rank < 3:
        return None
    c = x.shape[1]
    gain = np.abs(net.normal(c)) + np.float32(0.5)
    if net.flip(net.odd["dead"]):
        gain[0] = 0
    spread = np.abs(net.normal(c)) + np.float32(0.5)
    more = [gain, net.normal(c), net.normal(c), spread]
    return net.add("BatchNormalization", [x, *map(net.floats, more)], x.shape)


@listed()
def instance_norm(net: Net, x: Value) -> Value | None:
    if x.rank < 3 or min(x.shape[2:]) < 2:
        return None
    c = x.shape[1]
    more = [net.floats(np.abs(net.normal(c)) + 0.5), net.floats(net.normal(c))]
    return net.add("InstanceNormalization", [x, *more], x.shape)


@listed(since=17)
def layer_norm(net: Net, x: Value) -> Value | None:
    if x.shape[-1] < 2:
        return None
    inputs = [x, net.floats(np.abs(net.normal(x.shape[-1])) + 0.5)]
    if net.flip(0.7):
        inputs.append(net.floats(net.normal(x.shape[-1])))
    return net.add("LayerNormalization", inputs, x.shape, axis=-1)


@listed(since=18)
def group_norm(net: Net, x: Value) -> Value | None:
    if x.rank < 3 or x.shape[1] % 2 or min(x.shape[2:]) < 2:
        return None
    size = x.shape[1] if net.opset >= 21 else 2
    more = [net.floats(np.abs(net.normal(size)) + 0.5), net.floats(net.normal(size))]
    return net.add("GroupNormalization", [x, *more], x.shape, num_groups=2)


@listed(often=2)
def prelu(net: Net, x: Value) -> Value | None:
    shape = net.draw((1,), (x.shape[1], *[1] * (x.rank - 2)) if x.rank > 1 else (1,))
    return net.add("PRelu", [x, net.weight(*shape, fan=4)], x.shape)


@listed(often=2)
def recurrent(net: Net, x: Value) -> Value | None:
    """An LSTM or GRU over the first axis; its directions are merged again."""
    if x.rank != 3 or 0 in x.shape:
        return None
    steps, batch, size = x.shape
    kind, gates = net.draw(("LSTM", 4), ("GRU", 3))
    hidden, both = net.between(2, 6), net.draw(1, 2)
    inputs = [
        x,
        net.weight(both, gates * hidden, size, fan=size),
        net.weight(both, gates * hidden, hidden, fan=hidden),
    ]
    if net.flip(0.6):
        inputs.append(net.weight(both, 2 * gates * hidden, fan=4))
    direction = "bidirectional" if both == 2 else "forward"
    shape = (steps, both, batch, hidden)
    h = net.add(kind, inputs, shape, hidden_size=hidden, direction=direction)
    h = net.add("Transpose", [h], (steps, batch, both, hidden), perm=[0, 2, 1, 3])
    target = net.constant([0, 0, both * hidden])
    return net.add("Reshape", [h, target], (steps, batch, both * hidden))


@listed(since=12)
def einsum(net: Net, x: Value) -> Value | None:
    if x.rank < 2:
        return None
    letters = "abcdef"[: x.rank]
    columns = net.between(1, 8)
    equation = f"{letters},{letters[-1]}z->{letters[:-1]}z"
    w = net.weight(x.shape[-1], columns, fan=x.shape[-1])
    shape = (*x.shape[:-1], columns)
    return net.add("Einsum", [x, w], shape, equation=equation)


def grow(net: Net, x: Value) -> Value:
    """Add one random step behind a tensor, of those that its opset and shape allow."""
    fit = [entry for entry in STEPS if entry.since <= net.opset]
    often = np.array([entry.often for entry in fit], float)
    for _ in range(50):
        entry = fit[int(net.rng.choice(len(fit), p=often / often.sum()))]
        before = len(net.nodes), len(net.constants), len(net.weights)
        made = entry.step(net, x)
        if made is not None and 0 < int(np.prod(made.shape)) <= 4096:
            net.values.append(made)
            return made
        for kept, listed_ in zip(
            before, (net.nodes, net.constants, net.weights), strict=False
        ):
            del listed_[kept:]
    return x
