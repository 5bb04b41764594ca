"""What is chosen by trials, where it is known what is best: folds, candidates, changes."""

from __future__ import annotations

import math
from typing import Any, cast

import numpy as np
import pytest

import planted_models as planted
import quantcal as qc
from choosing import PlantedTrials, flat, opened
from quantcal.onnx._choose.candidates import pattern_of, with_tensors
from quantcal.onnx._choose.improvement import improve
from quantcal.onnx._choose.pick import compare
from quantcal.onnx._choose.sensitivity import Suspects, find_suspects
from quantcal.onnx._trial.trials import Trials
from quantcal.strategies.auto import FOLDS
from quantcal.strategies.policy import Policy

MODEL = planted.mlp(layers=3)


@pytest.mark.parametrize("fold", range(FOLDS))
def test_the_grids_of_a_fold_do_not_depend_on_its_samples(fold: int) -> None:
    samples = planted.feeds(8)
    with opened(MODEL, samples) as before:
        first = before.grids(Policy.of("minmax"))
        whole = before.begun.run.calibrator
        merged = sum(before.begun.run.parts)
        assert {n: whole.stats(n) for n in whole} == {n: merged.stats(n) for n in whole}
    other = [
        {"x": feed["x"] * (50 if number % FOLDS == fold else 1)}
        for number, feed in enumerate(samples)
    ]
    with opened(MODEL, other) as after:
        second = after.grids(Policy.of("minmax"))
    for each in range(FOLDS):
        same = first[each].tobytes() == second[each].tobytes()
        assert same == (each == fold)


def test_one_sample_has_the_grids_of_all() -> None:
    with opened(MODEL, planted.feeds(1)) as one:
        grids = one.grids(Policy.of("minmax"))
    assert len(grids) == 1


def test_damage_of_a_sample_is_computed_with_the_grids_of_its_fold() -> None:
    with opened(MODEL, planted.feeds(6)) as trial:
        grids = trial.grids(Policy.of("minmax"))
        off = [np.zeros_like(each) for each in grids]
        for fold in range(FOLDS):
            mixed = [grids[k] if k == fold else off[k] for k in range(FOLDS)]
            damage = trial.trials.damage(mixed, trial.trials.indices)
            whole = trial.trials.damage(grids, trial.trials.indices)
            nothing = trial.trials.damage(off, trial.trials.indices)
            for index in trial.trials.indices:
                wanted = whole if trial.kept.fold(index) == fold else nothing
                assert damage[index] == wanted[index]


def compared(
    damage: dict[float, float], count: int
) -> tuple[PlantedTrials, list[Any], dict[str, Any]]:
    trials = PlantedTrials(lambda grids, *_: damage[float(grids.flat[0])], count)
    grids = {f"candidate {value:g}": flat(value) for value in damage}
    found, finalists = compare(cast("Trials", trials), grids)
    return trials, found, finalists


def test_the_best_candidate_comes_first_and_hopeless_ones_stop_early() -> None:
    trials, found, finalists = compared({1: 0.2, 2: 0.1, 3: 0.9, 4: 0.25}, 32)
    assert [each.strategy for each in found] == [f"candidate {k}" for k in (2, 1, 4, 3)]
    assert [each.samples for each in found] == [32, 16, 16, 8]
    assert found[0].loss == pytest.approx(0.1)
    assert found[0].low <= found[0].loss <= found[0].high
    assert "candidate 3" not in finalists
    ran = [index for value, index in trials.ran if value == 3]
    assert {index % FOLDS for index in ran} == set(range(FOLDS))
    assert max(ran) >= 16  # spread over all


def test_equal_losses_stay_in_the_order_of_the_candidates() -> None:
    _, found, _ = compared({5: 0.1, 3: 0.1, 4: 0.1}, 20)
    assert [each.strategy for each in found] == [f"candidate {k}" for k in (5, 3, 4)]


@pytest.mark.parametrize("count", [1, 2, 3, 15])
def test_few_samples_all_run(count: int) -> None:
    _, found, finalists = compared({1: 0.2, 2: 0.9}, count)
    assert [each.samples for each in found] == [count, count]
    assert len(finalists) == 2


def test_where_all_is_lost_one_is_still_chosen() -> None:
    _, found, _ = compared({1: math.inf, 2: math.inf}, 16)
    assert found[0].strategy == "candidate 1"


@pytest.mark.parametrize("guilty", range(5))
def test_the_guilty_tensor_is_found(guilty: int) -> None:
    model = planted.mlp(guilty=guilty)
    with opened(model, planted.feeds(8), float_weights=True) as trial:
        found = find_suspects(
            trial.trials, trial.grids(Policy.of("minmax")), [0, 2, 4], runs=10_000
        )
        assert found[0].rows == (trial.row(f"h{guilty}"),)
        assert found[0].loss > 10 * found[1].loss
        every = [row for each in found for row in each.rows]
        assert sorted(every) == list(range(len(trial.trials.session.tensors)))


@pytest.mark.parametrize("runs", [0, 20, 60])
def test_few_runs_are_not_exceeded(runs: int) -> None:
    trials = PlantedTrials(lambda grids, *_: float(grids[:, 0].sum()), 4, rows=40)
    samples = [0, 1, 2, 3]
    found = find_suspects(cast("Trials", trials), flat(0.01, 40), samples, runs=runs)
    first = 6 * len(samples)  # the groups at the beginning
    assert len(trials.ran) <= max(runs, first)
    assert sorted(row for each in found for row in each.rows) == list(range(40))


def improved(damage: dict[str, float], **limits: Any) -> Any:
    """Improve from grid 0 to grid 1; ``damage`` by the half and the value of row 0."""

    def planted_damage(grids: Any, _: int, fold: int) -> float:
        half = "confirm" if fold % 2 else "propose"
        return damage[f"{half} {grids[0, 0]:g}"]

    trials = PlantedTrials(planted_damage, 8, rows=2)
    grids = {"old": flat(0, 2), "new": flat(1, 2)}
    return improve(
        cast("Trials", trials),
        "old",
        grids,
        [Suspects((0,), 1.0)],
        (trials.of_folds([0, 2]), trials.of_folds([1, 3])),
        **{"runs": 1000, "until": None, **limits},
    )


BETTER = {"propose 0": 1.0, "propose 1": 0.5, "confirm 0": 1.0, "confirm 1": 0.6}


def test_a_change_that_both_halves_like_is_kept() -> None:
    current, changes = improved(BETTER)
    assert [(c.rows, c.strategy) for c in changes] == [((0,), "new")]
    assert (changes[0].before, changes[0].after) == pytest.approx((1.0, 0.6))
    assert all((each[0] == 1).all() and (each[1] == 0).all() for each in current)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"confirm 1": 1.1}, "only the proposing half likes it"),
        ({"confirm 1": 0.995}, "a gain like noise"),
        ({"propose 1": 0.999}, "nobody proposes it"),
        ({"propose 0": 0.0, "propose 1": 0.0}, "nothing to gain"),
        ({"confirm 0": 0.0, "confirm 1": 0.0}, "nothing to confirm"),
        ({"confirm 0": math.inf, "confirm 1": math.inf}, "both are useless"),
    ],
)
def test_other_changes_are_not_kept(change: dict[str, float], why: str) -> None:
    current, changes = improved(BETTER | change)
    assert changes == [], why
    assert all((each == 0).all() for each in current)


def test_limits_end_the_improvement() -> None:
    assert improved(BETTER, runs=7)[1] == []
    assert improved(BETTER, until=0.0)[1] == []


@pytest.mark.parametrize(
    "name", ["a[0]", "re:x", "node:a", "layer:a", "a*", "a?", "h1"]
)
def test_a_rule_for_a_tensor_matches_it_alone(name: str) -> None:
    policy = with_tensors(Policy.of("mse"), {name: qc.MinMax()})
    for other in ("a0", "x", "ab", "a", "h11", "re:xx"):
        assert policy.match(other)[1] == qc.MSE()
    assert policy.match(name) == (pattern_of(name), qc.MinMax())
    assert policy.assign([name, "other"])[0][name][1] == qc.MinMax()
