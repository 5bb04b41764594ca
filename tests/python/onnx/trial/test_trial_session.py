"""Trial sessions: the written model's results, bit for bit, with grids that change."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import helper
from python.helpers import onnx_models as models

import quantcal as qc
from quantcal.onnx._model.model import load_light
from quantcal.onnx._observe.ranges import compute_ranges
from quantcal.onnx._options.cpu import WeightBits
from quantcal.onnx._options.quantize_options import QuantizeOptions
from quantcal.onnx._options.resolved import Options
from quantcal.onnx._plan.preparation import prepare
from quantcal.onnx._trial.trial_session import TrialSession, only, without
from quantcal.strategies import Policy

BITS = WeightBits(False, "for a test")
MODELS = {
    "conv": models.conv_net(),
    "batch norm": models.batch_norm_net(),
    "residual": models.residual(),
    "gated": models.residual(gated=True),
    "branches": models.if_net(),
    "outside": models.if_net(outside=True),
}


def feeds(model: onnx.ModelProto, count: int = 5) -> list[dict[str, Any]]:
    """Return random inputs of a model."""
    rng = np.random.default_rng(3)
    made = []
    for number in range(count):
        feed: dict[str, Any] = {}
        for value in model.graph.input:
            kind = value.type.tensor_type
            shape = [
                d.dim_value or (1, 3, 6, 6)[i] for i, d in enumerate(kind.shape.dim)
            ]
            if kind.elem_type == onnx.TensorProto.BOOL:
                feed[value.name] = np.array(number % 2 == 0).reshape(shape)
            else:
                feed[value.name] = rng.standard_normal(shape).astype(np.float32)
        made.append(feed)
    return made


class Opened:
    """A model, its ranges, the written copy and a trial session."""

    def __init__(
        self,
        model: onnx.ModelProto,
        folder: Path,
        *,
        operators: bool = True,
        float_weights: bool = False,
        **options: Any,
    ) -> None:
        self.feeds = feeds(model)
        calibrator = qc.onnx.observe(model, self.feeds, **options)
        path = folder / "quantized.onnx"
        qc.onnx.quantize(
            model,
            path,
            calibrator=calibrator,
            strategy="minmax",
            reduce_range=False,
            **options,
        )
        config = ort.SessionOptions()
        config.add_session_config_entry("session.disable_quant_qdq", "1")
        self.exact = ort.InferenceSession(path, config)
        self.float = ort.InferenceSession(model.SerializeToString())
        prepared = prepare(load_light(model), Options.of(QuantizeOptions(**options)))
        self.table = compute_ranges(calibrator, Policy.of("minmax"), prepared)
        self.trial = TrialSession(
            prepared,
            self.table,
            BITS,
            operators=operators,
            float_weights=float_weights,
        )
        self.grids = self.trial.grids(self.table)


def same(first: list[Any], second: list[Any]) -> None:
    """Compare outputs bit for bit."""
    for one, other in zip(first, second, strict=True):
        assert one.tobytes() == other.tobytes()


@pytest.mark.parametrize("operators", [True, False])
@pytest.mark.parametrize("name", MODELS)
def test_a_trial_gives_the_bits_of_the_written_model(
    name: str, operators: bool, tmp_path: Path
) -> None:
    opened = Opened(MODELS[name], tmp_path, operators=operators)
    for feed in opened.feeds:
        wanted = opened.exact.run(opened.trial.outputs, feed)
        same(opened.trial.run(feed, opened.grids), wanted)


@pytest.mark.parametrize("kind", ["int8", "uint16", "int16", "float8_e4m3fn"])
def test_every_format_gives_the_bits_of_the_written_model(
    kind: str, tmp_path: Path
) -> None:
    opened = Opened(models.conv_net(), tmp_path, activation_type=kind)
    for feed in opened.feeds:
        wanted = opened.exact.run(opened.trial.outputs, feed)
        same(opened.trial.run(feed, opened.grids), wanted)


@pytest.mark.parametrize("operators", [True, False])
def test_with_all_switched_off_and_float_weights_it_is_the_float_model(
    operators: bool, tmp_path: Path
) -> None:
    opened = Opened(
        models.conv_net(), tmp_path, operators=operators, float_weights=True
    )
    feed = opened.feeds[0]
    same(
        opened.trial.run(feed, np.zeros_like(opened.grids)),
        opened.float.run(opened.trial.outputs, feed),
    )


def test_a_tensor_switched_off_changes_the_result_and_back_again(
    tmp_path: Path,
) -> None:
    opened = Opened(models.conv_net(), tmp_path)
    feed = opened.feeds[0]
    rows = opened.trial.rows(["x"])
    whole = opened.trial.run(feed, opened.grids)
    other = opened.trial.run(feed, without(opened.grids, rows))
    alone = opened.trial.run(feed, only(opened.grids, rows))
    assert not np.array_equal(whole[0], other[0])
    assert not np.array_equal(alone[0], other[0])
    same(opened.trial.run(feed, opened.grids), whole)


def test_operators_and_the_plain_form_agree_for_any_grids(tmp_path: Path) -> None:
    model = models.residual()
    first = Opened(model, tmp_path)
    second = Opened(model, tmp_path, operators=False)
    rng = np.random.default_rng(5)
    for feed in first.feeds:
        grids = first.grids.copy()
        grids[:, 0] *= rng.uniform(0.3, 2.0, len(grids)).astype(np.float32)
        grids[rng.integers(len(grids))] = 0
        same(first.trial.run(feed, grids), second.trial.run(feed, grids))


def test_a_tensor_with_equal_twins_is_not_rounded_for_its_twin(tmp_path: Path) -> None:
    """Both Adds compute the same, so onnxruntime may merge them into one."""
    weights = {"w": models.random(3, 3), "v": models.random(3, 3, seed=2)}
    weights["b"] = models.random(3, seed=4)
    nodes = [
        helper.make_node("Add", ["x", "b"], ["one"]),
        helper.make_node("Add", ["x", "b"], ["two"]),
        helper.make_node("MatMul", ["one", "w"], ["m"]),
        helper.make_node("MatMul", ["two", "v"], ["n"]),
        helper.make_node("Add", ["m", "n"], ["y"]),
    ]
    shape = models.value("x", [2, 3]), models.value("y", [2, 3])
    opened = Opened(models.build(nodes, shape[:1], shape[1:], weights), tmp_path)
    feed = opened.feeds[0]
    grids = without(opened.grids, opened.trial.rows(["one"]))
    coarse = opened.trial.rows(["two"])
    grids[coarse, 0] *= 40
    got = opened.trial.run(feed, grids)[0]
    x = feed["x"] + weights["b"]
    scale, zero = grids[coarse[0], :2]
    two = (np.clip(np.rint(x / scale) + zero, 0, 255) - zero) * scale
    wanted = x @ weights["w"] + two @ weights["v"]
    np.testing.assert_allclose(got, wanted, rtol=0.05, atol=0.05)
