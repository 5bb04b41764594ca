"""Time limits of `auto`, `advise` and `tune`: the first strategy ends, and nothing else starts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import planted_models as planted
import quantcal as qc
from quantcal.onnx._choose import time_limit
from quantcal.onnx._choose.candidates import CANDIDATES
from quantcal.onnx._trial.trial_session import TrialSession

MODEL = planted.mlp(guilty=2)
SAMPLES = planted.feeds(20)
FIRST = str(CANDIDATES[0])


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the samples that trials ran."""
    found: list[str] = []
    real = TrialSession.run

    def counted(self: Any, feed: Any, grids: Any, where: str = "") -> Any:
        found.append(where)
        return real(self, feed, grids, where)

    monkeypatch.setattr(TrialSession, "run", counted)
    return found


def after(count: int, runs: list[str]) -> Callable[[], float]:
    """Return a clock that stands still until so many samples have run, then jumps."""
    return lambda: 1e9 if len(runs) >= count else 0.0


def test_no_time_leaves_the_first_strategy_on_all_samples(
    tmp_path: Path, runs: list[str]
) -> None:
    options: Any = {"strategy": qc.Auto(time=0), "progress": False}
    result = qc.onnx.quantize(MODEL, tmp_path / "q.onnx", SAMPLES, **options)
    assert result.choice is not None
    (only,) = result.choice.losses
    assert (only.strategy, only.samples) == (FIRST, len(SAMPLES))
    assert len(runs) == len(SAMPLES)


def test_the_best_so_far_runs_on_when_the_time_ends(
    tmp_path: Path, runs: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two strategies have been compared on the first samples when the time ends."""
    # 12 samples make the first round, so the time ends within the second strategy.
    clock = after(13, runs)
    monkeypatch.setattr(time_limit.time, "monotonic", clock)
    options: Any = {"strategy": qc.Auto(time=1), "progress": False}
    result = qc.onnx.quantize(MODEL, tmp_path / "q.onnx", SAMPLES, **options)
    assert result.choice is not None
    losses = result.choice.losses
    first = {each.strategy for each in losses}
    assert first == {str(each) for each in CANDIDATES[:2]}
    assert losses[0].samples == len(SAMPLES)
    assert losses[1].samples < len(SAMPLES)
    assert not result.choice.changes


def test_advise_has_the_first_loss_and_no_more(runs: list[str]) -> None:
    advice = qc.onnx.advise(
        MODEL, SAMPLES, strategy="auto", time_limit=0, progress=False, times="measure"
    )
    fixed = qc.onnx.advise(MODEL, SAMPLES, strategy=FIRST, time_limit=0, progress=False)
    assert advice.loss == fixed.loss > 0
    assert (advice.exclude, advice.remedies) == ((), ())
    assert not any(tensor.remedies for tensor in advice.tensors)
    notes = " ".join(advice.notes)
    assert "the time limit ended the search early" in notes
    assert "no time to measure times of nodes" in notes


def test_tune_writes_the_first_strategy(tmp_path: Path, runs: list[str]) -> None:
    made, plain = tmp_path / "t.onnx", tmp_path / "q.onnx"
    result = qc.onnx.tune(
        MODEL, made, SAMPLES, strategy="auto", time_limit=0, progress=False
    )
    assert not result.in_time
    assert result.exclude == ()
    assert [point.latency_ms for point in result.points] == [None]
    deciding = [feed for number, feed in enumerate(SAMPLES) if number % 5 != 4]
    qc.onnx.quantize(MODEL, plain, deciding, strategy=FIRST, progress=False)
    assert made.read_bytes() == plain.read_bytes()
    # The first strategy, the first model, and the check on held-out samples.
    assert len(runs) == 16 + 16 + 4
