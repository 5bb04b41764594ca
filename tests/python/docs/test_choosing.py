"""The loss of the bench of methods against a plain oracle, and its page with odd rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnxruntime")
pytest.importorskip("PIL")

from benches.accuracy.choice import page
from benches.accuracy.choice.loss import LossCounter
from benches.accuracy.choice.methods import METHODS, SMOKE
from benches.accuracy.collection import BUILDERS, agreement
from tests.models import MODELS

Outputs = dict[str, np.ndarray[Any, Any]]


def pairs(count: int, noise: float) -> list[tuple[Outputs, Outputs]]:
    """Outputs of two shapes, one of them with samples of several lengths."""
    rng = np.random.default_rng(3)
    found = []
    for i in range(count):
        a = {"x": rng.normal(size=(1, 5 + i)), "y": rng.normal(7, 3, size=(2, 2))}
        b = {name: v + rng.normal(0, noise, v.shape) for name, v in a.items()}
        found.append((a, b))
    return found


def counted(samples: list[tuple[Outputs, Outputs]]) -> dict[str, Any]:
    counter = LossCounter()
    for a, b in samples:
        counter.add(a, b)
    return counter.result()


def plain_loss(samples: list[tuple[Outputs, Outputs]], name: str) -> float:
    a = np.concatenate([a[name].ravel() for a, _ in samples])
    b = np.concatenate([b[name].ravel() for _, b in samples])
    return float(np.mean((a - b) ** 2) / np.var(a))


def test_the_loss_is_error_over_variance_of_the_worst_output() -> None:
    samples = pairs(40, 0.1)
    found = counted(samples)
    losses = {name: plain_loss(samples, name) for name in ("x", "y")}
    assert found["output"] == max(losses, key=losses.__getitem__) == "x"
    assert found["loss"] == pytest.approx(losses["x"], rel=1e-12)
    assert found["low"] < found["loss"] < found["high"]
    assert counted(samples) == found


def test_the_interval_covers_the_true_loss_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(5)
    covered = 0
    for _ in range(100):
        a = rng.normal(size=(60, 4))
        b = a + rng.normal(0, 0.1, a.shape)
        found = counted([({"x": u}, {"x": v}) for u, v in zip(a, b, strict=True)])
        covered += found["low"] <= 0.01 <= found["high"]
    # 95 of 100, with four standard deviations of the count; small samples cover less.
    assert 84 <= covered <= 100


def test_an_output_that_is_not_finite_loses_everything() -> None:
    samples = pairs(8, 0.1)
    samples[3][1]["y"][0, 0] = np.nan
    found = counted(samples)
    assert found["output"] == "y"
    assert found["loss"] > 1e20
    assert found["min_cosine"] == -1


def test_an_output_that_does_not_vary_has_no_loss() -> None:
    samples = [
        ({"x": np.ones(3), **a}, {"x": np.zeros(3), **b}) for a, b in pairs(8, 0.1)
    ]
    for (a, b), (c, d) in zip(samples, pairs(8, 0.1), strict=True):
        a["y"], b["y"] = c["y"], d["y"]
        a["x"] = np.ones_like(a["x"])
    assert counted(samples)["output"] == "y"
    with pytest.raises(ValueError, match="No output"):
        counted([({"x": a["x"]}, {"x": b["x"]}) for a, b in samples])


def test_agreement_counts_what_it_says() -> None:
    on, off = np.array([True, True, False]), np.array([False, False, False])
    assert agreement.overlap([on, off, on], [on, off, off]) == [1, 1, 0]
    assert agreement.overlap([on], [np.array([True, False, True])]) == [0.5]
    assert agreement.within(0.1)([np.ones(2)], [np.array([1.05, 1.2])]) == [0.0]
    assert agreement.same(["a", "b"], ["a", "c"]) == [1, 0]
    assert agreement.with_labels(["c", "d"])(["x", "y"], ["c", "y"]) == [1, 0]
    right = [np.array(v, float) for v in ([1, 0], [1, 0.1], [0, 1], [0.1, 1])]
    turned = [right[0], right[2], right[1], right[3]]
    assert agreement.same_neighbor(right, right) == [1, 1, 1, 1]
    assert agreement.same_neighbor(right, turned) == [0, 0, 0, 0]


def test_the_names_are_known() -> None:
    assert set(SMOKE) < set(METHODS)
    assert set(BUILDERS) <= set(MODELS)


def test_the_page_shows_rows_failures_and_ratios(tmp_path: Path) -> None:
    def row(loss: float) -> dict[str, Any]:
        judged = {"loss": loss, "low": loss / 2, "high": loss * 2, "output": "y"}
        judged |= {"min_cosine": 0.9, "mean_cosine": 0.95}
        judged |= {"task": 0.5, "task_difference": -0.25, "task_margin": 0.125}
        cost = {"seconds": 1.5, "mebibytes": None, "products": "3 of 4"}
        return {**cost, "exact": judged, "native": judged}

    facts = {"kind": "a kind", "data": "data", "calibration": 1, "held_out": 2}
    entry: dict[str, Any] = {**facts, "metric": "a metric", "float": 0.75}
    entry["rows"] = {
        "mse": row(0.02),
        "kl": row(0.05),
        "onnxsim auto": row(0.01),
        "onnxsim mse": {"error": "ValueError: a | b"},
    }
    machine = {"processor": "P", "cores": 2, "memory_gib": 1, "date": "D"}
    machine |= {"commit": "C", "versions": {"onnxruntime": "1"}}
    output = tmp_path / "page.md"
    page.write({"machine": machine, "cases": {"magika": entry}}, output)
    text = output.read_text("utf-8")
    assert "| mse | **1.00** | 1.00 | 1.0 |" in text
    assert "| kl | 2.50 | 2.50 | 2.5 |" in text
    assert "| onnxsim auto | 0.50 | 0.50 | 0.5 |" in text
    assert "| onnxsim mse | ValueError: a / b |" in text
    assert "0.500 (-25.0 ± 12.5)" in text
    tables = [line for line in text.splitlines() if line.startswith("| ")]
    assert {line.count("|") for line in tables} == {3, 5, 9, 11}
