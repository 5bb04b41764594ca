"""Equalization keeps the float function, and makes the ranges of a channel equal."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper

import onnx_models as models
from correction_models import (
    IMAGE,
    conv_pair,
    image,
    image_model,
    images,
    node,
    outlier_rows,
    rows_model,
    run_all,
    uneven,
    weights_of,
)
from quantcal import CalibrationError
from quantcal.onnx._correct import equalization
from quantcal.onnx._correct.equalization import equalize
from quantcal.onnx._correct.report import Correction
from quantcal.onnx._model.model import load_light

# Float32 sums of a few hundred products, each rounded to 6e-8.
CLOSE = {"rtol": 1e-4, "atol": 1e-4}


def equalized(
    model: onnx.ModelProto, samples: Any = None
) -> tuple[onnx.ModelProto, Correction]:
    """Equalize a model and show that it computes the same."""
    feeds = images() if samples is None else samples
    before = model.SerializeToString()
    changed, report = equalize(model, feeds)
    assert model.SerializeToString() == before
    onnx.checker.check_model(changed.proto)
    for want, got in zip(
        run_all(model, feeds), run_all(changed.proto, feeds), strict=True
    ):
        np.testing.assert_allclose(
            got, want, rtol=CLOSE["rtol"], atol=CLOSE["atol"] * np.abs(want).max()
        )
    return changed.proto, report


def ranges(made: np.ndarray[Any, Any], read: np.ndarray[Any, Any]) -> tuple[Any, Any]:
    """Return the ranges of a Conv's rows and of the columns of the next, by channel."""
    return (
        np.abs(made).reshape(len(made), -1).max(axis=1),
        np.abs(read).transpose(1, 0, 2, 3).reshape(read.shape[1], -1).max(axis=1),
    )


def set_weights(model: onnx.ModelProto, arrays: Any) -> None:
    for tensor in model.graph.initializer:
        tensor.CopyFrom(onnx.numpy_helper.from_array(arrays[tensor.name], tensor.name))


@pytest.mark.parametrize("activation", ["Relu", "LeakyRelu", "PRelu", "Identity"])
@pytest.mark.parametrize("opset", [11, 13, 17, 21])
def test_both_sides_of_a_channel_get_the_range_of_equation_11(
    activation: str, opset: int
) -> None:
    model = conv_pair(activation, bias=False, opset=opset)
    old, (new, report) = weights_of(model), equalized(model)
    rows, columns = ranges(old["w1"], old["w2"])
    for found in ranges(*(weights_of(new)[name] for name in ("w1", "w2"))):
        np.testing.assert_allclose(found, np.sqrt(rows * columns), rtol=1e-5)
    factor = np.sqrt(rows / columns)
    assert [each.nodes for each in report.changed] == [("first", "second")]
    assert report.changed[0].largest == pytest.approx(
        max(factor.max(), 1 / factor.min())
    )


def test_no_bias_becomes_larger_than_the_largest_one() -> None:
    model = conv_pair()
    old = {name: array.copy() for name, array in weights_of(model).items()}
    old["w1"][:2] *= np.float32(1e-3)
    set_weights(model, old)
    new, _ = equalized(model)
    found = weights_of(new)
    largest = np.abs(old["b1"]).max()
    assert np.abs(found["b1"]).max() <= largest * (1 + 1e-6)
    rows, columns = ranges(found["w1"], found["w2"])
    limited = np.abs(found["b1"]) > largest * (1 - 1e-6)
    assert 0 < limited.sum() < len(limited)
    np.testing.assert_allclose(rows[~limited], columns[~limited], rtol=1e-4)


@pytest.mark.parametrize("activation", ["Clip", "Sigmoid", "HardSwish", "Tanh", "Elu"])
def test_what_does_not_commute_with_a_factor_is_left(activation: str) -> None:
    weights = {
        "w1": uneven(8, 6, 1, 1, axis=0, seed=1),
        "w2": uneven(4, 8, 1, 1, axis=1, seed=2),
        "zero": np.float32(0),
        "six": np.float32(6),
    }
    more = ["zero", "six"] if activation == "Clip" else []
    nodes = [
        node("Conv", ["x", "w1"], ["c"], "first"),
        node(activation, ["c", *more], ["a"], "activation"),
        node("Conv", ["a", "w2"], ["y"], "second"),
    ]
    model = image_model(nodes, weights)
    new, report = equalized(model)
    assert not report.changed
    assert weights_of(new)["w1"].tolist() == weights["w1"].tolist()


def test_a_depthwise_conv_in_between_is_part_of_both_pairs() -> None:
    weights = {
        "w1": uneven(8, 6, 1, 1, axis=0, seed=1),
        "w2": uneven(8, 1, 3, 3, axis=0, seed=2),
        "w3": uneven(4, 8, 1, 1, axis=1, seed=3),
    }
    nodes = [
        node("Conv", ["x", "w1"], ["c1"], "first"),
        node("Relu", ["c1"], ["a1"]),
        node("Conv", ["a1", "w2"], ["c2"], "depthwise", group=8),
        node("Relu", ["c2"], ["a2"]),
        node("Conv", ["a2", "w3"], ["y"], "last"),
    ]
    new, report = equalized(image_model(nodes, weights))
    assert [c.nodes for c in report.changed] == [
        ("first", "depthwise"),
        ("depthwise", "last"),
    ]
    found = weights_of(new)
    sizes = [
        np.abs(found["w1"]).reshape(8, -1).max(axis=1),
        np.abs(found["w2"]).reshape(8, -1).max(axis=1),
        np.abs(found["w3"]).transpose(1, 0, 2, 3).reshape(8, -1).max(axis=1),
    ]
    np.testing.assert_allclose(sizes[0], sizes[1], rtol=1e-3)
    np.testing.assert_allclose(sizes[1], sizes[2], rtol=1e-3)


def test_groups_scale_the_columns_of_their_own_channels() -> None:
    weights = {
        "w1": uneven(8, 3, 1, 1, axis=0, seed=1),
        "w2": uneven(6, 4, 3, 3, axis=1, seed=2),
    }
    nodes = [
        node("Conv", ["x", "w1"], ["c"], "first", group=2),
        node("Relu", ["c"], ["a"]),
        node("Conv", ["a", "w2"], ["y"], "second", group=2),
    ]
    new, report = equalized(image_model(nodes, weights))
    found = weights_of(new)
    rows = np.abs(found["w1"]).reshape(8, -1).max(axis=1)
    columns = np.abs(found["w2"]).reshape(2, 3, 4, 9).max(axis=(1, 3)).reshape(8)
    assert len(report.changed) == 1
    np.testing.assert_allclose(rows, columns, rtol=1e-4)


@pytest.mark.parametrize("group", [1, 2])
def test_a_transposed_conv_reads_channels_along_its_first_axis(group: int) -> None:
    weights = {
        "w1": uneven(8, 6, 1, 1, axis=0, seed=1),
        "w2": uneven(8, 4, 2, 2, axis=0, seed=2),
        "b2": models.random(4 * group, seed=5),
        "w3": uneven(3, 4 * group, 1, 1, axis=1, seed=3),
    }
    nodes = [
        node("Conv", ["x", "w1"], ["c"], "first"),
        node("Relu", ["c"], ["a"]),
        node("ConvTranspose", ["a", "w2", "b2"], ["d"], "transposed", group=group),
        node("Relu", ["d"], ["r"]),
        node("Conv", ["r", "w3"], ["y"], "last"),
    ]
    new, report = equalized(image_model(nodes, weights))
    pairs = [c.nodes for c in report.changed]
    assert pairs[0] == ("first", "transposed")
    assert (("transposed", "last") in pairs) == (group == 1)
    assert ("transposed" in report.skipped) == (group == 2)
    if group == 2:
        found = weights_of(new)
        rows = np.abs(found["w1"]).reshape(8, -1).max(axis=1)
        np.testing.assert_allclose(
            rows, np.abs(found["w2"]).reshape(8, -1).max(axis=1), rtol=1e-4
        )


@pytest.mark.parametrize("turned", [0, 1])
@pytest.mark.parametrize("shape", [(8,), (1, 8), (1,), ()])
def test_a_gemm_is_scaled_along_its_output(turned: int, shape: tuple[int, ...]) -> None:
    first, second = uneven(6, 8, axis=1, seed=1), uneven(8, 3, axis=0, seed=2)
    if turned:
        first, second = np.ascontiguousarray(first.T), np.ascontiguousarray(second.T)
    bias = np.asarray(models.random(*shape, seed=3), np.float32)
    nodes = [
        node(
            "Gemm", ["x", "w1", "b1"], ["g"], "one", transB=turned, alpha=0.5, beta=2.0
        ),
        node("Relu", ["g"], ["a"]),
        node("Gemm", ["a", "w2"], ["y"], "two", transB=turned),
    ]
    model = rows_model(nodes, {"w1": first, "b1": bias, "w2": second})
    _, report = equalized(model, outlier_rows())
    assert [c.nodes for c in report.changed] == [("one", "two")]


def test_a_matmul_takes_the_factor_in_the_add_behind_it() -> None:
    weights = {
        "w1": uneven(6, 8, axis=1, seed=1),
        "b1": models.random(8, seed=3),
        "w2": uneven(8, 3, axis=0, seed=2),
    }
    nodes = [
        node("MatMul", ["x", "w1"], ["m"], "one"),
        node("Add", ["b1", "m"], ["s"]),
        node("Relu", ["s"], ["a"]),
        node("MatMul", ["a", "w2"], ["y"], "two"),
    ]
    model = rows_model(nodes, weights, rank=3)
    _, report = equalized(model, outlier_rows(rank=3))
    assert len(report.changed) == 1


def test_a_batch_normalization_takes_the_factor() -> None:
    names = ("gain", "shift", "mean", "var")
    weights = {
        "w1": uneven(8, 6, 3, 3, axis=0, seed=1),
        "w2": uneven(4, 8, 1, 1, axis=1, seed=2),
        "gain": models.random(8, seed=3),
        "shift": np.zeros(8, np.float32),
        "mean": np.zeros(8, np.float32),
        "var": np.abs(models.random(8, seed=6)) + 0.5,
    }
    nodes = [
        node("Conv", ["x", "w1"], ["c"], "first"),
        node("BatchNormalization", ["c", *names], ["n"], "norm"),
        node("Relu", ["n"], ["a"]),
        node("MaxPool", ["a"], ["p"], "pool", kernel_shape=[2, 2]),
        node("Conv", ["p", "w2"], ["y"], "second"),
    ]
    new, report = equalized(image_model(nodes, weights))
    assert len(report.changed) == 1
    found = weights_of(new)
    gain = np.abs(found["gain"]) / np.sqrt(found["var"] + 1e-5)
    rows = np.abs(found["w1"]).reshape(8, -1).max(axis=1) * gain
    columns = np.abs(found["w2"]).transpose(1, 0, 2, 3).reshape(8, -1).max(axis=1)
    np.testing.assert_allclose(rows, columns, rtol=1e-4)


def test_scalars_between_convs_scale_and_shift_by_channel() -> None:
    weights = {
        "w1": uneven(8, 6, 1, 1, axis=0, seed=1),
        "w2": uneven(4, 8, 1, 1, axis=1, seed=2),
        "factor": np.array([-1.5], np.float32),
        "offset": np.array([0.25], np.float32),
    }
    nodes = [
        node("Conv", ["x", "w1"], ["c"], "first"),
        node("Mul", ["factor", "c"], ["m"]),
        node("Add", ["m", "offset"], ["s"]),
        node("Conv", ["s", "w2"], ["y"], "second", pads=[1, 1, 1, 1]),
    ]
    new, report = equalized(image_model(nodes, weights))
    assert len(report.changed) == 1
    assert weights_of(new)["offset"].shape == (8, 1, 1)


def test_channels_without_weights_keep_their_values() -> None:
    model = conv_pair(bias=False)
    arrays = {name: array.copy() for name, array in weights_of(model).items()}
    arrays["w1"][1] = 0
    arrays["w2"][:, 3] = 0
    set_weights(model, arrays)
    new, report = equalized(model)
    found = weights_of(new)
    assert len(report.changed) == 1
    assert found["w1"][[1, 3]].tolist() == arrays["w1"][[1, 3]].tolist()
    assert found["w2"][:, [1, 3]].tolist() == arrays["w2"][:, [1, 3]].tolist()


@pytest.mark.parametrize("reader", ["output", "second", "subgraph"])
def test_a_tensor_that_others_read_is_not_scaled(reader: str) -> None:
    model = conv_pair(bias=False)
    graph = model.graph
    if reader == "output":
        graph.output.append(image("a"))
    elif reader == "second":
        graph.node.append(node("Neg", ["a"], ["z"]))
        graph.output.append(image("z"))
    else:
        inner = helper.make_graph(
            [node("Neg", ["a"], ["i"])], "inner", [], [models.value("i", None)]
        )
        other = helper.make_graph(
            [node("Abs", ["a"], ["j"])], "other", [], [models.value("j", None)]
        )
        graph.initializer.append(onnx.numpy_helper.from_array(np.array(True), "yes"))
        graph.node.append(
            node("If", ["yes"], ["z"], then_branch=inner, else_branch=other)
        )
        graph.output.append(image("z"))
    _, report = equalized(model)
    assert not report.changed


def test_a_shape_reads_no_values() -> None:
    model = conv_pair(bias=False)
    model.graph.node.append(node("Shape", ["a"], ["z"]))
    model.graph.output.append(models.value("z", [4], onnx.TensorProto.INT64))
    assert len(equalized(model)[1].changed) == 1


def test_shared_weights_stay() -> None:
    model = conv_pair(bias=False)
    model.graph.node.append(node("Conv", ["x", "w1"], ["z"], "other", pads=[1] * 4))
    model.graph.output.append(image("z"))
    _, report = equalized(model)
    assert not report.changed
    assert report.skipped == {"first": "weights that several nodes read"}
    assert (
        report.summary()
        == "equalize: 0 pairs; skipped: 1 weights that several nodes read"
    )


def test_weights_that_a_caller_may_replace_stay() -> None:
    model = conv_pair(bias=False)
    model.graph.input.append(models.value("w1", (8, 6, 3, 3)))
    _, report = equalized(model)
    assert report.skipped == {"first": "weights that are no float32 constant"}


@pytest.mark.parametrize("how", models.HOLDERS)
def test_weights_in_nodes_are_replaced(how: str) -> None:
    model = models.hold(conv_pair(), how)
    new, report = equalized(model)
    assert len(report.changed) == 1
    assert len(weights_of(new)) == 3
    assert not {n.op_type for n in new.graph.node} & {"Constant", "Identity"}


def test_pairs_inside_a_subgraph_are_scaled() -> None:
    model = conv_pair()
    branch = helper.make_graph(
        list(model.graph.node), "branch", [], [models.value("y", None)]
    )
    other = helper.make_graph(
        [node("Neg", ["x"], ["j"])], "other", [], [models.value("j", None)]
    )
    weights = weights_of(model) | {"yes": np.array(True)}
    nodes = [node("If", ["yes"], ["z"], then_branch=branch, else_branch=other)]
    outer = models.build(nodes, [models.value("x", IMAGE)], [image("z")], weights)
    changed, report = equalize(outer, images())
    assert len(report.changed) == 1
    for want, got in zip(
        run_all(outer, images(), "z"),
        run_all(changed.proto, images(), "z"),
        strict=True,
    ):
        np.testing.assert_allclose(got, want, rtol=1e-3, atol=1e-4 * np.abs(want).max())


def test_a_second_equalization_changes_nothing() -> None:
    once, _ = equalized(conv_pair())
    twice, report = equalized(once)
    assert report.changed[0].largest == pytest.approx(1, abs=1e-4)
    for name, array in weights_of(once).items():
        np.testing.assert_allclose(weights_of(twice)[name], array, rtol=1e-4)


def test_the_same_model_gives_the_same_bytes() -> None:
    one, other = (equalize(conv_pair(), images())[0].proto for _ in range(2))
    assert one.SerializeToString() == other.SerializeToString()


def test_external_weights_are_read_and_kept_outside(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from quantcal.onnx._correct import float_copy

    monkeypatch.setattr(float_copy, "_MANY_BYTES", 1)
    model = conv_pair()
    onnx.save_model(
        conv_pair(),
        str(tmp_path / "m.onnx"),
        save_as_external_data=True,
        location="m.data",
        size_threshold=0,
    )
    before = (tmp_path / "m.data").read_bytes()
    changed, report = equalize(load_light(tmp_path / "m.onnx"), images())
    assert len(report.changed) == 1
    assert changed.folder not in (None, tmp_path)
    assert (tmp_path / "m.data").read_bytes() == before
    inline, _ = equalize(model, images())
    assert changed.folder is not None
    onnx.load_external_data_for_model(changed.proto, str(changed.folder))
    for name, array in weights_of(inline.proto).items():
        assert weights_of(changed.proto)[name].tolist() == array.tolist()


def test_a_changed_function_is_refused_with_the_figure(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real = equalization.equal_factors

    def wrong(pairs: Any, copy: Any) -> Any:
        found = real(pairs, copy)
        pairs[0].shifts.clear()
        return found

    monkeypatch.setattr(equalization, "equal_factors", wrong)
    model = conv_pair()
    before = model.SerializeToString()
    with pytest.raises(CalibrationError, match=r"'y' differs by [0-9.]+% of its size"):
        equalize(model, images())
    assert model.SerializeToString() == before


def test_without_samples_random_inputs_of_fixed_shapes_verify() -> None:
    with pytest.raises(CalibrationError, match="no samples to verify"):
        equalize(conv_pair())
    fixed = conv_pair()
    fixed.graph.input[0].CopyFrom(models.value("x", (1, 6, 5, 5)))
    assert len(equalize(fixed)[1].changed) == 1
