"""The loss of outputs against a plain oracle, and its laws: the float model 0, a constant 1."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import quantcal as qc
from quantcal.onnx._runtime.kept_samples import KeptSamples
from quantcal.onnx._trial.judge import Judge
from quantcal.onnx._trial.metric_judge import MetricJudge
from quantcal.onnx._trial.trials import interval

Array = np.ndarray[Any, Any]
Outputs = list[list[Any]]


def judge_of(outputs: Outputs, names: list[str]) -> Judge:
    judge = Judge(names)
    for each in outputs:
        judge.add(each)
    judge.settle()
    return judge


def loss(judge: Judge, outputs: Outputs) -> float:
    damage = np.array([judge.damage(i, each) for i, each in enumerate(outputs)])
    return judge.loss(damage, range(len(outputs)))


def softmax(x: Array) -> Array:
    powers = np.exp(x - x.max(-1, keepdims=True))
    made: Array = powers / powers.sum(-1, keepdims=True)
    return made


def drawn(count: int, *shape: int, seed: int = 0) -> list[Array]:
    rng = np.random.default_rng(seed)
    return [rng.standard_normal(shape).astype(np.float32) for _ in range(count)]


def kl(p: Array, q: Array) -> float:
    total = 0.0
    for row, other in zip(
        p.reshape(-1, p.shape[-1]), q.reshape(-1, p.shape[-1]), strict=True
    ):
        total += sum(
            float(a) * math.log(a / b) for a, b in zip(row, other, strict=True)
        )
    return total


def test_values_are_judged_by_squared_error_over_variance() -> None:
    wanted, noise = drawn(5, 3, 4), drawn(5, 3, 4, seed=1)
    found = [w + 0.1 * n for w, n in zip(wanted, noise, strict=True)]
    judge = judge_of([[w] for w in wanted], ["y"])
    every = np.concatenate(wanted).astype(np.float64)
    error = np.square(np.concatenate(found) - every).sum()
    expected = error / np.square(every - every.mean()).sum()
    assert loss(judge, [[f] for f in found]) == pytest.approx(expected)
    assert judge.measures == {"y": "squared error"}


@pytest.mark.parametrize(
    ("name", "given"),
    [("y", softmax), ("logits", lambda x: 3 * x), ("start_Logits:0", lambda x: x)],
)
def test_classes_are_judged_by_kl_over_mutual_information(
    name: str, given: Callable[[Array], Array]
) -> None:
    scores = drawn(6, 2, 5)
    found = [s + 0.2 * n for s, n in zip(scores, drawn(6, 2, 5, seed=1), strict=True)]
    judge = judge_of([[given(s)] for s in scores], [name])
    assert judge.measures == {name: "KL"}

    def rows(each: list[Array]) -> Array:
        made = [given(one).astype(np.float64) for one in each]
        probabilities = np.concatenate(made)
        return probabilities if name == "y" else softmax(probabilities)

    p, q = rows(scores), rows(found)
    expected = kl(p, q) / kl(p, np.broadcast_to(p.mean(0), p.shape))
    assert loss(judge, [[given(f)] for f in found]) == pytest.approx(expected, rel=1e-4)


def test_logits_of_one_sample_between_0_and_1_are_logits_too() -> None:
    outputs: Outputs = [[np.array([[0.2, 0.3]])], [np.array([[5.0, -2.0]])]]
    assert judge_of(outputs, ["logits"]).measures == {"logits": "KL"}


def test_images_and_rows_of_changing_width_are_values() -> None:
    pixels: Outputs = [[each] for each in drawn(3, 1, 4, 6, 6)]
    assert judge_of(pixels, ["logits"]).measures == {"logits": "squared error"}
    rows: Outputs = [[softmax(drawn(1, 1, width)[0])] for width in (3, 5, 4)]
    judge = judge_of(rows, ["scores"])
    assert judge.measures == {"scores": "squared error"}
    assert loss(judge, rows) == 0


def test_labels_count_only_if_there_is_nothing_else() -> None:
    labels = [np.array([k, k + 1]) for k in range(4)]
    alone = judge_of([[each] for each in labels], ["label"])
    assert alone.measures == {"label": "disagreement"}
    wrong = [np.array([k, 0]) for k in range(4)]
    assert loss(alone, [[each] for each in wrong]) == pytest.approx(4 / 8)
    scores = drawn(4, 1, 3)
    both: Outputs = [[one, other] for one, other in zip(labels, scores, strict=True)]
    judge = judge_of(both, ["label", "y"])
    assert judge.measures == {"y": "squared error"}
    assert loss(judge, [[one, s] for one, s in zip(wrong, scores, strict=True)]) == 0


def test_the_worst_output_counts() -> None:
    one, other = drawn(4, 3), drawn(4, 3, seed=1)
    judge = judge_of([list(pair) for pair in zip(one, other, strict=True)], ["a", "b"])
    small = [[a + 0.01, b] for a, b in zip(one, other, strict=True)]
    large = [[a + 0.01, b + 1] for a, b in zip(one, other, strict=True)]
    damage = np.array([judge.damage(i, each) for i, each in enumerate(large)])
    losses = judge.losses(damage, range(4))
    assert loss(judge, large) == losses["b"] == max(losses.values())
    assert losses["a"] == pytest.approx(loss(judge, small))


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("name", ["y", "logits", "p"])
def test_outputs_that_are_not_finite_lose_everything(name: str, bad: float) -> None:
    given = softmax if name == "p" else np.asarray
    outputs: Outputs = [[given(each)] for each in drawn(3, 2, 4)]
    judge = judge_of(outputs, [name])
    broken = [[each[0].copy()] for each in outputs]
    broken[1][0][0, 2] = bad
    assert loss(judge, broken) == math.inf
    everywhere = [[np.full_like(each[0], bad)] for each in outputs]
    assert loss(judge, everywhere) == math.inf


def test_what_is_not_finite_in_the_float_model_is_not_compared() -> None:
    outputs: Outputs = [[each] for each in drawn(3, 4)]
    outputs[0][0][1] = math.nan
    outputs[1][0][2] = math.inf
    judge = judge_of(outputs, ["y"])
    assert loss(judge, outputs) == 0
    shifted = [[np.nan_to_num(each[0], posinf=7.0) + 1] for each in outputs]
    assert 0 < loss(judge, shifted) < math.inf


def test_an_output_that_never_varies_loses_all_by_any_damage() -> None:
    outputs: Outputs = [[np.ones((2, 3), np.float32)] for _ in range(3)]
    judge = judge_of(outputs, ["y"])
    assert loss(judge, outputs) == 0
    assert loss(judge, [[each[0] + 1e-3] for each in outputs]) == math.inf


@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (0,)])
@pytest.mark.parametrize("given", [softmax, np.asarray], ids=["classes", "values"])
def test_empty_outputs_say_nothing(
    shape: tuple[int, ...], given: Callable[[Array], Array]
) -> None:
    outputs: Outputs = [[given(each)] for each in drawn(3, 2, 3)]
    empty: Outputs = [[np.zeros(shape, np.float32)]]
    full = judge_of(outputs, ["y"])
    judge = judge_of([*empty, *outputs, *empty], ["y"])
    assert judge.measures == full.measures
    found = [[each[0] * 0.9] for each in outputs]
    assert loss(judge, [*empty, *found, *empty]) == pytest.approx(loss(full, found))
    assert loss(judge_of(empty, ["y"]), empty) == 0


def test_another_shape_is_refused_by_name() -> None:
    judge = judge_of([[np.zeros((2, 3))]], ["scores"])
    with pytest.raises(qc.CalibrationError, match=r"'scores' has shape \[2, 3\]"):
        judge.damage(0, [np.zeros((2, 4))])


@given(
    seed=st.integers(0, 1000),
    kind=st.sampled_from(["values", "half", "probabilities", "logits"]),
    samples=st.integers(2, 6),
)
def test_the_float_model_loses_nothing_and_a_constant_loses_all(
    seed: int, kind: str, samples: int
) -> None:
    made = drawn(samples, 3, 4, seed=seed)
    if kind == "probabilities":
        made = [softmax(4 * each) for each in made]
    if kind == "half":  # the sum of probabilities is not exactly 1
        made = [softmax(4 * each).astype(np.float16) for each in made]
    outputs: Outputs = [[each] for each in made]
    judge = judge_of(outputs, ["logits" if kind == "logits" else "y"])
    assert loss(judge, outputs) == 0
    rows = np.concatenate(made).astype(np.float64)
    if kind == "logits":
        mean: Any = np.log(softmax(rows).mean(0))
    elif kind == "values":
        mean = rows.mean()
    else:
        mean = (rows / rows.sum(1, keepdims=True)).mean(0)
    constant = [[np.broadcast_to(mean, each.shape)] for each in made]
    assert loss(judge, constant) == pytest.approx(1.0)


def test_the_interval_holds_the_loss_and_is_the_same_each_time() -> None:
    wanted = drawn(12, 4)
    judge = judge_of([[w] for w in wanted], ["y"])
    damage = np.array([judge.damage(i, [w * 0.9]) for i, w in enumerate(wanted)])
    low, high = interval(judge, damage, range(12))
    assert low <= judge.loss(damage, range(12)) <= high
    assert interval(judge, damage, range(12)) == (low, high)
    assert interval(judge, damage[:1], [0]) == (0.0, math.inf)


def metric_judge(metric: Callable[..., Any], outputs: Outputs) -> MetricJudge:
    kept = KeptSamples(1, 8, number_of=lambda number: 10 * number)
    for number in range(len(outputs)):
        kept.add(number, {"x": np.array([number], np.float32)})
    judge = MetricJudge(["y"], metric, kept)
    for each in outputs:
        judge.add(each)
    judge.settle()
    return judge


def test_a_metric_gets_the_callers_numbers_and_its_drop_is_the_loss() -> None:
    seen: list[tuple[int, float]] = []

    def metric(number: int, feed: dict[str, Any], made: dict[str, Any]) -> Any:
        seen.append((number, float(feed["x"][0])))
        return {"first": float(made["y"][0]), "second": -1.0}

    outputs: Outputs = [[np.array([2.0])], [np.array([4.0])], [np.array([3.0])]]
    judge = metric_judge(metric, outputs)
    assert seen == [(0, 0.0), (10, 1.0), (20, 2.0)]
    less = [[each[0] - 0.5] for each in outputs]
    damage = np.array([judge.damage(i, each) for i, each in enumerate(less)])
    assert judge.mean_drop(damage) == pytest.approx(0.5)
    assert 0.5 < judge.loss(damage, range(3)) <= 0.501
    assert judge.float_mean(range(3)) == pytest.approx(3.0)


def test_a_metric_that_is_not_finite() -> None:
    def metric(number: int, feed: dict[str, Any], made: dict[str, Any]) -> float:
        return float(made["y"][0])

    judge = metric_judge(metric, [[np.array([1.0])]])
    assert judge.loss(judge.damage(0, [np.array([np.nan])])[None], [0]) == math.inf
    with pytest.raises(qc.CalibrationError, match="sample 0: the metric of the float"):
        metric_judge(metric, [[np.array([np.nan])]])
    with pytest.raises(
        qc.CalibrationError, match="sample 0: the metric failed on the fl"
    ):
        metric_judge(lambda *_: "text", [[np.array([1.0])]])
