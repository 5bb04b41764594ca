"""`qc.torch.advise`: what it finds, against losses that the tests compute themselves."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import quantcal as qc  # noqa: E402
from llama_models import small_llama, tokens  # noqa: E402
from quantcal.torch._advice.output_loss import (  # noqa: E402
    divergence,
    relative_variance_error,
)
from quantcal.torch._advice.shared_inputs import find_shared_inputs  # noqa: E402
from torch_models import (  # noqa: E402
    Branches,
    Failing,
    Masked,
    Shared,
    conv_net,
    hooks_of,
    random,
)

pytestmark = pytest.mark.torch
nn = torch.nn


class Residual(nn.Module):
    """Eight blocks; before one of them the first token gets a massive activation."""

    def __init__(self, guilty: int = 5) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.ModuleList(nn.Linear(32, 32) for _ in range(8))
        self.drop = nn.Dropout(0.5)
        self.guilty = guilty

    def forward(self, x: Any) -> Any:
        for number, layer in enumerate(self.layers):
            h = x
            if number == self.guilty:
                h = x.clone()
                h[:, 0, 0] = 2000
            x = self.drop(x + torch.tanh(layer(h)))
        return x


def samples(number: int = 6) -> list[Any]:
    return [random(1, 48, 32, seed=seed) for seed in range(number)]


def quick(model: Any, given: Sequence[Any], **options: Any) -> Any:
    return qc.torch.advise(model, given, **{"remedies": False, **options})


def table_of(model: Any, given: Sequence[Any], **options: Any) -> qc.CalibrationTable:
    with qc.torch.observe(model, **options) as cal, torch.no_grad():
        for x in given:
            model(x)
    return cal.compute("mse")


def loss_of(model: Any, given: Sequence[Any], table: Any, **options: Any) -> float:
    """The mean of squared error over variance, in numpy."""
    found = []
    for x in given:
        with torch.no_grad():
            wanted = model(x).numpy().astype(np.float64)
            with qc.torch.fake_quantize(model, table, **options):
                error = model(x).numpy() - wanted
        found.append(np.sum(error**2) / np.sum((wanted - wanted.mean()) ** 2))
    return float(np.mean(found))


@pytest.mark.parametrize("guilty", [0, 5, 7])
def test_a_planted_guilty_layer_is_found_and_explained(guilty: int) -> None:
    advice = qc.torch.advise(Residual(guilty), samples(), keep_float=1)
    assert advice.exclude == (f"layers.{guilty}",)
    assert advice.change < -0.9
    worst = advice.tensors[0]
    assert (worst.name, worst.nodes) == (f"layers.{guilty}", (f"layers.{guilty}",))
    assert worst.share > 0.9
    kinds = [d.kind for d in worst.diagnoses]
    assert kinds[:2] == ["massive activation", "dense near zero"]
    assert worst.remedies[0].name in ("float", "16 bits")
    lines = advice.summary().splitlines()
    assert lines[0].startswith("leave this module in float: −9")


def test_the_losses_are_those_of_the_samples_that_confirm() -> None:
    model, given = Residual().eval(), samples()
    table = table_of(model, given)
    advice = quick(model, given, keep_float=2)
    assert advice.samples == 3
    assert advice.loss == pytest.approx(loss_of(model, given[1::2], table))
    left = {name: p for name, p in table.items() if name not in advice.exclude}
    assert len(left) == 6
    assert advice.loss_after == pytest.approx(loss_of(model, given[1::2], left))
    for tensor in advice.tensors:
        alone = loss_of(model, given[:1], {tensor.name: table[tensor.name]})
        assert tensor.loss_alone == pytest.approx(alone)
        assert tensor.share == pytest.approx(alone / loss_of(model, given[:1], table))


def test_remedies_are_measured_with_everything_else_quantized() -> None:
    model, given = Residual().eval(), samples()
    advice = qc.torch.advise(model, given, format="int8", keep_float=1)
    table = dict(table_of(model, given))
    tried = {r.name: r for r in advice.tensors[0].remedies}
    assert {"float", "16 bits"} <= set(tried)
    with qc.torch.observe(model) as cal, torch.no_grad():
        for x in given:
            model(x)
    wide = cal.compute("minmax", format="int16")["layers.5"]
    expected = loss_of(model, given[1::2], table | {"layers.5": wide})
    assert tried["16 bits"].loss == pytest.approx(expected)
    assert tried["16 bits"].change == pytest.approx(expected / advice.loss - 1)
    assert tried["float"].loss == pytest.approx(advice.loss_after)


def test_everything_in_float_has_no_loss() -> None:
    for weights in (None, "int8"):
        advice = quick(Residual(), samples(), keep_float=8, weights=weights)
        assert (len(advice.exclude), advice.loss_after) == (8, 0.0)
        assert set(advice.float_share.values()) == {1.0}


def test_weights_of_modules_in_float_are_in_float_too() -> None:
    model, given = Residual().eval(), samples()
    table = table_of(model, given)
    advice = quick(model, given, keep_float=1, weights="int4")
    left = {name: p for name, p in table.items() if name not in advice.exclude}
    expected = loss_of(model, given[1::2], left, weights="int4")
    assert advice.loss_after == pytest.approx(expected)
    advice = quick(model, given, exclude="layers.5", weights="int4")
    kinds = {d.kind for tensor in advice.tensors for d in tensor.diagnoses}
    assert kinds == {"weights"}


def test_excluded_modules_are_never_quantized_nor_named() -> None:
    model, given = Residual().eval(), samples()
    advice = quick(model, given, exclude=["layers.5", "re:[67]$"], keep_float=2)
    table = table_of(model, given, exclude=["layers.5", "re:[67]$"])
    assert len(table) == 5
    assert advice.loss == pytest.approx(loss_of(model, given[1::2], table))
    named = {*advice.exclude, *(t.name for t in advice.tensors)}
    assert named
    assert named <= set(table)
    assert advice.float_share["inputs"] == 2 / 5


def test_the_advice_is_what_observe_takes() -> None:
    model, given = Residual().eval(), samples()
    advice = quick(model, given, keep_float=3)
    table = table_of(model, given, exclude=advice.exclude)
    assert advice.loss_after == pytest.approx(loss_of(model, given[1::2], table))


def test_the_same_samples_give_the_same_advice() -> None:
    found = [
        qc.torch.advise(Residual(), samples(), keep_float=2).to_dict() for _ in range(2)
    ]
    assert found[0] == found[1]


def test_the_model_stays_as_it_was() -> None:
    model = Residual().train()
    model.layers[2].eval()
    before, modes = (
        copy.deepcopy(model.state_dict()),
        [m.training for m in model.modules()],
    )
    state = torch.random.get_rng_state()
    first = qc.torch.advise(model, samples(), keep_float=1)
    assert first == qc.torch.advise(model.eval(), samples(), keep_float=1)
    model.train()
    model.layers[2].eval()
    assert [m.training for m in model.modules()] == modes
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert torch.equal(state, torch.random.get_rng_state())
    assert hooks_of(model) == 0


def test_a_given_calibrator_has_the_ranges() -> None:
    model, given = Residual().eval(), samples()
    with qc.torch.observe(model, outputs=True, record_skipped=True) as cal:
        for x in samples(12)[6:]:
            model(x)
    table = {n: p for n, p in cal.compute("minmax").items() if ":" not in n}
    advice = quick(model, given, calibrator=cal, strategy="minmax")
    assert advice.loss == pytest.approx(loss_of(model, given[1::2], table))
    with qc.torch.observe(model, include="re:[0-4]$") as part:
        model(given[0])
    advice = quick(model, given, calibrator=part)
    assert "3 inputs were not observed and stay in float" in advice.notes
    other = qc.Calibrator()
    other.observe("x", np.ones(3, np.float32))
    with pytest.raises(qc.CalibrationError, match="has observed no input"):
        quick(model, given, calibrator=other)


def test_the_budget_limits_what_stays_in_float() -> None:
    model = Residual()
    assert len(quick(model, samples(), keep_float=4, budget=0.26).exclude) == 2
    assert quick(model, samples(), budget=0).exclude == ()
    assert quick(model, samples(), keep_float=0).exclude == ()


def test_a_passed_time_limit_returns_the_loss_and_says_so() -> None:
    advice = qc.torch.advise(Residual(), samples(), time_limit=1e-9)
    assert advice.loss > 0
    assert advice.exclude == ()
    assert "the time limit of 1e-09 s ended the search" in advice.notes


def test_language_models_are_compared_by_words_and_shared_inputs_are_one() -> None:
    model = small_llama()
    given = [tokens(1, 24, seed=seed) for seed in range(4)]
    advice = quick(model, given, keep_float=2, exclude="lm_head")
    assert advice.method.startswith("KL divergence")
    assert advice.loss_after < advice.loss
    block = "model.layers.0.self_attn"
    nodes = {tensor.name: tensor.nodes for tensor in advice.tensors}
    for name, of_name in nodes.items():
        if name.endswith("q_proj"):
            assert [n.rsplit(".", 1)[1][0] for n in of_name] == ["q", "k", "v"]
    assert f"{block}.k_proj" not in nodes
    assert advice.float_share["inputs"] == 2 / 8
    table = table_of(model, given, exclude="lm_head")
    expected = []
    for x in given[1::2]:
        with torch.no_grad():
            wanted = model(x).double().log_softmax(-1)
            with qc.torch.fake_quantize(model, table):
                got = model(x).double().log_softmax(-1)
        expected.append(float((wanted.exp() * (wanted - got)).sum(-1).mean()))
    assert advice.loss == pytest.approx(np.mean(expected), rel=1e-3)


def test_all_readers_of_an_input_stay_in_float_together() -> None:
    given = [random(2, 6, seed=seed) for seed in range(4)]
    advice = quick(Branches(), given, keep_float=1)
    assert (advice.exclude, advice.loss_after) == (("q", "k", "v"), 0.0)
    assert advice.tensors[0].nodes == ("q", "k", "v")


def test_images_are_compared_by_squared_error() -> None:
    given = [random(2, 3, 8, 8, seed=seed) for seed in range(4)]
    advice = qc.torch.advise(conv_net(), given, keep_float=1)
    assert advice.method.startswith("squared error")
    assert {t.name for t in advice.tensors} <= {"0", "3"}
    assert advice.loss_after < advice.loss


def test_samples_are_values_tuples_or_mappings() -> None:
    x, mask = random(2, 5, 6), torch.ones(2, 5)
    forms = [x, (x, mask), {"x": x, "attention_mask": mask}]
    torch.manual_seed(0)
    model = Masked()
    losses = {quick(model, [form, form]).loss for form in forms}
    assert len(losses) == 1


def test_a_module_with_several_calls_is_one_input() -> None:
    given = [random(2, 6, seed=seed) for seed in range(4)]
    advice = quick(Shared(), given, keep_float=1)
    assert (advice.exclude, advice.loss_after) == (("block",), 0.0)


def test_an_own_loss_decides() -> None:
    """Of two heads only the one that counts is guilty."""

    class Heads(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.a, self.b = nn.Linear(6, 6), nn.Linear(6, 6)

        def forward(self, x: Any) -> Any:
            return self.a(x + 1), self.b(x - 1)

    def second(wanted: Any, found: Any) -> Any:
        return (wanted[1] - found[1]).abs().max()

    given = [random(2, 6, seed=seed) for seed in range(4)]
    advice = quick(Heads(), given, loss=second, keep_float=2)
    assert advice.exclude == ("b",)
    assert advice.method == "the given loss"


def test_modules_that_read_one_tensor_are_found() -> None:
    for change, expected in ((False, [("q", "k", "v")]), (True, [("q", "k"), ("v",)])):
        model = Branches(change)
        modules = {name: getattr(model, name) for name in "qkv"}
        found = find_shared_inputs(modules, lambda m=model: m(random(2, 6)))
        assert [shared.paths for shared in found] == expected
        assert sum(shared.weights for shared in found) == 3 * 42
        assert sum(shared.multiply_adds for shared in found) == 3 * 2 * 36
        assert hooks_of(model) == 0


def test_the_losses_of_outputs_have_their_limits() -> None:
    a, b = random(3, 5), random(3, 5, seed=1)
    assert divergence(a, a) == 0
    assert divergence(a, a + 3) == pytest.approx(0, abs=1e-6)
    assert divergence(a, b) > 0
    masked = a.clone()
    masked[:, 0] = -math.inf  # a word that cannot follow
    assert divergence(masked, masked) == 0
    assert math.isinf(divergence(a, a * math.nan))
    assert relative_variance_error(a, a) == 0
    assert relative_variance_error(torch.ones(3), torch.full((3,), 2.0)) == 1
    assert relative_variance_error(torch.zeros(3), torch.ones(3)) == 3
    assert math.isinf(relative_variance_error(a, a * math.nan))


def refused(
    match: str, *args: Any, kind: Any = qc.CalibrationError, **more: Any
) -> None:
    with pytest.raises(kind, match=match):
        qc.torch.advise(*args, **more)


def test_wrong_arguments_are_refused() -> None:
    model, given = Residual(), samples(2)
    refused("not Tensor", model, given[0], kind=TypeError)
    refused("must be a torch.nn.Module", 3, given, kind=TypeError)
    refused("There are 1 samples", model, given[:1])
    refused("keep_float is -1", model, given, keep_float=-1)
    refused("keep_float is True", model, given, keep_float=True)
    refused("budget is 2", model, given, budget=2)
    refused("time_limit is 0", model, given, time_limit=0)
    refused("weights is dict", model, given, weights={})
    refused("loss is 'mean'.*\"kl\"", model, given, loss="mean")
    refused("matches no module", model, given, exclude="layer.1")
    refused("loss returned nan for sample 0", model, given, loss=lambda *_: math.nan)
    refused("loss returned None", model, given, loss=lambda *_: None)
    refused("cannot be run on the sample", Failing(), [(random(2, 6), True)] * 2)
    with qc.torch.observe(model.eval(), include="layers.0"):
        refused("inside a block of quantcal.torch.observe", model, given)
        model(given[0])
    assert hooks_of(model) == 0


def test_outputs_without_floats_need_a_loss() -> None:
    class Index(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.up = nn.Linear(6, 6)

        def forward(self, x: Any) -> Any:
            return self.up(x).argmax(-1)

    given = [random(8, 6, seed=seed) for seed in range(4)]
    refused("hold no tensor of floats", Index(), given)
    advice = quick(
        Index(), given, loss=lambda a, b: (a[0] != b[0]).float().mean(), format="int2"
    )
    assert advice.loss > 0
    assert advice.exclude == ("up",)
