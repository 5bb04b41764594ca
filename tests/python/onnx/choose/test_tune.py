"""`qc.onnx.tune`: keeps a promise with few nodes in float, checked on held-out samples."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any, cast

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st

import onnx_models as models
import planted_models as planted
import quantcal as qc
from quantcal.onnx._choose.auto_choice import choose_ranges
from quantcal.onnx._choose.candidates import find_auto
from quantcal.onnx._choose.held_out import HeldOut
from quantcal.onnx._choose.joint_trials import JointTrials
from quantcal.onnx._choose.promise import Promise
from quantcal.onnx._choose.tuning import TuneSearch
from quantcal.onnx._runtime.samples import as_samples
from quantcal.onnx._trial.judge import Judge
from quantcal.strategies.policy import Policy

EASY = planted.mlp(layers=3)
GUILTY = planted.mlp(guilty=2)


def tune(folder: Path, model: Any, samples: Any, **options: Any) -> Any:
    options = {"strategy": "mse", "times": planted.times(model), **options}
    return qc.onnx.tune(model, folder / "t.onnx", samples, progress=False, **options)


def test_an_easy_promise_needs_nothing_in_float(tmp_path: Path) -> None:
    result = tune(tmp_path, EASY, planted.feeds(15), max_drop="5%")
    assert result.kept
    assert result.exclude == ()
    assert 0 < result.drop <= 0.05
    assert (result.samples_deciding, result.samples) == (12, 3)
    assert result.written.quantized_nodes == {"MatMul": 3}
    assert result.in_time
    assert "kept: drop" in result.summary()
    exact = result.evaluation.outputs["y"]["exact"]
    assert exact.sqnr_db > 10
    other = tmp_path / "other.onnx"
    calibrator = qc.onnx.observe(EASY, deciding(planted.feeds(15)))
    qc.onnx.quantize(EASY, other, calibrator=calibrator, strategy="mse")
    assert other.read_bytes() == (tmp_path / "t.onnx").read_bytes()


def deciding(samples: planted.Feeds) -> planted.Feeds:
    return [feed for number, feed in enumerate(samples) if number % 5 != 4]


def test_held_out_samples_are_never_observed(tmp_path: Path) -> None:
    samples = planted.feeds(15)
    extreme = [
        {"x": feed["x"] * (1000 if number % 5 == 4 else 1)}
        for number, feed in enumerate(samples)
    ]
    first = tune(tmp_path, EASY, samples, max_drop="100%")
    second = tune(tmp_path, EASY, extreme, max_drop="100%")
    assert first.written.table == second.written.table
    assert first.drop_deciding == second.drop_deciding
    assert first.drop < 0.1 < 0.5 < second.drop


def test_the_guilty_node_stays_in_float(tmp_path: Path) -> None:
    result = tune(tmp_path, GUILTY, planted.feeds(15), max_drop=0.05)
    assert result.kept
    assert result.exclude == ("layer3",)
    assert result.written.quantized_nodes == {"MatMul": 5}
    written = onnx.load(tmp_path / "t.onnx")
    (node,) = [each for each in written.graph.node if each.name == "layer3"]
    made = {name: each.op_type for each in written.graph.node for name in each.output}
    assert "DequantizeLinear" not in {made.get(name) for name in node.input}
    latency = {p.exclude: p.latency_ms for p in result.points}
    assert latency["layer3",] == latency[()] + 1
    assert result.to_dict()["exclude"] == ["layer3"]


def test_nodes_that_integers_do_not_make_faster_stay_in_float_first(
    tmp_path: Path,
) -> None:
    times = planted.times(GUILTY, slow=("layer1",))
    result = tune(tmp_path, GUILTY, planted.feeds(15), max_drop=0.05, times=times)
    assert result.free == ("layer1",)
    assert result.exclude == ("layer1", "layer3")


@pytest.mark.parametrize("strategy", ["auto", {"h2": "minmax", "*": "mse"}])
def test_rules_for_tensors_that_vanish_are_left_out(
    strategy: Any, tmp_path: Path
) -> None:
    samples = planted.feeds(15)
    result = tune(tmp_path, GUILTY, samples, max_drop=0.05, strategy=strategy)
    assert result.exclude == ("layer3",)
    result.written.save_config(tmp_path / "again.toml")
    known = qc.onnx.read_config(tmp_path / "again.toml")
    again = tmp_path / "again.onnx"
    qc.onnx.quantize(GUILTY, again, deciding(samples), **known)
    assert again.read_bytes() == (tmp_path / "t.onnx").read_bytes()


def test_a_promise_that_cannot_be_kept_is_reported(tmp_path: Path) -> None:
    result = tune(tmp_path, EASY, planted.feeds(10), max_drop=0)
    assert not result.kept
    assert result.drop > 0
    assert "BROKEN" in result.summary()
    assert "no set that was tried keeps the promise" in result.summary()
    assert result.written.output.exists()


def test_a_metric_gets_the_callers_numbers(tmp_path: Path) -> None:
    samples = planted.feeds(15)
    seen = set()

    def metric(number: int, feed: dict[str, Any], outputs: dict[str, Any]) -> float:
        assert np.array_equal(feed["x"], samples[number]["x"])
        seen.add(number)
        exact = models.outputs(EASY, feed, ["y"])[0]
        return 1 - float(np.abs(exact - outputs["y"]).mean())

    options = {"max_drop": "20%", "metric": metric, "strategy": "auto"}
    result = tune(tmp_path, EASY, samples, **options)
    assert seen == set(range(15))
    assert result.measure == "metric"
    assert result.kept
    assert 0 < result.drop < 0.2


def test_the_metric_chooses_the_strategy_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def choose(run: Any, policy: Policy, bits: Any, **more: Any) -> Any:
        asked.append(find_auto(policy))
        return choose_ranges(run, policy, bits, **more)

    def metric(number: int, feed: dict[str, Any], outputs: dict[str, Any]) -> float:
        return float(outputs["y"].sum())

    monkeypatch.setattr("quantcal.onnx.tuner.choose_ranges", choose)
    options = {"metric": metric, "strategy": "auto", "max_drop": "100%"}
    tune(tmp_path, EASY, planted.feeds(10), **options)
    assert [auto.metric for auto in asked] == [metric]


def test_no_time_writes_the_model_as_it_is(tmp_path: Path) -> None:
    result = tune(tmp_path, GUILTY, iter(planted.feeds(10)), time_limit=0)
    assert result.exclude == ()
    assert not result.in_time
    assert "allow more time" in result.summary()


@pytest.mark.parametrize("count", [1, 4, 9])
def test_too_few_samples_are_refused(count: int, tmp_path: Path) -> None:
    with pytest.raises(qc.CalibrationError, match=f"There are {count} samples"):
        tune(tmp_path, EASY, planted.feeds(count))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"max_drop": 1}, "max_drop is 1. Give a share below 1"),
        ({"max_drop": "little"}, "max_drop is 'little'"),
        ({"max_drop": -0.1}, "max_drop is -0.1"),
        ({"time_limit": -1}, "time_limit is -1"),
        ({"metric": "python:no_such:f"}, "no_such"),
        ({"activation_type": "none"}, "tune.. looks at activations"),
        ({"times": "/no/such/file.json"}, "/no/such/file.json"),
    ],
)
def test_wrong_options_are_refused_before_samples_run(
    wrong: dict[str, Any], message: str, tmp_path: Path
) -> None:
    def never() -> Any:
        pytest.fail("a sample was read")
        yield {}

    with pytest.raises(qc.CalibrationError, match=message):
        tune(tmp_path, EASY, never(), **wrong)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("ending", ["png", "svg"])
def test_the_picture_shows_what_was_tried(ending: str, tmp_path: Path) -> None:
    from quantcal.report.pareto import save_pareto

    result = tune(tmp_path, GUILTY, planted.feeds(10), max_drop=0.05)
    path = tmp_path / f"tried.{ending}"
    save_pareto(result.plot(), path)
    assert path.stat().st_size > 5000
    axes = result.plot().axes
    assert [a.get_xlabel() for a in axes] == [
        "milliseconds a sample (estimated)",
        "nodes in float",
    ]
    tried = axes[1].lines[0]
    assert sorted(tried.get_ydata()) == sorted(p.drop for p in result.points)
    with pytest.raises(qc.CalibrationError, match=r'cannot end in "\.onnx"'):
        save_pareto(result.plot(), tmp_path / "tried.onnx")


class PlantedJoint:
    """Joint trials in which each guilty node loses 1, and nodes cannot all be in float."""

    def __init__(self, guilty: Collection[str], needed: str) -> None:
        self.indices = [0]
        self._guilty = set(guilty)
        self._needed = needed
        self.ran: list[frozenset[str]] = []

    def can_exclude(self, exclude: Collection[str]) -> bool:
        return self._needed not in exclude

    def damage(self, exclude: Collection[str]) -> Any:
        assert self.can_exclude(exclude)
        self.ran.append(frozenset(exclude))
        return np.array([[float(len(self._guilty - set(exclude)))]])


@given(
    guilty=st.sets(st.integers(0, 8)),
    order=st.permutations(range(10)),
    free=st.lists(st.integers(0, 8), max_size=2, unique=True),
)
def test_exactly_the_guilty_nodes_stay_in_float(
    guilty: set[int], order: list[int], free: list[int]
) -> None:
    judge = Judge(["y"])
    for value in (1.0, -1.0):
        judge.add([np.array([value])])
    judge.settle()
    trials = PlantedJoint({f"n{k}" for k in guilty}, "n9")
    search = TuneSearch(
        cast("JointTrials", trials),
        Promise(judge, 0.0),
        lambda names: float(len(names)),
    )
    # Without "n9" nothing else can be quantized, as with an Add beside a Conv.
    names = [*(f"n{k}" for k in order if k != 9), "n9", "n10"]
    found = search.search([f"n{k}" for k in free], names)
    wanted = {f"n{k}" for k in guilty}
    if wanted:
        wanted |= {f"n{k}" for k in free} & set(found)
    assert set(found) == wanted
    assert len(trials.ran) == len(set(trials.ran)) == len(search.points)
    assert search.drop(found) == 0
    assert not search.ended_early


@given(count=st.integers(0, 60))
def test_every_fifth_sample_is_held_out(count: int) -> None:
    specs = as_samples([], EASY).inputs
    feeds = [{"x": np.full((1, 8), k, np.float32)} for k in range(count)]
    held = HeldOut(as_samples(feeds, specs), 128)
    given_on = [int(feed["x"][0, 0]) for feed in held]
    kept = [int(held.kept.feed(i)["x"][0, 0]) for i in range(len(held.kept))]
    assert kept == list(range(4, count, 5))
    assert kept == [held.kept.number(i) for i in range(len(held.kept))]
    assert given_on == [k for k in range(count) if k % 5 != 4]
    assert given_on == [held.deciding(i) for i in range(len(given_on))]
    assert len(held) == len(given_on)
    held.kept.close()
