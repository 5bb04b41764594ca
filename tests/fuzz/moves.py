"""Steps that move or select values, in the form that each opset has for them."""

from __future__ import annotations

from typing import Any

import numpy as np
from fuzz.layers import listed
from fuzz.net import Net, Value


def by_axes(
    net: Net,
    op: str,
    x: Value,
    axes: list[int],
    shape: Any,
    since: int = 13,
    **more: Any,
) -> Value:
    """Add a node whose axes became an input with an opset."""
    if net.opset < since:
        return net.add(op, [x], shape, axes=axes, **more)
    return net.add(op, [x, net.constant(axes)], shape, **more)


@listed(often=3)
def reshape(net: Net, x: Value) -> Value | None:
    if x.rank < 2 or 0 in x.shape:
        return None
    form = net.draw("merge", "split", "same")
    if form == "merge" and x.rank > 2:
        shape = (x.shape[0], x.shape[1] * x.shape[2], *x.shape[3:])
        target = [0, -1, *x.shape[3:]]
    elif form == "split" and x.rank < 4:
        factor = next((n for n in (2, 3, 5, 7) if x.shape[-1] % n == 0), 1)
        shape = (*x.shape[:-1], factor, x.shape[-1] // factor)
        target = [*[0] * (x.rank - 1), factor, x.shape[-1] // factor]
    else:
        shape, target = x.shape, [0] * x.rank
    return net.add("Reshape", [x, net.constant(target)], shape)


@listed(often=3)
def transpose(net: Net, x: Value) -> Value | None:
    order = [0, *(int(axis) + 1 for axis in net.rng.permutation(x.rank - 1))]
    shape = tuple(x.shape[axis] for axis in order)
    return net.add("Transpose", [x], shape, perm=order)


@listed()
def unsqueezed(net: Net, x: Value) -> Value | None:
    if x.rank > 3:
        return None
    axis = net.between(1, x.rank)
    shape = (*x.shape[:axis], 1, *x.shape[axis:])
    h = by_axes(net, "Unsqueeze", x, [axis], shape)
    if net.flip(0.5):
        return h
    h = net.add("Relu", [h], h.shape)
    return by_axes(net, "Squeeze", h, [axis], x.shape)


@listed()
def squeeze(net: Net, x: Value) -> Value | None:
    axes = [axis for axis in range(1, x.rank) if x.shape[axis] == 1]
    if not axes or x.rank < 3:
        return None
    shape = (*x.shape[: axes[0]], *x.shape[axes[0] + 1 :])
    return by_axes(net, "Squeeze", x, axes[:1], shape)


@listed()
def flatten(net: Net, x: Value) -> Value | None:
    axis = net.draw(1, 1, x.rank - 1) if x.rank > 1 else 1
    shape = (int(np.prod(x.shape[:axis])), int(np.prod(x.shape[axis:])))
    return net.add("Flatten", [x], shape, axis=axis)


def sliced(net: Net, x: Value, axis: int, start: int, end: int) -> Value:
    shape = (*x.shape[:axis], end - start, *x.shape[axis + 1 :])
    if net.opset < 10:
        return net.add("Slice", [x], shape, axes=[axis], starts=[start], ends=[end])
    more = [net.constant([number]) for number in (start, end, axis)]
    return net.add("Slice", [x, *more], shape)


@listed()
def slice_(net: Net, x: Value) -> Value | None:
    axis = net.between(0, x.rank - 1)
    if x.shape[axis] < 2 or axis == 0:
        return None
    start = net.between(0, x.shape[axis] // 2)
    return sliced(net, x, axis, start, net.between(start + 1, x.shape[axis]))


@listed(often=1)
def nothing_beside(net: Net, x: Value) -> Value | None:
    """An empty part is multiplied and put back: a tensor without values."""
    if x.rank < 2 or x.rank > 3 or x.shape[-2] == 0:
        return None
    empty = sliced(net, x, x.rank - 2, 0, 0)
    w = net.weight(x.shape[-1], x.shape[-1], fan=x.shape[-1])
    h = net.add("MatMul", [empty, w], empty.shape)
    return net.add("Concat", [h, x], x.shape, axis=x.rank - 2)


@listed()
def split(net: Net, x: Value) -> Value | None:
    axis = x.rank - 1
    size = x.shape[axis]
    if size < 2 or x.rank < 2:
        return None
    sizes = [size // 2, size - size // 2]
    shapes = [(*x.shape[:axis], part) for part in sizes]
    if net.opset < 13:
        parts = net.add_many("Split", [x], shapes, axis=axis, split=sizes)
    else:
        parts = net.add_many("Split", [x, net.constant(sizes)], shapes, axis=axis)
    if net.flip(0.5):
        return parts[1]
    done = [net.add(net.draw("Relu", "Tanh"), [part], part.shape) for part in parts]
    return net.add("Concat", done, x.shape, axis=axis)


@listed(often=3)
def concat(net: Net, x: Value) -> Value | None:
    axis = x.rank - 1 if net.flip(0.5) else min(1, x.rank - 1)

    def beside(value: Value) -> bool:
        return value.rank == x.rank and all(
            a == b
            for k, (a, b) in enumerate(zip(value.shape, x.shape, strict=False))
            if k != axis
        )

    other = net.pick(beside) or x
    shape = list(x.shape)
    shape[axis] += other.shape[axis]
    return (
        None
        if shape[axis] > 40
        else net.add("Concat", [x, other], tuple(shape), axis=axis)
    )


@listed()
def gather(net: Net, x: Value) -> Value | None:
    axis = net.between(0, x.rank - 1)
    size = x.shape[axis]
    if size == 0 or axis == 0:
        return None
    picked = [net.between(0, size - 1) for _ in range(net.between(1, 4))]
    shape = (*x.shape[:axis], len(picked), *x.shape[axis + 1 :])
    return net.add("Gather", [x, net.constant(picked)], shape, axis=axis)


@listed()
def pad(net: Net, x: Value) -> Value | None:
    if max(x.shape) > 12:
        return None
    after = [0] * (x.rank - 1) + [net.between(1, 2)]
    pads = [*[0] * x.rank, *after]
    shape = tuple(a + b for a, b in zip(x.shape, after, strict=False))
    value = net.draw(0.0, 0.0, -1.5)
    if net.opset < 11:
        return net.add("Pad", [x], shape, pads=pads, mode="constant", value=value)
    return net.add("Pad", [x, net.constant(pads), net.floats(value)], shape)


@listed()
def resize(net: Net, x: Value) -> Value | None:
    if x.rank != 4 or max(x.shape[2:]) > 7:
        return None
    factor = net.draw(2.0, 1.5, 0.5)
    factor = 2.0 if net.opset < 10 and factor < 1 else factor
    shape = (*x.shape[:2], *(int(size * factor) for size in x.shape[2:]))
    if 0 in shape:
        return None
    scales = [1.0, 1.0, factor, factor]
    mode = net.draw("nearest", "linear")
    if net.opset < 9:
        return net.add("Upsample", [x], shape, mode=mode, scales=scales)
    if net.opset < 11:
        op = "Upsample" if net.opset == 9 else "Resize"
        return net.add(op, [x, net.floats(scales)], shape, mode=mode)
    region = net.floats([]) if net.opset < 13 else ""  # which 13 made optional
    return net.add("Resize", [x, region, net.floats(scales)], shape, mode=mode)


@listed()
def depth_to_space(net: Net, x: Value) -> Value | None:
    if x.rank != 4 or x.shape[1] % 4 or max(x.shape[2:]) > 6:
        return None
    n, c, h, w = x.shape
    return net.add("DepthToSpace", [x], (n, c // 4, 2 * h, 2 * w), blocksize=2)


@listed(since=8)
def expand(net: Net, x: Value) -> Value | None:
    axis = next((k for k in range(1, x.rank) if x.shape[k] == 1), None)
    if axis is None:
        return None
    target = [1] * x.rank
    target[axis] = 3
    shape = (*x.shape[:axis], 3, *x.shape[axis + 1 :])
    return net.add("Expand", [x, net.constant(target)], shape)


@listed(often=3)
def pool(net: Net, x: Value) -> Value | None:
    if x.rank not in (3, 4) or min(x.shape[2:]) < 2:
        return None
    op = net.draw("MaxPool", "MaxPool", "AveragePool", "GlobalAveragePool")
    if op == "GlobalAveragePool":
        return net.add(op, [x], (*x.shape[:2], *[1] * (x.rank - 2)))
    stride = net.draw(1, 2)
    shape = (*x.shape[:2], *((size - 2) // stride + 1 for size in x.shape[2:]))
    window, strides = [2] * (x.rank - 2), [stride] * (x.rank - 2)
    return net.add(op, [x], shape, kernel_shape=window, strides=strides)


@listed()
def reduce_mean(net: Net, x: Value) -> Value | None:
    if x.rank < 3 or 0 in x.shape:
        return None
    axis, keep = x.rank - 1, net.draw(0, 1)
    shape = (*x.shape[:-1], 1) if keep else x.shape[:-1]
    return by_axes(net, "ReduceMean", x, [axis], shape, since=18, keepdims=keep)
