"""A few random graphs through `quantize`; ``make fuzz-graphs`` runs thousands of them."""

from __future__ import annotations

import os
import signal
import threading

import numpy as np
import onnx
import pytest
from fuzz import cases, judge, workers
from fuzz.judge import Finding, decibels

SEED, GRAPHS = 7_000_000, 24


def test_random_graphs_are_quantized_without_a_fault() -> None:
    found: dict[int, list[Finding]] = {}
    seeds = range(SEED, SEED + GRAPHS)
    workers.run(seeds, jobs=2, limit=120, done=found.__setitem__)
    wrong = {
        seed: [finding for finding in listed if finding.wrong]
        for seed, listed in found.items()
    }
    assert {seed: listed for seed, listed in wrong.items() if listed} == {}
    kinds = [finding.kind for listed in found.values() for finding in listed]
    assert kinds.count("ok") > GRAPHS


def test_a_seed_is_the_same_case_every_time() -> None:
    first, second = cases.make(SEED), cases.make(SEED)
    assert first.model.SerializeToString() == second.model.SerializeToString()
    assert first.options == second.options
    for one, other in zip(first.samples, second.samples, strict=True):
        assert one.keys() == other.keys()
        assert all(np.array_equal(one[name], other[name]) for name in one)


def test_steps_can_be_left_out_one_by_one() -> None:
    for seed in range(SEED, SEED + 10):
        whole = cases.make(seed)
        small = cases.make(seed, range(1, whole.steps))
        assert len(small.model.graph.node) <= len(whole.model.graph.node)
        judge.outputs(small.model, small.samples[:1], exact=True)


def test_an_abort_is_a_finding_and_costs_one_child() -> None:
    worker = workers.Worker(limit=60)
    before = worker.judge(SEED)
    child = worker._child
    assert child is not None
    assert child.pid is not None
    threading.Timer(0.05, os.kill, (child.pid, signal.SIGABRT)).start()
    (found,) = worker.judge(SEED)
    assert found.kind == "abort"
    assert found.wrong
    assert str(-signal.SIGABRT) in found.text
    assert worker.judge(SEED) == before
    worker.close()


@pytest.mark.parametrize(
    ("message", "kind"),
    [
        ("All 2 MatMul nodes are excluded.", "refused"),
        ("It is not valid at all, for no reason.", "nameless refusal"),
        ("MatMul", "refusal without a sentence"),
        ("onnxruntime cannot load the quantized copy of m: MatMul.", "unusable copy"),
    ],
)
def test_refusals_are_judged(message: str, kind: str) -> None:
    node = onnx.helper.make_node("MatMul", ["input", "weight"], ["product"])
    graph = onnx.helper.make_graph([node], "small", [], [])
    model = onnx.helper.make_model(graph)
    assert judge._refusal(model, message).kind == kind


def test_the_judge_measures_noise_and_finds_lost_values() -> None:
    want = {"y": [np.array([3.0, 4.0]), np.array([0.0, -np.inf])]}
    near = {"y": [np.array([3.0, 4.5]), np.array([0.0, -np.inf])]}
    assert decibels(want, near)["y"] == pytest.approx(20)  # 25 to 0.25
    lost = {"y": [np.array([3.0, np.nan]), np.array([0.0, -np.inf])]}
    assert np.isnan(decibels(want, lost)["y"])


def test_the_judge_leaves_out_only_samples_on_which_the_float_model_gives_nan() -> None:
    want = {"y": [np.array([3.0, 4.0]), np.array([1.0, np.nan])]}
    got = {"y": [np.array([3.0, 4.5]), np.array([np.inf, np.nan])]}
    assert decibels(want, got)["y"] == pytest.approx(20)
