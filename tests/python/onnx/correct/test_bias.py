"""Bias correction takes the mean error of each channel out of a quantized model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper

import onnx_models as models
import quantcal as qc
from correction_models import image_model, images, node, rows_model
from fused_kernels import INTEGER, kernels
from quantcal import CalibrationError
from quantcal.onnx._correct import staged_run
from quantcal.onnx._correct.bias_correction import correct_biases
from quantcal.onnx._model.model import load_light
from quantcal.onnx._options.quantize_options import QuantizeOptions
from quantcal.onnx._options.resolved import Options
from quantcal.onnx._plan.preparation import prepare

# int4 weights have large errors, so that a mean error stands out from rounding.
COARSE = {"weight_type": "int4", "block_size": 0, "strategy": "minmax"}
Feeds = list[dict[str, Any]]


def quantized(
    model: onnx.ModelProto, path: Path, feeds: Any, *corrections: str, **options: Any
) -> qc.onnx.QuantizeResult:
    return qc.onnx.quantize(
        model, path, feeds, corrections=corrections, progress=False, **COARSE | options
    )


def mean_errors(
    model: onnx.ModelProto, path: Path, feeds: Feeds, axis: int
) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Return the mean error of each channel of "y", and half a step of its bias.

    A written bias has steps of the product of both scales, so more cannot be corrected.
    """
    graph = onnx.load(path).graph
    makers = {name: each for each in graph.node for name in each.output}
    exact = "y_QuantizeLinear_Input"  # before its own rounding
    read = exact if exact in makers else "y"
    rows = []
    for feed in feeds:
        (want,) = models.outputs(model, feed, ["y"])
        (got,) = models.outputs(onnx.load(path), feed, [read])
        both = [np.moveaxis(each, axis, -1) for each in (want, got)]
        rows.append(np.stack([each.reshape(-1, each.shape[-1]) for each in both]))
    want, got = np.concatenate(rows, axis=1).astype(np.float64)
    constants = {t.name: onnx.numpy_helper.to_array(t) for t in graph.initializer}
    biases = [makers[n] for n in makers[read].input if n in makers]
    steps = [
        constants[each.input[1]]
        for each in biases
        if each.op_type == "DequantizeLinear"
        and constants.get(each.input[0], np.zeros(0)).dtype == np.int32
    ]
    half = np.asarray(steps[0] if steps else 0.0) / 2
    return np.abs((got - want).mean(axis=0)), half


def is_corrected(
    model: onnx.ModelProto, path: Path, feeds: Feeds, axis: int = 1
) -> bool:
    """Whether no channel of "y" has a mean error beyond the step of its bias.

    The biases before it are rounded too: that leaves up to 0.2 % of the deviation here.
    """
    errors, half = mean_errors(model, path, feeds, axis)
    size = np.std([models.outputs(model, f, ["y"])[0] for f in feeds])
    return bool((errors <= half * 1.01 + 2e-3 * size).all())


def positive_rows(count: int = 4, rank: int = 2) -> Feeds:
    """Return rows with a mean, which errors of weights turn into a mean error."""
    shape = (2, 5, 6)[-rank:]
    return [{"x": np.abs(models.random(*shape, seed=20 + k))} for k in range(count)]


def chain(*, bias: bool, opset: int = 17) -> onnx.ModelProto:
    """Return three Conv, the middle one depthwise, behind each other."""
    weights = {
        "w1": models.random(8, 6, 3, 3, seed=1),
        "w2": models.random(8, 1, 3, 3, seed=2),
        "w3": models.random(4, 8, 1, 1, seed=3),
    }
    if bias:
        weights |= {
            f"b{k}": models.random(n, seed=3 + k) for k, n in ((1, 8), (2, 8), (3, 4))
        }
    more = [[f"b{k}"] if bias else [] for k in (1, 2, 3)]
    nodes = [
        node("Conv", ["x", "w1", *more[0]], ["c1"], "one"),
        node("Relu", ["c1"], ["r1"]),
        node("Conv", ["r1", "w2", *more[1]], ["c2"], "two", group=8),
        node("Relu", ["c2"], ["r2"]),
        node("Conv", ["r2", "w3", *more[2]], ["y"], "three"),
    ]
    return image_model(nodes, weights, opset)


def products(kind: str, *, bias: bool) -> tuple[onnx.ModelProto, Feeds]:
    """Return two layers of rows: MatMul with an Add, MatMul of stacks, or Gemm."""
    weights = {"w1": models.random(6, 8, seed=1), "w2": models.random(8, 4, seed=2)}
    if bias:
        weights |= {"b1": models.random(8, seed=3), "b2": models.random(1, 4, seed=4)}
    nodes = []
    rank = 3 if kind == "stacks" else 2
    for k, source, target in ((1, "x", "h1"), (2, "r", "y")):
        if kind.startswith("gemm"):
            turned = int(kind == "gemm transposed")
            if turned:
                weights[f"w{k}"] = np.ascontiguousarray(weights[f"w{k}"].T)
            names = [source, f"w{k}", *([f"b{k}"] if bias else [])]
            nodes.append(node("Gemm", names, [target], f"layer{k}", transB=turned))
        elif bias:
            nodes.append(node("MatMul", [source, f"w{k}"], [f"m{k}"], f"layer{k}"))
            nodes.append(node("Add", [f"m{k}", f"b{k}"], [target]))
        else:
            nodes.append(node("MatMul", [source, f"w{k}"], [target], f"layer{k}"))
        if k == 1:
            nodes.append(node("Sigmoid", ["h1"], ["r"]))
    return rows_model(nodes, weights, rank=rank), positive_rows(rank=rank)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("opset", [11, 13, 17, 21])
def test_channels_of_convs_have_no_mean_error(
    tmp_path: Path, bias: bool, opset: int
) -> None:
    model, feeds, path = chain(bias=bias, opset=opset), images(4), tmp_path / "q.onnx"
    quantized(model, path, feeds)
    assert not is_corrected(model, path, feeds)
    result = quantized(model, path, feeds, "bias")
    assert is_corrected(model, path, feeds)
    (report,) = result.corrections
    assert [each.nodes for each in report.changed] == [("one",), ("two",), ("three",)]
    assert all(each.largest > 0 for each in report.changed)
    assert "corrected         bias: 3 biases (largest shift" in result.summary()


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("kind", ["gemm", "gemm transposed", "matrices", "stacks"])
def test_channels_of_products_have_no_mean_error(
    tmp_path: Path, kind: str, bias: bool
) -> None:
    (model, feeds), path = products(kind, bias=bias), tmp_path / "q.onnx"
    quantized(model, path, feeds)
    plain = kernels(path)
    assert not is_corrected(model, path, feeds, -1)
    result = quantized(model, path, feeds, "bias")
    assert is_corrected(model, path, feeds, -1)
    assert len(result.corrections[0].changed) == 2
    with_bias = kernels(path)
    assert sum(with_bias[k] for k in INTEGER) == sum(plain[k] for k in INTEGER)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("kind", ["gemm", "matrices", "stacks"])
def test_8_bit_products_keep_their_integer_kernels(
    tmp_path: Path, kind: str, bias: bool
) -> None:
    (model, feeds), path = products(kind, bias=bias), tmp_path / "q.onnx"
    eight = {"weight_type": "int8", "reduce_range": False}
    quantized(model, path, feeds, **eight)
    plain = kernels(path)
    assert sum(plain[k] for k in INTEGER) == 2
    quantized(model, path, feeds, "bias", **eight)
    assert sum(kernels(path)[k] for k in INTEGER) == 2
    assert is_corrected(model, path, feeds, -1)


def test_a_matmul_whose_product_is_rounded_or_summed_is_skipped(tmp_path: Path) -> None:
    weights = {f"w{k}": models.random(6, 6, seed=k) for k in range(3)}
    nodes = [
        node("MatMul", ["x", "w0"], ["a"], "rounded"),
        node("MatMul", ["a", "w1"], ["b"], "summed"),
        node("Add", ["b", "x"], ["s"], "residual"),
        node("Sigmoid", ["s"], ["g"]),
        node("MatMul", ["g", "w2"], ["y"], "last"),
    ]
    model, feeds = rows_model(nodes, weights), positive_rows()
    result = quantized(model, tmp_path / "q.onnx", feeds, "bias", weight_type="int8")
    (report,) = result.corrections
    assert [each.nodes for each in report.changed] == [("last",)]
    assert set(report.skipped) == {"rounded", "summed"}
    assert "skipped: 2 a MatMul without a bias" in report.summary()


def test_products_of_activations_are_skipped(tmp_path: Path) -> None:
    nodes = [
        node("Transpose", ["x"], ["t"], perm=[0, 2, 1]),
        node("MatMul", ["x", "t"], ["m"], "scores"),
        node("Softmax", ["m"], ["p"]),
        node("MatMul", ["p", "w"], ["y"], "last"),
    ]
    model = rows_model(nodes, {"w": models.random(5, 4)}, rank=3)
    feeds = positive_rows(rank=3)
    result = quantized(model, tmp_path / "q.onnx", feeds, "bias", weight_type="int8")
    assert result.corrections[0].skipped == {"scores": "a product of two activations"}


def test_a_shared_bias_is_copied(tmp_path: Path) -> None:
    model = chain(bias=True)
    model.graph.node[2].input[2] = "b1"
    del model.graph.initializer[4]
    path = tmp_path / "q.onnx"
    quantized(model, path, images(4), "bias")
    assert is_corrected(model, path, images(4))


@pytest.mark.parametrize("group", [1, 2])
def test_a_transposed_conv_takes_a_bias_without_groups(
    tmp_path: Path, group: int
) -> None:
    weights = {"w": models.random(6, 4, 2, 2)}
    nodes = [node("ConvTranspose", ["x", "w"], ["y"], "up", group=group)]
    model, path = image_model(nodes, weights), tmp_path / "q.onnx"
    feeds = [{"x": np.abs(each["x"])} for each in images(4)]
    options = {"op_types": ["ConvTranspose"], "weight_type": "int8"}
    result = quantized(model, path, feeds, "bias", placement="stock", **options)
    assert len(result.corrections[0].changed) == (group == 1)
    if group == 1:
        assert is_corrected(model, path, feeds)


def test_nodes_inside_a_subgraph_are_skipped(tmp_path: Path) -> None:
    result = quantized(
        models.if_net(),
        tmp_path / "q.onnx",
        [{"x": models.random(3, 6), "c": np.array(True)}] * 2,
        "bias",
        weight_type="int8",
    )
    assert set(result.corrections[0].skipped.values()) == {"a node inside a subgraph"}
    assert not result.corrections[0].changed


def test_a_captured_tensor_is_shifted_for_its_subgraph(tmp_path: Path) -> None:
    """A branch reads a product, and a Conv behind it is measured with the shift."""
    model = chain(bias=False)
    branches = [
        helper.make_graph([node(kind, ["c1"], [n])], n, [], [models.value(n, None)])
        for kind, n in (("Relu", "i"), ("Neg", "j"))
    ]
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.array(True), "yes"))
    model.graph.node[1].CopyFrom(
        node("If", ["yes"], ["r1"], then_branch=branches[0], else_branch=branches[1])
    )
    path = tmp_path / "q.onnx"
    quantized(model, path, images(4), "bias")
    assert is_corrected(model, path, images(4))


def test_weights_alone_are_corrected_too(tmp_path: Path) -> None:
    model, path = chain(bias=True), tmp_path / "q.onnx"
    options = {"activation_type": "none", "weight_type": "int4", "block_size": 0}
    for corrections in ((), ("bias",)):
        quantized(model, path, images(4), *corrections, **options)
        assert is_corrected(model, path, images(4)) == bool(corrections)


def test_a_product_that_is_not_finite_keeps_its_bias(tmp_path: Path) -> None:
    model = chain(bias=True)
    feeds = images(4)
    feeds[1] = {"x": feeds[1]["x"].copy()}
    feeds[1]["x"][0, 0, 0, 0] = np.inf
    result = quantized(model, tmp_path / "q.onnx", feeds, "bias")
    assert not result.corrections[0].changed
    assert set(result.corrections[0].skipped.values()) == {
        "products without a finite mean"
    }


def test_the_same_samples_give_the_same_bytes(tmp_path: Path) -> None:
    made = []
    for name in ("a.onnx", "b.onnx"):
        quantized(chain(bias=True), tmp_path / name, images(4), "bias")
        made.append((tmp_path / name).read_bytes())
    assert made[0] == made[1]


def test_a_second_correction_finds_nothing_left(tmp_path: Path) -> None:
    model = chain(bias=True)
    options = Options.of(QuantizeOptions(weight_type="int4", block_size=0))
    prepared = prepare(load_light(model), options)
    table = qc.onnx.observe(model, images(4)).compute("minmax")
    once, first = correct_biases(prepared, table, options.bits(), images(4))
    again, report = correct_biases(once, table, options.bits(), images(4))
    # Measured against its own float model, whose biases have the shift already.
    assert max(each.largest for each in first.changed) > 0.01
    assert len(report.changed) == 3
    assert prepared.proto.graph != once.proto.graph
    assert again.plan.sums == once.plan.sums


def test_memory_limits_the_number_of_samples(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []
    real = staged_run.run

    def counted(session: Any, names: Sequence[str], feed: Any, where: str) -> Any:
        seen.append(int(where.rsplit(maxsplit=1)[-1]))
        return real(session, list(names), feed, where)

    monkeypatch.setattr(staged_run, "run", counted)
    quantized(chain(bias=True), tmp_path / "q.onnx", images(4), "bias")
    assert max(seen) == 3
    seen.clear()
    monkeypatch.setattr(staged_run, "MAX_MEMORY", 1)
    quantized(chain(bias=True), tmp_path / "q.onnx", images(4), "bias")
    assert max(seen) == 0


def test_samples_must_be_there_to_be_measured() -> None:
    model = chain(bias=True)
    options = Options.of(QuantizeOptions())
    prepared = prepare(load_light(model), options)
    table = qc.onnx.observe(model, images(2)).compute("minmax")
    with pytest.raises(CalibrationError, match="no samples for the correction"):
        correct_biases(prepared, table, options.bits(), [])


def clipped_rows(massive: int) -> Feeds:
    """Return 4 samples of 100 rows, in which some rows hold one value of 40."""
    samples = [{"x": models.random(100, 6, seed=40 + k).clip(-3, 3)} for k in range(4)]
    for each in samples:
        each["x"][:massive, 0] = 40
    return samples


@pytest.mark.parametrize("massive", [0, 2])
def test_what_a_few_massive_values_lose_is_not_taken_from_all_rows(
    massive: int, tmp_path: Path
) -> None:
    """The range ends at 4, as MSE clips: 2 of 100 rows lose much, the others nothing."""
    feeds = clipped_rows(massive)
    weights = {"w": models.random(6, 4), "b": models.random(4, seed=1)}
    nodes = [
        node("MatMul", ["x", "w"], ["m"], "layer"),
        node("Add", ["m", "b"], ["y"]),
    ]
    model, path = rows_model(nodes, weights), tmp_path / "q.onnx"
    options = {"strategy": qc.Fixed(-4, 4), "weight_type": "int8"}
    errors = []
    for corrections in ((), ("bias",)):
        result = quantized(model, path, feeds, *corrections, **options)
        rows = [
            models.outputs(onnx.load(path), feed, ["y"])[0]
            - models.outputs(model, feed, ["y"])[0]
            for feed in feeds
        ]
        errors.append(np.concatenate([each[massive:] for each in rows]))
    plain, corrected = (float(np.square(each).mean()) for each in errors)
    assert corrected <= 1.01 * plain
    (report,) = result.corrections
    # The mean error of the rows with 40 is up to 2 % of 36 times a weight.
    assert max((each.largest for each in report.changed), default=0) < 0.01


def test_a_mean_error_that_all_rows_share_is_taken_beside_massive_values(
    tmp_path: Path,
) -> None:
    """Every row is above the range in channel 1, and two rows are in channel 0 as well."""
    feeds = clipped_rows(2)
    for feed in feeds:
        feed["x"][:, 1] = 6 + 0.1 * feed["x"][:, 2]
    weights = {"w": np.eye(6, 4, dtype=np.float32), "b": models.random(4, seed=1)}
    nodes = [
        node("MatMul", ["x", "w"], ["m"], "layer"),
        node("Add", ["m", "b"], ["y"]),
    ]
    model, path = rows_model(nodes, weights), tmp_path / "q.onnx"
    quantized(model, path, feeds, "bias", strategy=qc.Fixed(-4, 4), weight_type="int8")
    errors = np.concatenate(
        [
            models.outputs(onnx.load(path), feed, ["y"])[0]
            - models.outputs(model, feed, ["y"])[0]
            for feed in feeds
        ]
    )
    assert np.abs(errors[:, 1]).mean() < 0.3  # of 2 that the range clips
    typical = np.abs(errors[:, 0]) < 30
    assert typical.mean() == 0.98
    assert np.abs(errors[typical, 0].mean()) < 0.02


def test_the_places_of_a_large_tensor_are_spread_and_the_same_in_both_models(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("quantcal.onnx._correct.sampled_rows.PLACES", 64)
    for model, feeds, axis in (
        (chain(bias=True), images(4), 1),
        (*products("stacks", bias=True), -1),
    ):
        path = tmp_path / "q.onnx"
        quantized(model, path, feeds, "bias")
        errors, _ = mean_errors(model, path, feeds, axis)
        quantized(model, path, feeds)
        before, _ = mean_errors(model, path, feeds, axis)
        assert np.square(errors).sum() < 0.5 * np.square(before).sum()
