"""The weight bits that `quantize` takes for CPUs without VNNI, against a simulation.

What counts is the output of the node as such a CPU computes it: with 8-bit weights and
saturating sums of pairs, and with 7-bit weights.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

import kernels
import onnx_models as models
import quantcal as qc

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Kind:
    """An operator, and the matrices that its kernel multiplies."""

    operator: str
    x: tuple[int, ...]
    weights: tuple[int, ...]
    rows: Callable[[Array], list[Array]]
    matrices: Callable[[Array], list[Array]]
    attributes: dict[str, int]
    rank: int = 2


def flat(x: Array) -> list[Array]:
    return [x.reshape(-1, x.shape[-1])]


def windows(x: Array, groups: int = 1) -> list[Array]:
    """Rows of a 2 x 2 Conv: positions first, then the channels of one group."""
    node = helper.make_node("Conv", [], [])
    return [kernels.columns(part, node, (2, 2)) for part in np.split(x, groups, axis=1)]


def kernel_matrices(w: Array, groups: int = 1) -> list[Array]:
    return [
        part.transpose(2, 3, 1, 0).reshape(-1, len(part))
        for part in np.split(w, groups, axis=0)
    ]


KINDS = {
    "MatMul": Kind("MatMul", (1000, 32), (32, 8), flat, lambda w: [w], {}),
    "MatMul, any rank": Kind(
        "MatMul", (2, 500, 32), (32, 8), flat, lambda w: [w], {}, 3
    ),
    "stack": Kind("MatMul", (2, 500, 32), (2, 32, 8), list, list, {}, 3),
    "vector": Kind("MatMul", (20000, 32), (32,), flat, lambda w: [w[:, None]], {}, 1),
    "Gemm": Kind("Gemm", (1000, 32), (32, 8), flat, lambda w: [w], {}),
    "transB": Kind("Gemm", (1000, 32), (8, 32), flat, lambda w: [w.T], {"transB": 1}),
    "Conv": Kind("Conv", (8, 8, 12, 12), (8, 8, 2, 2), windows, kernel_matrices, {}, 4),
    "groups": Kind(
        "Conv",
        (8, 8, 12, 12),
        (8, 4, 2, 2),
        lambda x: windows(x, 2),
        lambda w: kernel_matrices(w, 2),
        {"group": 2},
        4,
    ),
}
OUTPUTS = {"Conv": 0, "groups": 0, "transB": 0, "vector": None}
"""The axis of the output channels, the last one by default."""


def channel(name: str, weights: Array, index: int) -> Array:
    axis = OUTPUTS.get(name, -1)
    return (
        weights[index : index + 1]
        if axis is None
        else np.rollaxis(weights, axis)[index]
    )


def signal_to_noise(name: str, model: onnx.ModelProto, path: Path, x: Array) -> float:
    """Decibels of the node as a CPU without VNNI computes it from a written model."""
    kind = KINDS[name]
    stored = {
        t.name: numpy_helper.to_array(t) for t in onnx.load(path).graph.initializer
    }
    scale, zero = stored["x_scale"], int(stored["x_zero_point"])
    codes = np.clip(np.rint(x / scale) + zero, 0, 255).astype(np.int64)
    weights = stored["w_quantized"].astype(np.int64)
    steps = stored["w_scale"].astype(np.float64)
    if steps.ndim:
        shape = [1] * weights.ndim
        shape[OUTPUTS.get(name, -1)] = -1
        steps = steps.reshape(shape)
    real = np.broadcast_to(steps, weights.shape)
    original = numpy_helper.to_array(model.graph.initializer[0]).astype(np.float64)
    signal = noise = 0.0
    for rows, w, step, exact, values in zip(
        kind.rows(codes),
        kind.matrices(weights),
        kind.matrices(real),
        kind.matrices(original),
        kind.rows(codes.astype(np.float64) - zero),
        strict=True,
    ):
        sums, _ = kernels.pair_sums(rows, w)
        got = (sums - zero * w.sum(axis=0)) * step[0] * scale
        want = values * scale @ exact
        signal += float((want**2).sum())
        noise += float(((got - want) ** 2).sum())
    return 10 * np.log10(signal / noise) if noise else np.inf


def large(shape: tuple[int, ...], seed: int = 0) -> Array:
    """Weights of one sign, so that pairs overflow."""
    return np.random.default_rng(seed).uniform(0.2, 0.3, shape).astype(np.float32)


def dead(name: str, w: Array) -> None:
    channel(name, w, 3)[...] = 0


def denormal(name: str, w: Array) -> None:
    channel(name, w, 3)[...] = 1e-41


def nearly_all_dead(name: str, w: Array) -> None:
    for index in range(1, 8):
        channel(name, w, index)[...] = 0


def pruned(name: str, w: Array) -> None:
    w[np.random.default_rng(1).random(w.shape) < 0.7] = 0


def two_values(name: str, w: Array) -> None:
    """Both are codes of 7 and of 8 bits."""
    w[...] = np.where(np.random.default_rng(2).random(w.shape) < 0.5, -0.25, 0.25)


def calm(name: str, w: Array) -> None:
    """Values of either sign, mostly small: few pairs overflow."""
    w[...] = np.random.default_rng(3).standard_t(3, w.shape)


def as_they_are(name: str, w: Array) -> None:
    """Nothing changes."""


CHANGES = [
    as_they_are,
    dead,
    denormal,
    nearly_all_dead,
    pruned,
    two_values,
    calm,
]


@pytest.mark.parametrize("per_channel", [True, False], ids=["by channel", "one scale"])
@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
@pytest.mark.parametrize("name", KINDS)
def test_the_bits_are_those_with_the_better_output(
    name: str, change: Callable[[str, Array], None], per_channel: bool, tmp_path: Path
) -> None:
    kind, x = KINDS[name], np.abs(models.random(*KINDS[name].x))
    weights = large(kind.weights)
    change(name, weights)
    node = helper.make_node(kind.operator, ["x", "w"], ["y"], "n", **kind.attributes)
    model = models.build(
        [node],
        [models.value("x", kind.x)],
        [models.value("y", [None] * kind.rank)],
        {"w": weights},
    )
    found = {}
    for reduce in ("auto", True, False):
        path = tmp_path / f"{reduce}.onnx"
        qc.onnx.quantize(
            model,
            path,
            [{"x": x}],
            strategy="minmax",
            cpu="no-vnni",
            reduce_range=reduce,
            per_channel=per_channel,
            progress=False,
        )
        found[reduce] = signal_to_noise(name, model, path, x)
    # If both are equally good, the estimate may choose either.
    assert found["auto"] >= max(found.values()) - 0.5, found


def test_a_dead_channel_does_not_affect_the_choice(tmp_path: Path) -> None:
    """It has no scale of a weight, so its value must not count."""
    weights = large((32, 8))
    weights[:, 3] = 0
    node = helper.make_node("Gemm", ["x", "w"], ["y"], "n")
    inputs, outputs = [models.value("x", ["m", 32])], [models.value("y", ["m", 8])]
    model = models.build([node], inputs, outputs, {"w": weights})
    cal = qc.onnx.observe(model, [{"x": np.abs(models.random(40, 32))}])
    table = cal.compute("minmax", format="uint8")
    with_dead = qc.onnx.find_saturation(model, cal, table)["n"]
    alive = np.delete(weights, 3, axis=1)
    outputs = [models.value("y", ["m", 7])]
    without = models.build([node], inputs, outputs, {"w": alive})
    other = qc.onnx.find_saturation(without, cal, table)["n"]
    assert with_dead.needs_bit
    for one, same in (
        (with_dead.rounding, other.rounding),
        (with_dead.error, other.error),
    ):
        assert 8 * one == pytest.approx(7 * same)


def test_a_node_without_overflow_keeps_8_bits() -> None:
    """Also if its weights happen to lie nearer to the 7-bit codes."""
    for error, rounding, needed in (
        *((0.0, 1.0, False), (0.0, 0.0, False), (0.0, -1.0, False)),
        *((1.0, -1.0, True), (1.0, 0.0, True), (1.0, 2.0, False)),
    ):
        assert qc.onnx.Saturation(0.1, error, rounding).needs_bit is needed


def test_only_8_bit_codes_on_both_sides_are_estimated(tmp_path: Path) -> None:
    """Nodes with other formats have other kernels, which do not overflow."""
    node = helper.make_node("MatMul", ["x", "w"], ["y"], "n")
    inputs, outputs = [models.value("x", ["m", 32])], [models.value("y", ["m", 8])]
    model = models.build([node], inputs, outputs, {"w": large((32, 8))})
    samples = [{"x": np.abs(models.random(40, 32))}]
    for options, bits in (
        ({}, "7 in the 1 node"),
        ({"activation_formats": {"x": "uint16"}}, "no node"),
        ({"weight_formats": {"w": "uint8"}}, "no node"),
        ({"weight_formats": {"node:n": "int4"}}, "no node"),
    ):
        path = tmp_path / "q.onnx"
        result = qc.onnx.quantize(
            model, path, samples, cpu="no-vnni", progress=False, **options
        )
        assert bits in result.reduce_range_reason


def test_conv_transpose_has_no_integer_kernel_and_keeps_8_bits(tmp_path: Path) -> None:
    node = helper.make_node("ConvTranspose", ["x", "w"], ["y"], "n")
    shape = models.value("x", [1, 4, 5, 5]), models.value("y", [1, 6, 7, 7])
    model = models.build([node], shape[:1], shape[1:], {"w": large((4, 6, 3, 3))})
    path, made = tmp_path / "q.onnx", tmp_path / "optimized.onnx"
    qc.onnx.quantize(
        model,
        path,
        [{"x": np.abs(models.random(1, 4, 5, 5))}],
        op_types=["ConvTranspose"],
        cpu="no-vnni",
        progress=False,
        strategy="mse",
    )
    models.save_optimized(path, made)
    kinds = [node.op_type for node in onnx.load(made).graph.node]
    assert "ConvTranspose" in kinds
    codes = {
        t.name: numpy_helper.to_array(t) for t in onnx.load(path).graph.initializer
    }
    assert np.abs(codes["w_quantized"].astype(int)).max() == 127
