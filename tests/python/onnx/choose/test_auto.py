"""`strategy="auto"` in quantize: what it chooses, repeats, keeps and refuses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import helper

import onnx_models as models
import planted_models as planted
import quantcal as qc
from choosing import opened
from quantcal.onnx._choose.candidates import CANDIDATES
from quantcal.onnx._choose.sensitivity import Suspects, with_partners
from quantcal.onnx._trial.judge import Judge

MODEL = planted.mlp(layers=3)
NAMES = {str(each) for each in CANDIDATES}


def heavy(count: int, seed: int = 1) -> planted.Feeds:
    """Return inputs with rare outliers, so that strategies differ."""
    rng = np.random.default_rng(seed)
    return [
        {"x": rng.standard_t(2, (4, planted.WIDTH)).astype(np.float32)}
        for _ in range(count)
    ]


def quantize(path: Path, samples: Any, model: Any = MODEL, **options: Any) -> Any:
    return qc.onnx.quantize(model, path, samples, progress=False, **options)


def test_it_is_the_default_and_says_what_it_chose(tmp_path: Path) -> None:
    result = quantize(tmp_path / "q.onnx", heavy(12))
    choice = result.choice
    assert choice.strategy in NAMES
    assert {each.strategy for each in choice.losses} == NAMES
    assert choice.losses[0].strategy == choice.strategy
    assert (choice.samples, choice.folds) == (12, 4)
    assert choice.measures == {"y": "squared error"}
    assert 0 < choice.loss <= choice.losses[0].loss < 0.5
    assert {each.tensor for each in choice.worst} <= set(result.table)
    assert set(choice.in_float) <= {each.tensor for each in choice.worst}
    assert choice.loss_without_worst < choice.loss
    for change in choice.changes:
        assert change.after < change.before
        assert {str(choice.policy.match(n)[1]) for n in change.tensors} <= NAMES
    facts = dict(choice.rows())
    assert facts["strategy"].startswith(f"{choice.strategy}: loss ")
    assert f"{choice.strategy}: loss" in result.summary()


@pytest.mark.parametrize("count", [1, 2, 3, 9, 20])
def test_the_written_options_repeat_the_bytes(count: int, tmp_path: Path) -> None:
    first, second, third = (tmp_path / f"{k}.onnx" for k in range(3))
    samples = heavy(count)
    result = quantize(first, samples)
    again = quantize(second, iter(samples))
    assert result.choice == again.choice
    config = tmp_path / "again.toml"
    result.save_config(config)
    fixed = quantize(third, samples, **qc.onnx.read_config(config))
    assert fixed.choice is None
    assert first.read_bytes() == second.read_bytes() == third.read_bytes()
    assert result.choice.folds == (4 if count > 1 else 1)


def test_samples_in_one_buffer_are_the_same_samples(tmp_path: Path) -> None:
    samples = heavy(6)
    buffer = np.zeros_like(samples[0]["x"])

    def stream() -> Any:
        for feed in samples:
            buffer[:] = feed["x"]
            yield {"x": buffer}

    quantize(tmp_path / "a.onnx", samples)
    quantize(tmp_path / "b.onnx", stream())
    assert (tmp_path / "a.onnx").read_bytes() == (tmp_path / "b.onnx").read_bytes()


@pytest.mark.parametrize("seed", range(3))
def test_it_is_as_good_as_the_best_fixed_candidate_on_other_samples(
    seed: int, tmp_path: Path
) -> None:
    model = planted.mlp(layers=3, seed=seed)
    calibrator = qc.Calibrator()
    path = tmp_path / "q.onnx"
    quantize(path, heavy(48, seed), model, calibrator=calibrator)
    others = heavy(64, seed + 100)
    names = ["y"]
    judge = Judge(names)
    for feed in others:
        judge.add(models.outputs(model, feed, names))
    judge.settle()

    def loss() -> float:
        session = models.session(str(path), exact=True)
        damage = [judge.damage(i, session.run(names, f)) for i, f in enumerate(others)]
        return judge.loss(np.array(damage), range(len(others)))

    automatic = loss()
    fixed = []
    for each in CANDIDATES:
        quantize(path, None, model, calibrator=calibrator, strategy=each)
        fixed.append(loss())
    assert automatic <= 1.02 * min(fixed)
    assert max(fixed) > 1.05 * min(fixed)  # or this test could not fail


@pytest.mark.parametrize(("count", "corrected"), [(12, False), (20, True)])
def test_biases_are_corrected_only_where_enough_samples_confirm(
    count: int, corrected: bool, tmp_path: Path
) -> None:
    """Six confirming samples would like it too, but so few mislead."""
    rng = np.random.default_rng(1)
    shape = (4, planted.WIDTH)
    samples = [
        {"x": np.abs(rng.standard_t(3, shape)).astype(np.float32)} for _ in range(count)
    ]
    choice = quantize(
        tmp_path / "q.onnx", samples, strategy=qc.Auto(float_share=0)
    ).choice
    assert (choice.biases is not None) == corrected


def test_only_tensors_with_auto_are_chosen(tmp_path: Path) -> None:
    policy = {"x": "minmax", "*": "auto"}
    result = quantize(tmp_path / "q.onnx", heavy(12), strategy=policy)
    assert result.table["x"].strategy == "minmax"
    assert all("x" not in change.tensors for change in result.choice.changes)
    only_x = quantize(tmp_path / "x.onnx", heavy(12), strategy={"x": "auto", "*": "kl"})
    assert {p.strategy for n, p in only_x.table.items() if n != "x"} == {"kl"}
    assert all(set(change.tensors) == {"x"} for change in only_x.choice.changes)


def test_histograms_alone_take_the_least_squared_error(tmp_path: Path) -> None:
    calibrator = qc.onnx.observe(MODEL, heavy(8))
    first, second = tmp_path / "a.onnx", tmp_path / "b.onnx"
    result = quantize(first, None, calibrator=calibrator)
    quantize(second, None, calibrator=calibrator, strategy="mse")
    assert result.choice is None
    assert 'strategy = "mse"' in result.config
    assert first.read_bytes() == second.read_bytes()


def test_earlier_histograms_belong_to_no_fold(tmp_path: Path) -> None:
    calibrator = qc.onnx.observe(MODEL, heavy(4, seed=9))
    result = quantize(tmp_path / "q.onnx", heavy(6), calibrator=calibrator)
    assert (result.samples, result.choice.samples, result.choice.folds) == (6, 6, 4)


@pytest.mark.parametrize("ran", [1, 5, 9])
def test_a_run_that_continues_tries_its_own_samples(ran: int, tmp_path: Path) -> None:
    samples = heavy(10)

    def interrupted() -> Any:
        yield from samples[:ran]
        raise RuntimeError("the disk is gone")

    path = tmp_path / "q.onnx"
    with pytest.warns(UserWarning, match="kept in"), pytest.raises(RuntimeError):
        quantize(path, interrupted(), checkpoint=qc.onnx.Checkpoint(path))
    (saved,) = tmp_path.glob("*.qcal")
    calibrator, checkpoint = qc.onnx.Checkpoint.resume(saved, path)
    more: Any = {"calibrator": calibrator, "checkpoint": checkpoint}
    result = quantize(path, samples, **more)
    assert (result.samples, result.choice.samples) == (10, 10 - ran)


def test_a_metric_decides_and_gets_the_callers_numbers(tmp_path: Path) -> None:
    seen: set[int] = set()
    samples = heavy(40)

    def metric(number: int, feed: dict[str, Any], outputs: dict[str, Any]) -> float:
        seen.add(number)
        assert np.array_equal(feed["x"], samples[number]["x"])
        return -float(np.abs(outputs["y"]).max())

    auto = qc.Auto(metric=metric, samples=10)
    result = quantize(tmp_path / "q.onnx", samples, strategy=auto)
    assert result.choice.measures == {"y": "metric"}
    assert result.choice.samples == len(seen) <= 10
    assert max(seen) > 20  # spread over all
    assert result.choice.losses[0].loss == min(e.loss for e in result.choice.losses)
    assert result.config is not None  # a callable that no text can hold is replaced


def test_a_metric_that_prefers_the_quantized_model(tmp_path: Path) -> None:
    """The drop is below zero then, for every candidate."""

    def metric(number: int, feed: dict[str, Any], outputs: dict[str, Any]) -> float:
        exact = models.outputs(MODEL, feed, ["y"])[0]
        return float(np.abs(exact - outputs["y"]).sum())

    strategy = qc.Auto(metric=metric)
    choice = quantize(tmp_path / "q.onnx", heavy(20), strategy=strategy).choice
    assert choice.loss < 0
    assert all(each.samples == 20 for each in choice.losses)
    assert "drop -" in dict(choice.rows())["strategy"]
    assert "%" not in dict(choice.rows())["strategy"]


def test_options_of_auto(tmp_path: Path) -> None:
    quick = quantize(tmp_path / "q.onnx", heavy(20), strategy=qc.Auto(time=0))
    assert quick.choice.changes == quick.choice.worst == ()
    few = quantize(tmp_path / "q.onnx", heavy(20), strategy=qc.Auto(samples=8))
    assert few.choice.samples == 8


@pytest.mark.parametrize(
    "wrong",
    [
        *({"samples": value} for value in (0, -1, 2.5, True, "many")),
        *({"time": value} for value in (-1, True, "long", float("nan"))),
        *({"metric": value} for value in (1, [])),
    ],
)
def test_wrong_options_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(qc.CalibrationError, match=f"^{next(iter(wrong))} is "):
        qc.Auto(**wrong)


def test_a_metric_that_cannot_be_imported_is_refused_before_samples_run(
    tmp_path: Path,
) -> None:
    def never() -> Any:
        pytest.fail("a sample was read")
        yield {}

    strategy = qc.Auto(metric="python:no_such_module:f")
    with pytest.raises(qc.CalibrationError, match="no_such_module"):
        quantize(tmp_path / "q.onnx", never(), strategy=strategy)
    assert not list(tmp_path.iterdir())


def test_tensors_that_share_a_range_change_together() -> None:
    """A MaxPool moves codes only if both sides have one scale."""
    weights = {"w1": models.random(4, 3, 3, 3), "w2": models.random(2, 4, 1, 1, seed=2)}
    nodes = [
        helper.make_node("Conv", ["x", "w1"], ["c"], "first"),
        helper.make_node("Relu", ["c"], ["r"]),
        helper.make_node("MaxPool", ["r"], ["p"], kernel_shape=[2, 2]),
        helper.make_node("Conv", ["p", "w2"], ["y"], "second"),
    ]
    shapes = models.value("x", [1, 3, 8, 8]), models.value("y", [1, 2, 5, 5])
    model = models.build(nodes, shapes[:1], shapes[1:], weights)
    samples = [{"x": models.random(1, 3, 8, 8, seed=k)} for k in range(2)]
    with opened(model, samples) as trial:
        names = trial.trials.session.tensors
        sources = trial.begun.run.prepared.plan.sources
    alone = [Suspects((row,), 1.0) for row in range(len(names))]
    grouped = with_partners(alone, names, sources)
    found = [tuple(names[row] for row in each.rows) for each in grouped]
    assert ("r", "p") in found
    assert sorted(name for group in found for name in group) == sorted(names)
