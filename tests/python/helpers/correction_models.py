"""Small graphs for the corrections, whose channels have very different sizes."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import helper

import onnx_models as models

Array = np.ndarray[Any, Any]
node = helper.make_node
IMAGE = ("n", 6, "h", "w")


def uneven(*shape: int, axis: int, seed: int) -> Array:
    """Return a weight whose channels along an axis differ by a factor of 100."""
    generator = np.random.default_rng(seed)
    sizes = 10.0 ** generator.uniform(-1, 1, shape[axis])
    return np.asarray(
        np.moveaxis(generator.standard_normal(shape), axis, -1) * sizes, np.float32
    ).transpose(np.argsort([*[k for k in range(len(shape)) if k != axis], axis]))


def image_model(
    nodes: list[onnx.NodeProto], weights: dict[str, Array], opset: int = 17
) -> onnx.ModelProto:
    """Return a model of images with 6 channels; its output is "y"."""
    return models.build(
        nodes,
        [models.value("x", IMAGE)],
        [image("y")],
        weights,
        opset=opset,
    )


def rows_model(
    nodes: list[onnx.NodeProto],
    weights: dict[str, Array],
    opset: int = 17,
    *,
    rank: int = 2,
) -> onnx.ModelProto:
    """Return a model of rows with 6 channels; its output is "y"."""
    shape = ("n", "t", 6)[-rank:]
    return models.build(
        nodes,
        [models.value("x", shape)],
        [models.value("y", ("a", "b", "c")[-rank:])],
        weights,
        opset=opset,
    )


def image(name: str) -> onnx.ValueInfoProto:
    """Return an output of four axes."""
    return models.value(name, ("p", "q", "r", "s"))


def conv_pair(
    activation: str = "Relu", *, bias: bool = True, opset: int = 17
) -> onnx.ModelProto:
    """Conv → activation → Conv."""
    weights = {
        "w1": uneven(8, 6, 3, 3, axis=0, seed=1),
        "w2": uneven(4, 8, 3, 3, axis=1, seed=2),
    }
    names = ["x", "w1"]
    if bias:
        weights["b1"] = models.random(8, seed=3)
        names.append("b1")
    if activation == "PRelu":
        weights["slope"] = np.abs(models.random(8, 1, 1, seed=4))
    more = ["slope"] if activation == "PRelu" else []
    nodes = [
        node("Conv", names, ["c"], "first", pads=[1, 1, 1, 1]),
        node(activation, ["c", *more], ["a"], "activation"),
        node("Conv", ["a", "w2"], ["y"], "second", pads=[1, 1, 1, 1]),
    ]
    return image_model(nodes, weights, opset)


def images(count: int = 3, seed: int = 11) -> list[dict[str, Array]]:
    """Return samples of images."""
    return [{"x": models.random(1, 6, 9, 8, seed=seed + k)} for k in range(count)]


def outlier_rows(
    count: int = 3, seed: int = 11, *, rank: int = 2, size: float = 30
) -> list[dict[str, Array]]:
    """Return samples of rows in which one channel is much larger than the others."""
    samples = []
    for k in range(count):
        rows = models.random(*(2, 5, 6)[-rank:], seed=seed + k)
        rows[..., 2] *= size
        samples.append({"x": rows})
    return samples


def weights_of(model: onnx.ModelProto) -> dict[str, Array]:
    """Return the initializers of a model."""
    return {t.name: onnx.numpy_helper.to_array(t) for t in model.graph.initializer}


def run_all(
    model: onnx.ModelProto, samples: list[dict[str, Array]], name: str = "y"
) -> list[Array]:
    """Return an output for each sample, with Q/DQ nodes in float arithmetic."""
    return [models.outputs(model, sample, [name])[0] for sample in samples]
