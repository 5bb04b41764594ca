"""The search on losses that are known formulas: what it finds, and with how few runs."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import pytest

from quantcal.advice.remedies import try_remedies
from quantcal.advice.search import (
    FloatChoice,
    Halves,
    LossMeter,
    OutOfTimeError,
    choose_float,
    find_guilty,
    group_by_block,
)

NAMES = [f"layers.{k}.{part}" for k in range(30) for part in ("q", "o", "up", "down")]
COSTS = {"layers.2.down": 3.0, "layers.11.down": 8.0, "layers.28.up": 1.0}


def cost(name: str) -> float:
    return COSTS.get(name, 0.001)


def additive(quantized: frozenset[str], _: int) -> float:
    return sum(map(cost, sorted(quantized)))


def chosen(
    run: Callable[[frozenset[str], int], float] = additive,
    names: Sequence[str] = NAMES,
    keep: int = 3,
    samples: int = 4,
) -> tuple[FloatChoice, int]:
    meter = LossMeter(run)
    return choose_float(meter, names, Halves.of(samples), keep=keep), meter.runs


def test_planted_tensors_are_found_with_few_runs() -> None:
    choice, runs = chosen()
    assert choice.kept == ("layers.11.down", "layers.2.down", "layers.28.up")
    assert choice.loss == pytest.approx(sum(map(cost, NAMES)))
    assert choice.loss_after == pytest.approx(choice.loss - 12)
    assert choice.finished
    assert list(choice.alone)[:3] == list(choice.kept)
    assert runs < 2 * len(NAMES)  # of 4 samples, while all single ones take 2 * 120


def test_everything_in_float_has_no_loss() -> None:
    choice, _ = chosen(names=NAMES[:6], keep=6)
    assert choice.loss_after == 0
    assert set(choice.kept) == set(NAMES[:6])


def test_nothing_is_kept_if_nothing_may_be() -> None:
    choice, _ = chosen(keep=0)
    assert (choice.kept, choice.loss_after) == ((), choice.loss)


def test_the_joint_loss_decides_not_the_loss_alone() -> None:
    """Two tensors whose errors cancel cost much alone and nothing together."""

    def run(quantized: frozenset[str], sample: int) -> float:
        a, b = "layers.0.q" in quantized, "layers.1.q" in quantized
        return 10.0 * (a != b) + additive(quantized, sample)

    choice, _ = chosen(run, keep=1)
    assert choice.alone["layers.0.q"] > choice.alone["layers.11.down"]
    assert choice.kept == ("layers.11.down",)


def test_what_the_other_samples_do_not_confirm_is_not_kept() -> None:
    """On the proposing samples, which are the even ones, one tensor seems guilty."""

    def run(quantized: frozenset[str], sample: int) -> float:
        seems = "layers.5.q" in quantized and sample % 2 == 0
        return 20.0 * seems + additive(quantized, sample)

    choice, _ = chosen(run, keep=1)
    assert max(choice.alone, key=choice.alone.__getitem__) == "layers.5.q"
    assert choice.kept == ("layers.11.down",)
    assert choice.loss_after == pytest.approx(choice.loss - 8)


def test_the_search_ends_when_nothing_improves() -> None:
    choice, _ = chosen(lambda quantized, _: 1.0 * bool(quantized), keep=8)
    assert choice.kept == ()


def test_a_set_that_is_not_allowed_is_not_kept() -> None:
    meter = LossMeter(additive)
    choice = choose_float(
        meter,
        NAMES,
        Halves.of(2),
        keep=3,
        allowed=lambda kept: "layers.11.down" not in kept,
    )
    assert choice.kept[:2] == ("layers.2.down", "layers.28.up")


def test_the_time_limit_keeps_what_was_found(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0

    def run(quantized: frozenset[str], sample: int) -> float:
        nonlocal now
        now += 1
        return additive(quantized, sample)

    monkeypatch.setattr("quantcal.advice.search.time.monotonic", lambda: now)
    kept = []
    for limit in (0, 30, 80, 1000):
        now = 0.0
        meter = LossMeter(run, time_limit=limit)
        choice = choose_float(meter, NAMES, Halves.of(4), keep=3)
        assert choice.loss == pytest.approx(sum(map(cost, NAMES)))
        assert choice.finished == (limit == 1000)
        assert now <= max(limit, 4)
        kept.append(len(choice.kept))
    assert kept == [0, 0, 1, 3]


def test_each_combination_runs_once() -> None:
    seen: list[tuple[frozenset[str], int]] = []

    def run(quantized: frozenset[str], sample: int) -> float:
        seen.append((quantized, sample))
        return additive(quantized, sample)

    first, _ = chosen(run)
    assert len(seen) == len(set(seen))
    order = list(seen)
    seen.clear()
    assert chosen(run)[0] == first
    assert seen == order


def test_the_meter_returns_means_and_counts_runs() -> None:
    steps: list[int] = []
    meter = LossMeter(lambda _, sample: sample, on_run=lambda: steps.append(1))
    assert meter(["a", "b"], [1, 2]) == 1.5
    assert meter(["b", "a"], [2, 4]) == 3
    assert meter.runs == len(steps) == 3
    late = LossMeter(lambda _, sample: sample, time_limit=0)
    with pytest.raises(OutOfTimeError):
        late(["a"], [0])
    assert late(["a"], [3], within=math.inf) == 3
    assert late(["a"], [3]) == 3


def test_guilty_tensors_come_by_falling_loss() -> None:
    groups = group_by_block(NAMES)
    found, finished = find_guilty(LossMeter(additive), groups, [0], wanted=3, cut=0.0)
    assert list(found.items()) == sorted(COSTS.items(), key=lambda item: -item[1])
    assert finished
    found, _ = find_guilty(LossMeter(additive), groups, [0], wanted=99, cut=0.5)
    assert set(found) == set(COSTS)


@pytest.mark.parametrize(
    ("names", "groups"),
    [
        (NAMES, 30),
        (["conv1", "conv2", "fc"], 3),
        (["/layers.0/q/MatMul", "/layers.0/k/MatMul", "/layers.1/q/MatMul"], 2),
        ([f"{k}" for k in range(400)], 20),
        (["encoder", "decoder"], 1),
        (["layer1.0.conv1", "layer1.1.conv2", "layer12.0.conv1"], 2),
        ([], 0),
    ],
)
def test_groups_are_blocks(names: list[str], groups: int) -> None:
    found = group_by_block(names)
    assert len(found) == groups
    assert sorted(name for group in found for name in group) == sorted(names)


def test_remedies_are_measured_on_the_other_samples() -> None:
    """ "wide" seems best on the even samples, and is not on the odd ones."""

    def run(quantized: frozenset[str], sample: int) -> float:
        even = sample % 2 == 0
        variants = {"a": 8.0, "a wide": 1.0 if even else 5.0, "a 16": 0.5}
        return sum(variants.get(name, 1.0) for name in quantized)

    found = try_remedies(
        LossMeter(run),
        ["a", "b", "c"],
        "a",
        Halves.of(4),
        ranges={"wide": "a wide", "narrow": "a narrower"},
        others={"16 bits": "a 16"},
    )
    assert [(r.name, r.loss) for r in found][:2] == [("float", 2.0), ("16 bits", 2.5)]
    assert found[2].name == "range wide"
    assert found[2].loss == 7.0
    assert found[2].change == pytest.approx(-0.3)
    assert {r.samples for r in found} == {2}
