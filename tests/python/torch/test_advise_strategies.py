"""`qc.torch.advise`: the strategy for all inputs, and SmoothQuant, on planted models."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import quantcal as qc  # noqa: E402
from quantcal.torch._advice.strategy_choice import (  # noqa: E402
    CANDIDATES,
    candidates_of,
)
from torch_models import hooks_of, random  # noqa: E402

pytestmark = pytest.mark.torch
nn = torch.nn

KEEPING = ("percentile_adaptive", "minmax", "percentile_99.999")
"""Those that keep one value of 12, which MSE clips to 4 bits."""


class Rare(nn.Module):
    """Layers whose inputs hold one value that is large; the first one's is massive."""

    def __init__(self, massive: float = 0) -> None:
        super().__init__()
        torch.manual_seed(0)
        if massive:
            self.first = nn.Linear(32, 32)
        self.layers = nn.ModuleList(nn.Linear(32, 32) for _ in range(3))
        self.massive = massive

    def forward(self, x: Any) -> Any:
        total = 0
        if self.massive:
            h = x.clone()
            h[:, 0, 0] = self.massive
            total = total + 1000 * torch.tanh(self.first(h))
        for layer in self.layers:
            h = x.clone()
            h[:, 1, 0] = 12
            total = total + layer(h)
        return total


class Uneven(nn.Module):
    """A norm whose first channel is 100 times larger, which the next layer divides again."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.norm = nn.LayerNorm(16)
        self.up = nn.Linear(16, 32)
        self.down = nn.Linear(32, 16)
        with torch.no_grad():
            self.norm.weight[0] = 100
            self.up.weight[:, 0] /= 100

    def forward(self, x: Any) -> Any:
        return x + self.down(torch.relu(self.up(self.norm(x))))


def samples(number: int = 6) -> list[Any]:
    return [random(1, 48, 32, seed=seed) for seed in range(number)]


def largest_error(wanted: Any, found: Any) -> float:
    return float((wanted[0] - found[0]).abs().max())


def test_the_strategy_that_the_outputs_lose_least_by_is_taken() -> None:
    """4 bits and a loss that sees the one large value, which MSE clips."""
    options: Any = {"format": "int4", "loss": largest_error, "remedies": False}
    advice = qc.torch.advise(Rare(), samples(), keep_float=0, **options)
    assert advice.strategy == "minmax"
    losses = {
        name: qc.torch.advise(Rare(), samples(), keep_float=0, strategy=name, **options)
        for name in ("mse", "minmax")
    }
    assert advice.loss == losses["minmax"].loss < 0.5 * losses["mse"].loss
    assert losses["mse"].strategy == ""
    assert "strategy: minmax lost least" in advice.summary()


def test_the_first_strategy_stays_where_no_other_is_better() -> None:
    """Values of -1 and 1 have one range by any strategy."""
    model = nn.Sequential(nn.Linear(32, 8))
    given = [sample.sign() for sample in samples()]
    advice = qc.torch.advise(model, given, remedies=False, format="int2")
    assert advice.strategy == CANDIDATES[0] == "mse"


def test_the_worst_input_in_float_lets_the_others_decide() -> None:
    """With the massive one, all that clips it loses so much that nothing else shows."""

    def loss(wanted: Any, found: Any) -> float:
        return largest_error(wanted, found)

    options: Any = {"format": "int4", "loss": loss, "remedies": False}
    advice = qc.torch.advise(Rare(1000), samples(), keep_float=1, **options)
    assert advice.exclude == ("first",)
    assert advice.strategy in KEEPING
    fixed = qc.torch.advise(
        Rare(1000), samples(), keep_float=1, strategy=advice.strategy, **options
    )
    assert advice.loss_after == fixed.loss_after


def test_the_time_ends_the_comparison() -> None:
    advice = qc.torch.advise(Rare(), samples(), time_limit=1e-9, format="int4")
    assert advice.strategy == "mse"
    assert advice.loss > 0


def test_a_given_calibrator_serves_all_candidates() -> None:
    model = Rare()
    with qc.torch.observe(model) as cal, torch.no_grad():
        for x in samples(12)[6:]:
            model(x)
    options: Any = {"format": "int4", "loss": largest_error, "remedies": False}
    advice = qc.torch.advise(model, samples(), calibrator=cal, keep_float=0, **options)
    assert advice.strategy in KEEPING


def test_auto_may_be_one_rule_of_several() -> None:
    found = candidates_of({"head": "kl", "*": "auto"})
    assert list(found) == list(CANDIDATES)
    assert all(policy.match("head")[1] == qc.KL() for policy in found.values())
    assert found["minmax"].match("x")[1] == qc.MinMax()
    assert found["llm_layers"].match("layers.0.q_proj")[0] == "layer:attention_qkv"
    some = candidates_of({"head": "auto", "*": "kl"})
    # A policy has rules for all layers, so it cannot stand for one rule.
    assert list(some) == [name for name in CANDIDATES if name != "llm_layers"]
    assert some["minmax"].match("head") == ("head", qc.MinMax())
    assert some["minmax"].match("x") == ("*", qc.KL())
    assert candidates_of("mse") == {}


def smoothed_loss(model: Any, given: list[Any], *, smooth: bool) -> float:
    """Squared error over variance with int8 weights, ranges from the even samples."""
    other = copy.deepcopy(model).eval()
    reference = copy.deepcopy(model).eval()
    with torch.no_grad():
        if smooth:
            with qc.torch.observe(other, axis=-1) as channels:
                for x in given[::2]:
                    other(x)
            qc.torch.smoothquant(other, channels, alpha=None)
        with qc.torch.observe(other) as cal:
            for x in given[::2]:
                other(x)
        table = cal.compute("minmax")
        found = []
        for x in given[1::2]:
            wanted = reference(x).double()
            with qc.torch.fake_quantize(other, table, weights="int8"):
                error = other(x).double() - wanted
            found.append(
                float((error**2).sum() / ((wanted - wanted.mean()) ** 2).sum())
            )
    return float(np.mean(found))


def test_smoothquant_is_tried_on_a_copy() -> None:
    model = Uneven()
    given = [random(1, 20, 16, seed=seed) for seed in range(6)]
    before = copy.deepcopy(model.state_dict())
    for weights in (None, "int8"):
        advice = qc.torch.advise(model, given, strategy="minmax", weights=weights)
        (remedy,) = advice.remedies
        assert (remedy.name, remedy.samples) == ("smooth", 3)
        plain, smooth = (smoothed_loss(model, given, smooth=s) for s in (False, True))
        assert remedy.before == pytest.approx(plain, rel=1e-4)
        assert remedy.loss == pytest.approx(smooth, rel=1e-4)
        assert remedy.loss < 0.1 * remedy.before
        assert "weights in int8 on both sides" in remedy.text
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert hooks_of(model) == 0


def test_without_a_norm_there_is_nothing_to_smooth() -> None:
    model = nn.Sequential(nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 4))
    given = [random(1, 20, 16, seed=seed) for seed in range(4)]
    assert qc.torch.advise(model, given).remedies == ()
    assert qc.torch.advise(Uneven(), given, remedies=False).remedies == ()
    late = qc.torch.advise(Uneven(), given, time_limit=1e-9)
    assert late.remedies == ()


def test_a_model_that_cannot_be_copied_gets_a_note() -> None:
    class Stuck(Uneven):
        def __deepcopy__(self, _: Any) -> Any:
            raise RuntimeError("one of a kind")

    given = [random(1, 20, 16, seed=seed) for seed in range(4)]
    advice = qc.torch.advise(Stuck(), given)
    assert advice.remedies == ()
    assert any("one of a kind" in note for note in advice.notes)
