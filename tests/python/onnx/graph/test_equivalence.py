"""The prepared float model computes the same as the original, or an error names the node."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import onnx_models as models
import quantcal as qc
from quantcal.onnx._check import equivalence
from quantcal.onnx._check.rounding import describe, is_rounding
from quantcal.onnx._model import opset
from quantcal.onnx._model.converter_workarounds import HiddenNodes
from quantcal.onnx._model.model import LoadedModel
from quantcal.onnx._options.resolved import Options
from quantcal.onnx._plan import preparation as preparing

SHAPE = (1, 3, 6, 8)


def upsampled(*, shape: Any = SHAPE) -> onnx.ModelProto:
    """Conv → bilinear Upsample of opset 9 → Conv."""
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], "first"),
        helper.make_node("Upsample", ["c", "s"], ["m"], "grow", mode="linear"),
        helper.make_node("Conv", ["m", "v"], ["y"], "second"),
    ]
    weights = {
        "w": models.random(4, 3, 1, 1),
        "v": models.random(2, 4, 1, 1, seed=1),
        "s": np.array([1, 1, 2, 2], np.float32),
    }
    outputs = [models.value("y", [1, 2, "i", "j"])]
    inputs = [models.value("x", list(shape))]
    return models.build(nodes, inputs, outputs, weights, opset=9, ir=4)


@pytest.fixture
def no_workarounds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Use onnx's converter without workarounds."""
    monkeypatch.setattr(opset, "hide_nodes", lambda proto, old, new: HiddenNodes(old))


def samples(read: list[int], count: int = 5) -> Iterator[dict[str, Any]]:
    for seed in range(count):
        read.append(seed)
        yield {"x": models.random(*SHAPE, seed=seed)}


@pytest.mark.usefixtures("no_workarounds")
def test_a_conversion_that_changes_a_tensor_is_refused_before_calibrating(
    tmp_path: Path,
) -> None:
    read: list[int] = []
    output = tmp_path / "q.onnx"
    message = (
        r"from opset 9 to 13 would change it: 'y', which the Upsample node 'grow' and the "
        r"Conv node 'second' make, differs by up to \d.* on sample 0\. Export the model again with opset 13"
    )
    with pytest.raises(qc.CalibrationError, match=message):
        qc.onnx.quantize(
            upsampled(), output, samples(read), progress=False, strategy="mse"
        )
    assert read == [0]
    assert not list(tmp_path.iterdir())
    with pytest.raises(qc.CalibrationError, match="which the Upsample node 'grow' and"):
        qc.onnx.observe(upsampled(), samples([]))


def test_the_sample_of_the_check_is_also_observed(
    tmp_path: Path,
) -> None:
    path = tmp_path / "q.onnx"
    once = qc.onnx.quantize(
        upsampled(), path, samples([]), progress=False, strategy="mse"
    )
    listed = qc.onnx.observe(upsampled(), list(samples([])))
    assert once.samples == 5
    assert listed["x"].count == 5 * np.prod(SHAPE)
    assert once.table == listed.compute("mse", format="uint8")


@pytest.mark.usefixtures("no_workarounds")
@pytest.mark.parametrize(
    "options",
    [{"activation_type": "none", "weight_type": "int4"}, {}],
    ids=["weights", "table"],
)
def test_without_data_the_models_are_compared_on_random_inputs(
    options: dict[str, Any], tmp_path: Path
) -> None:
    def write(model: onnx.ModelProto) -> None:
        if options:
            qc.onnx.quantize(model, tmp_path / "q.onnx", **options)
        else:
            qc.onnx.write(model, tmp_path / "q.onnx", table)

    fixed = qc.QuantParams.from_range(-4.0, 4.0, format="uint8")
    # The converter gives "m" another name.
    table = dict.fromkeys(("x", "c", "m", "_v_9", "y"), fixed)
    with pytest.raises(qc.CalibrationError, match=r"'y', .* on random inputs"):
        write(upsampled())
    assert not list(tmp_path.iterdir())
    write(upsampled(shape=(1, 3, "h", "w")))  # cannot be checked, as the docs say


def test_a_model_that_is_not_rewritten_is_not_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(equivalence, "_Comparison", None)
    images = [{"x": models.random(1, 3, 6, 7)}]
    qc.onnx.quantize(
        models.conv_net(), tmp_path / "q.onnx", images, progress=False, strategy="mse"
    )


def test_a_wrong_folding_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fold = preparing.fold_batch_norms

    def wrong(graph: onnx.GraphProto, *rest: Any) -> None:
        for node in graph.node:
            for attribute in node.attribute:
                if attribute.name == "epsilon":
                    attribute.f = 0.5
        fold(graph, *rest)

    monkeypatch.setattr(preparing, "fold_batch_norms", wrong)
    model = models.batch_norm_net()
    model.graph.node[2].attribute.append(helper.make_attribute("epsilon", 1e-5))
    message = (
        "Preparing the model would change it: 'n', which the Conv node 'conv' and the"
    )
    with pytest.raises(qc.CalibrationError, match=message):
        qc.onnx.quantize(
            model,
            tmp_path / "q.onnx",
            [{"x": models.random(*SHAPE)}],
            progress=False,
            strategy="mse",
        )


def compared(model: onnx.ModelProto, feed: dict[str, Any]) -> list[str]:
    """Check a model, and return the tensors whose nodes were run separately."""
    prepared = preparing.prepare(LoadedModel(model, "the model"), Options.of())
    assert equivalence.is_rewritten(prepared)
    suspects: list[str] = []
    judge = equivalence._Comparison.check_nodes

    def noted(self: Any, names: list[str]) -> None:
        suspects.extend(names)
        judge(self, names)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(equivalence._Comparison, "check_nodes", noted)
        equivalence.check_equivalence(prepared, feed, "sample 0")
    return suspects


def folded(*after: onnx.NodeProto, kind: int = TensorProto.FLOAT) -> onnx.ModelProto:
    """Conv → BatchNormalization → more nodes up to ``y``. Folding rounds ``n``."""
    norm = {
        "gain": np.full(4, 30000.0, np.float32),
        "shift": models.random(4, seed=4),
        "mean": models.random(4, seed=5),
        "var": np.abs(models.random(4, seed=6)) + 0.5,
    }
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], "conv"),
        helper.make_node("BatchNormalization", ["c", *norm], ["n"], "norm"),
        *after,
    ]
    outputs = [models.value("y", list("abcd"), kind)]
    weights = {"w": models.random(4, 3, 3, 3), **norm}
    return models.build(nodes, [models.value("x", list(SHAPE))], outputs, weights)


def test_rounding_may_be_amplified_by_later_nodes() -> None:
    """exp turns a relative error of 1e-7 at 1e5 into one of 1e-2."""
    nodes = [
        helper.make_node("Abs", ["n"], ["a"]),
        helper.make_node("Neg", ["a"], ["b"]),
        helper.make_node("Exp", ["b"], ["e"]),
        helper.make_node("Log", ["e"], ["l"]),
        helper.make_node("Relu", ["l"], ["y"]),
    ]
    feed = {"x": models.random(*SHAPE)}
    # Floor is exact or off by one, depending on the rounding.
    steps = [
        helper.make_node("Floor", ["n"], ["f"]),
        helper.make_node("Sin", ["n"], ["y"]),
    ]
    assert compared(folded(*nodes), feed) == []  # exp underflows to 0
    assert compared(folded(*steps), feed) == ["y"]


def test_nodes_that_amplify_rounding_are_run_separately() -> None:
    nodes = [
        helper.make_node("Sin", ["n"], ["s"]),
        helper.make_node("ArgMax", ["s"], ["k"], axis=3),
        helper.make_node("Cast", ["k"], ["y"], to=TensorProto.FLOAT),
    ]
    suspects = compared(folded(*nodes), {"x": models.random(*SHAPE)})
    assert suspects[0] == "s"


def test_random_numbers_are_not_compared() -> None:
    nodes = [
        helper.make_node("RandomNormalLike", ["n"], ["r"]),
        helper.make_node("Add", ["n", "r"], ["y"]),
    ]
    assert compared(folded(*nodes), {"x": models.random(*SHAPE)}) == []


def test_groups_bound_the_memory_and_change_nothing() -> None:
    model = upsampled()
    prepared = preparing.prepare(LoadedModel(model, "the model"), Options.of())
    feed = {"x": models.random(*SHAPE)}
    equivalence.check_equivalence(prepared, feed, "sample 0", max_memory=1)


@pytest.mark.parametrize(
    ("want", "got", "same"),
    [
        ([1.0, 2.0], [1.0, 2.0], True),
        ([1.0, 2.0], [1.0, 2.001], True),
        ([1.0, 2.0], [1.0, 2.1], False),
        ([1.0, 0.0], [1.0, 1e-4], True),  # beside values of 1
        ([0.0, 0.0], [0.0, 1e-9], False),  # beside nothing
        ([1.0, np.nan], [1.0, np.nan], True),
        ([1.0, np.inf], [1.0001, np.inf], True),
        ([1.0, np.inf], [1.0, -np.inf], False),
        ([1.0, np.inf], [1.0, 3.0], False),
        ([1.0, 3.0], [1.0, np.nan], False),
        ([3e38, 3e38], [3e38, 2.9999e38], True),
        ([3e38, 1.0], [3e38, -3e38], False),
        ([], [], True),
    ],
)
def test_rounding_is_a_thousandth(
    want: list[float], got: list[float], same: bool
) -> None:
    arrays = np.array(want, np.float32), np.array(got, np.float32)
    assert is_rounding(*arrays) is same
    if not same:
        assert describe(*arrays)


def test_integers_shapes_and_types_must_be_equal() -> None:
    whole = np.arange(4)
    assert is_rounding(whole, whole)
    assert not is_rounding(whole, whole + 1)
    assert "at 4 of 4 places" in describe(whole, whole + 1)
    one = np.ones(3, np.float32)
    assert not is_rounding(one, one.astype(np.float64))
    assert "float64 instead of float32" in describe(one, one.astype(np.float64))
    assert not is_rounding(one, one[:1])
    assert "shape [1] instead of [3]" in describe(one, one[:1])


def test_the_remainder_of_terms_that_cancel_may_be_rounding() -> None:
    zero, dust = np.zeros(3, np.float32), np.full(3, 1e-7, np.float32)
    assert not is_rounding(zero, dust)
    assert is_rounding(zero, dust, [np.ones(2, np.float32)])
