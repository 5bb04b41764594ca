"""Small networks in which it is known what loses accuracy."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import helper

import onnx_models as models
from quantcal.onnx._timing.machine import this_machine
from quantcal.onnx._timing.node_times import Latency, NodeTime, NodeTimes

WIDTH = 8
Feeds = list[dict[str, Any]]


def mlp(
    *, layers: int = 6, guilty: int | None = None, seed: int = 0, output: str = "y"
) -> onnx.ModelProto:
    """Return MatMul ``layer0`` → Relu → MatMul ``layer1`` …, with hidden ``h0``, ``h1`` ….

    Channel 0 of the hidden tensor ``guilty`` is 10 000 times larger, and the next layer
    divides it again. So the float model is the same, but no range for all channels is good.
    """
    rng = np.random.default_rng(seed)
    weights: models.Arrays = {}
    nodes = []
    source = "x"
    for k in range(layers):
        w = rng.standard_normal((WIDTH, WIDTH)).astype(np.float32) * 0.6
        if guilty is not None and k == guilty:
            w[:, 0] *= 1e4
        if guilty is not None and k == guilty + 1:
            w[0] /= 1e4
        weights[f"w{k}"] = w
        last = k == layers - 1
        made = output if last else f"m{k}"
        nodes.append(helper.make_node("MatMul", [source, f"w{k}"], [made], f"layer{k}"))
        if not last:
            nodes.append(helper.make_node("Relu", [made], [f"h{k}"], f"relu{k}"))
            source = f"h{k}"
    shapes = models.value("x", ["n", WIDTH]), models.value(output, ["n", WIDTH])
    return models.build(nodes, shapes[:1], shapes[1:], weights)


def uneven_norm(*, rank: int = 3) -> onnx.ModelProto:
    """Return LayerNormalization → MatMul ``first`` → Sigmoid → MatMul ``second``.

    Channel 0 behind the norm is 100 times larger, and the weights divide it again. So
    SmoothQuant helps. No two layers follow each other directly, so none can be equalized.
    """
    rng = np.random.default_rng(3)
    scale = np.ones(WIDTH, np.float32)
    scale[0] = 100
    first = rng.standard_normal((WIDTH, WIDTH)).astype(np.float32)
    first[0] /= 100
    weights = {
        "scale": scale,
        "shift": np.zeros(WIDTH, np.float32),
        "w1": first,
        "w2": rng.standard_normal((WIDTH, WIDTH)).astype(np.float32),
    }
    nodes = [
        helper.make_node("LayerNormalization", ["x", "scale", "shift"], ["n"], "norm"),
        helper.make_node("MatMul", ["n", "w1"], ["m"], "first"),
        helper.make_node("Sigmoid", ["m"], ["s"], "sigmoid"),
        helper.make_node("MatMul", ["s", "w2"], ["y"], "second"),
    ]
    shape = ("n", "t", WIDTH)[-rank:]
    return models.build(
        nodes, [models.value("x", shape)], [models.value("y", shape)], weights
    )


def feeds(count: int, *, seed: int = 1, rows: int = 4) -> Feeds:
    """Return random inputs of an :func:`mlp`."""
    rng = np.random.default_rng(seed)
    shape = (rows, WIDTH)
    return [{"x": rng.standard_normal(shape).astype(np.float32)} for _ in range(count)]


def times(model: onnx.ModelProto, *, slow: tuple[str, ...] = ()) -> NodeTimes:
    """Return times that nobody measured: integers are 1 ms faster, and slower at ``slow``."""

    def node(name: str) -> NodeTime:
        gain = -1.0 if name in slow else 1.0
        won = 0.0 if name in slow else 1.0
        kernels = ("MatMul", "QLinearMatMul")
        return NodeTime("MatMul", 3.0, 3.0 - gain, 0.0, 0.0, won, 1, *kernels, True, "")

    nodes = {n.name: node(n.name) for n in model.graph.node if n.op_type == "MatMul"}
    whole = [
        Latency(sum(getattr(n, kind) for n in nodes.values()), 0.0)
        for kind in ("float_ms", "integer_ms")
    ]
    machine = this_machine(0)
    return NodeTimes(nodes, *whole, 1.0, 0.0, 0.0, samples=1, rounds=3, machine=machine)
