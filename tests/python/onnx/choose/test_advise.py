"""`qc.onnx.advise`: names planted nodes, and what it promises holds in the written model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import onnx_models as models
import planted_models as planted
import quantcal as qc
from quantcal.advice.result import Advice
from quantcal.onnx._trial.judge import Judge

MODEL = planted.mlp(guilty=2)
SAMPLES = planted.feeds(12)


def advise(samples: Any = SAMPLES, model: Any = MODEL, **options: Any) -> Advice:
    options = {"strategy": "mse", "progress": False, **options}
    return qc.onnx.advise(model, samples, **options)


@pytest.mark.parametrize("guilty", [0, 2, 4])
def test_the_guilty_node_is_named_and_leaving_it_in_float_helps(
    guilty: int, tmp_path: Path
) -> None:
    model = planted.mlp(guilty=guilty)
    advice = advise(model=model)
    assert advice.exclude == (f"layer{guilty + 1}",)
    assert advice.loss_after < 0.05 < 0.5 < advice.loss
    assert advice.tensors[0].name == f"h{guilty}"
    assert f"layer{guilty + 1}" in advice.tensors[0].nodes
    best = advice.tensors[0].remedies[0]
    assert best.name in ("float", "16 bits")
    assert best.loss < 0.1 * advice.loss
    assert advice.samples == len(SAMPLES) // 2
    assert advice.method == "squared error"
    path = tmp_path / "q.onnx"
    result = qc.onnx.quantize(
        model, path, SAMPLES, strategy="mse", exclude=advice.exclude
    )
    assert result.quantized_nodes == {"MatMul": 5}
    judge = Judge(["y"])
    fresh = planted.feeds(16, seed=9)
    for feed in fresh:
        judge.add(models.outputs(model, feed, ["y"]))
    judge.settle()
    session = models.session(str(path), exact=True)
    damage = [judge.damage(i, session.run(["y"], f)) for i, f in enumerate(fresh)]
    assert judge.loss(np.array(damage), range(16)) < 0.05


def test_auto_is_settled_before_nodes_are_measured() -> None:
    advice = advise(strategy="auto")
    assert advice.exclude == ("layer3",)
    assert advice == advise(strategy="auto")


def test_a_metric_can_decide() -> None:
    def metric(number: int, feed: dict[str, Any], outputs: dict[str, Any]) -> float:
        assert np.array_equal(feed["x"], SAMPLES[number]["x"])
        exact = models.outputs(MODEL, feed, ["y"])[0]
        return -float(np.square(exact - outputs["y"]).mean())

    advice = advise(metric=metric)
    assert advice.exclude == ("layer3",)
    assert advice.method == "metric"


def test_a_healthy_model_gets_no_advice_that_hurts() -> None:
    advice = advise(model=planted.mlp(layers=3))
    assert advice.loss_after <= advice.loss < 0.05


@pytest.mark.parametrize(
    ("limits", "most"),
    [
        ({"keep_float": 0}, 0),
        ({"keep_float": 2}, 2),
        ({"budget": 0.0}, 0),
        ({"budget": "20%"}, 1),
        ({"budget": 0.34, "keep_float": 1}, 1),
        ({"budget": 0.1, "budget_of": "weights"}, 0),
        ({"budget": "17%", "budget_of": "weights"}, 1),
    ],
)
def test_limits_are_kept(limits: dict[str, Any], most: int) -> None:
    advice = advise(**limits)
    assert len(advice.exclude) <= most
    assert ("layer3" in advice.exclude) == (most > 0)
    shares = advice.float_share
    assert set(shares) == {"nodes", "weights", "multiply-adds"}
    assert shares["nodes"] == pytest.approx(len(advice.exclude) / 6)


def never() -> Any:
    """Fail when the first sample is asked for."""
    pytest.fail("a sample was read")
    yield {}


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"budget": "much"}, "'much' is no share"),
        ({"budget": 1.5}, "1.5 is no share"),
        ({"budget": True}, "True is no share"),
        ({"budget_of": "bytes"}, "budget_of is 'bytes'"),
        ({"keep_float": -1}, "keep_float is -1"),
        ({"keep_float": 1.5}, "keep_float is 1.5"),
        ({"most_samples": 1}, "most_samples is 1"),
        ({"time_limit": -1}, "time_limit is -1"),
        ({"time_limit": "long"}, "time_limit is 'long'"),
        ({"metric": 3}, "metric is 3"),
        ({"metric": "python:no_such:f"}, "no_such"),
        ({"activation_type": "none"}, "advise.. looks at activations"),
    ],
)
def test_wrong_options_are_refused_before_samples_run(
    wrong: dict[str, Any], message: str
) -> None:
    with pytest.raises(qc.CalibrationError, match=message):
        advise(never(), **wrong)


def test_one_sample_is_refused() -> None:
    with pytest.raises(
        qc.CalibrationError, match="There is 1 sample, but advice needs"
    ):
        advise(SAMPLES[:1])


def test_two_samples_are_enough() -> None:
    assert advise(SAMPLES[:2]).samples == 1


def test_no_time_gives_a_note() -> None:
    advice = advise(time_limit=0)
    assert advice.exclude == ()
    assert "the time limit ended the search early" in advice.notes
