"""`qc.torch.smoothquant` folds only groups that a sample confirms."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from torch.nn.utils import prune  # noqa: E402

import quantcal as qc  # noqa: E402
from quantcal.torch.groups import Group, find_groups  # noqa: E402
from smoothing_models import (  # noqa: E402
    WIDTH,
    Blocks,
    Normed,
    linear,
    observed,
    random_input,
    ready,
    state_of,
    unchanged,
)
from torch_models import hooks_of  # noqa: E402

pytestmark = pytest.mark.torch
nn = torch.nn
QKV = tuple(f"self_attn.{name}_proj" for name in "qkv")
GATED = ("mlp.gate_proj", "mlp.up_proj")


def refused(model: Any, x: Any, message: str, **options: Any) -> None:
    """Assert that smoothquant refuses, and that the model is unchanged."""
    hooks = hooks_of(model)
    cal, before = observed(model, x), state_of(model)
    with pytest.raises(qc.CalibrationError, match=message):
        qc.torch.smoothquant(model, cal, **options)
    assert unchanged(model, before)
    assert hooks_of(model) == hooks


@pytest.mark.parametrize(
    ("kind", "wanted"),
    [
        ("pre", {"input_layernorm": QKV, "post_attention_layernorm": GATED}),
        ("sandwich", {"input_layernorm": QKV, "pre_feedforward_layernorm": GATED}),
        ("parallel", {"input_layernorm": (*QKV, *GATED)}),
    ],
)
def test_groups_are_found_in_the_sample(
    kind: str, wanted: dict[str, tuple[str, ...]]
) -> None:
    model, x = ready(Blocks(kind)), random_input()
    expected, cal = model(x), observed(model, x)
    done = qc.torch.smoothquant(model, cal)
    found = {s.group.source: s.group.readers for s in done}
    assert found == {
        f"layers.{i}.{source}": tuple(f"layers.{i}.{reader}" for reader in readers)
        for i in (0, 1)
        for source, readers in wanted.items()
    }
    assert all(s.scale.min() < s.scale.max() for s in done)
    torch.testing.assert_close(model(x), expected, rtol=1e-4, atol=1e-5)
    other = random_input(seed=1)
    model_before = ready(Blocks(kind))
    model_before.load_state_dict(state_of(model))
    assert torch.equal(model_before(other), model(other))


@pytest.mark.parametrize("kind", ["post", "sandwich", "parallel"])
def test_groups_that_only_the_names_suggest_are_refused(kind: str) -> None:
    model, x = ready(Blocks(kind)), random_input()
    found = find_groups(model)
    assert found
    refused(model, x, r"layers\.0\.", groups=found)


def test_norms_after_the_sum_have_no_groups() -> None:
    model = ready(Blocks("post"))
    refused(model, random_input(), r'no groups.*"layers\.0\.input_layernorm".*add in')


def test_a_router_that_is_a_linear_layer_is_a_reader() -> None:
    model, x = ready(Normed("router")), random_input()
    expected = model(x)
    (done,) = qc.torch.smoothquant(model, observed(model, x))
    assert done.group == Group("norm", ("fc", "router"))
    torch.testing.assert_close(model(x), expected, rtol=1e-4, atol=1e-5)
    refused(
        ready(Normed("router")),
        x,
        'read by "fc" only, but by "router"',
        groups=[Group("norm", ("fc",))],
    )


@pytest.mark.parametrize("given", [False, True])
@pytest.mark.parametrize(
    ("other", "message"),
    [
        ("matmul", "by .*mm in"),
        ("sum", "by add in"),
        ("almost nothing", "by tanh in"),
        ("choice", "by argmax in"),
        ("output", "the model returns it"),
        ("attribute", "by pow in"),
        ("other input", '"fc" reads an input of the model, not the output of "norm"'),
        ("weight", "something else reads one of them"),
    ],
)
def test_a_second_reader_of_a_norm_or_a_weight_is_refused(
    other: str, message: str, given: bool
) -> None:
    options = {"groups": [Group("norm", ("fc",))]} if given else {}
    cause = ready(Normed(other))
    x = random_input()
    if other == "other input":
        cal, before = observed(cause, x, merge_calls=True), state_of(cause)
        with pytest.raises(qc.CalibrationError, match=message):
            qc.torch.smoothquant(cause, cal, **options)
        assert unchanged(cause, before)
    else:
        refused(cause, x, message, **options)


@pytest.mark.filterwarnings("ignore:No activations of")
def test_readers_that_the_sample_does_not_reach_are_refused() -> None:
    refused(
        ready(Normed("experts")),
        random_input(4),
        r'does not reach .*"experts\.1", which may read',
    )
    refused(
        ready(Normed("experts")),
        random_input(4),
        r'"experts\.1" was not called',
        groups=[Group("norm", ("fc", "experts.0", "experts.1"))],
    )


def test_a_sample_that_reaches_all_experts_may_be_given() -> None:
    model = ready(Normed("experts"))
    x = random_input(4)
    more = random_input(6)
    expected, cal = model(more), observed(model, x, exclude="experts.1")
    (done,) = qc.torch.smoothquant(model, cal, sample=more)
    assert done.group.readers == ("fc", "experts.0", "experts.1")
    torch.testing.assert_close(model(more), expected, rtol=1e-4, atol=1e-5)


def spectral(module: Any) -> None:
    nn.utils.spectral_norm(module)


COMPUTED: dict[str, Callable[[Any], Any]] = {
    "weight_norm": nn.utils.parametrizations.weight_norm,
    "weight_norm by a hook": nn.utils.weight_norm,
    "spectral_norm": nn.utils.parametrizations.spectral_norm,
    "spectral_norm by a hook": spectral,
    "pruned": lambda m: prune.l1_unstructured(m, "weight", 3),
    "orthogonal": nn.utils.parametrizations.orthogonal,
}


@pytest.mark.filterwarnings("ignore:`torch.nn.utils.weight_norm` is deprecated")
@pytest.mark.parametrize(
    ("where", "given"), [("source", True), ("reader", True), ("reader", False)]
)
@pytest.mark.parametrize("kind", COMPUTED)
def test_weights_that_are_computed_are_refused_by_name(
    kind: str, where: str, given: bool
) -> None:
    first, second = linear(), linear()
    if where == "reader" and not given:
        first = nn.LayerNorm(WIDTH)
    COMPUTED[kind](first if where == "source" else second)
    model = ready(nn.Sequential(first, second))
    name = "0" if where == "source" else "1"
    options = {"groups": [Group("0", ("1",))]} if given else {}
    refused(model, random_input(), f'weight of "{name}" is no parameter', **options)


def test_a_bias_that_is_pruned_is_refused() -> None:
    model = ready(nn.Sequential(linear(), linear()))
    prune.l1_unstructured(model[0], "bias", 3)
    refused(
        model,
        random_input(),
        'bias of "0" is no parameter',
        groups=[Group("0", ("1",))],
    )


def test_memory_that_two_parameters_share_is_refused() -> None:
    model = ready(nn.Sequential(nn.LayerNorm(WIDTH), linear(), linear()))
    model[2].weight = nn.Parameter(model[1].weight.data, requires_grad=False)
    refused(model, random_input(), '"1" shares its weight with another module, "2"')
    model = ready(nn.Sequential(nn.LayerNorm(WIDTH), linear(), linear()))
    model[1].weight = nn.Parameter(model[2].weight.data.T, requires_grad=False)
    refused(model, random_input(), "shares its weight")


def test_sources_of_other_kinds_are_refused_by_name() -> None:
    convolution = nn.Sequential(nn.Conv1d(6, WIDTH, 1), linear())
    for model, group in (
        (convolution, Group("0", ("1",))),
        (nn.Sequential(nn.Tanh(), linear()), Group("0", ("1",))),
        (nn.Sequential(nn.BatchNorm1d(6), linear()), Group("0", ("1",))),
    ):
        refused(
            ready(model), random_input(), '"0" has a weight of shape', groups=[group]
        )
    for module in (nn.PReLU(WIDTH), nn.BatchNorm1d(6)):
        odd = ready(nn.Sequential(module, nn.Linear(WIDTH, 3)))
        x = (
            random_input().transpose(1, 2)
            if isinstance(module, nn.PReLU)
            else random_input()
        )
        if isinstance(module, nn.PReLU):
            odd[1] = nn.Linear(6, 3)
        refused(odd, x, "no groups|read by|weight of shape")


def test_skipped_norms_are_warned_of_and_the_others_are_smoothed() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.good, self.bad = Normed(), Normed("sum")

        def forward(self, x: Any) -> Any:
            return self.bad(self.good(x))

    model, x = ready(Two()), random_input()
    expected = model(x)
    with pytest.warns(
        UserWarning, match=r'Not smoothed: "bad\.norm"\..*by add in "bad"'
    ):
        done = qc.torch.smoothquant(model, observed(model, x))
    assert [s.group.source for s in done] == ["good.norm"]
    torch.testing.assert_close(model(x), expected, rtol=1e-4, atol=1e-5)


def test_unobserved_layers_are_skipped_without_a_warning() -> None:
    model, x = ready(Blocks("pre")), random_input()
    cal = observed(model, x, include="*.q_proj")
    done = qc.torch.smoothquant(model, cal)
    assert [s.group.source for s in done] == [
        "layers.0.input_layernorm",
        "layers.1.input_layernorm",
    ]


class Named(nn.Module):
    """A model with inputs by name, some of them nested."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Sequential(nn.LayerNorm(WIDTH), linear())

    def forward(self, x: Any, scale: float = 1.0, extra: Any = None) -> Any:
        # The input changes in place.
        x.mul_(scale)
        return {"y": [self.inner(x + extra["z"])]}


@pytest.mark.parametrize("give", ["observed", "value", "tuple", "mapping", "callable"])
def test_the_sample_is_observed_or_given(give: str) -> None:
    model, x = ready(Named()), random_input()
    extra = {"z": random_input(seed=1)}
    calibrator = None if give == "observed" else qc.Calibrator()
    with qc.torch.observe(model, axis=-1, calibrator=calibrator) as cal:
        model(x.clone(), scale=2.0, extra=extra)
    if give == "observed":
        sample = None
    elif give == "value":
        model.forward = lambda x: Named.forward(model, x, 1.0, extra)
        sample = x
    elif give == "tuple":
        sample = (x, 1.0, extra)
    elif give == "mapping":
        sample = {"x": x, "extra": extra}
    else:
        sample = lambda m: m.inner(x)  # noqa: E731
    kept = x.clone()
    (done,) = qc.torch.smoothquant(model, cal, sample=sample)
    assert done.group == Group("inner.0", ("inner.1",))
    assert torch.equal(x, kept)


def test_without_a_sample_or_with_one_that_fails_nothing_changes() -> None:
    model, x = ready(Blocks("pre")), random_input()
    cal, before = observed(model, x), state_of(model)
    loaded = qc.Calibrator.from_bytes(cal.to_bytes())
    for calibrator, sample, message in (
        (loaded, None, "Give sample="),
        (cal, torch.randn(3, 5), "cannot be run on the sample: RuntimeError"),
        (cal, {"y": x}, "cannot be run on the sample: TypeError"),
        (cal, lambda m: m(x) and None, "cannot be run on the sample"),
        (cal, lambda m: None, "holds no tensors"),
    ):
        with pytest.raises(qc.CalibrationError, match=message):
            qc.torch.smoothquant(model, calibrator, sample=sample)
    assert unchanged(model, before)
    assert hooks_of(model) == 0
    assert qc.torch.smoothquant(model, loaded, sample=x)


@pytest.mark.parametrize("at", range(1, 7))
def test_an_interruption_leaves_the_model_unchanged(at: int) -> None:
    """Interrupt each of the five runs: trace, two references, powers of two, real scales."""
    model, x = ready(Blocks("pre")), random_input()
    cal, before = observed(model, x), state_of(model)
    runs = 0

    def interrupted(inner: Any) -> Any:
        nonlocal runs
        runs += 1
        if runs == at:
            raise KeyboardInterrupt
        return inner(x)

    if at > 5:
        assert qc.torch.smoothquant(model, cal, sample=interrupted)
        assert not unchanged(model, before)
        return
    with pytest.raises(KeyboardInterrupt):
        qc.torch.smoothquant(model, cal, sample=interrupted)
    assert unchanged(model, before)
    assert hooks_of(model) == 0


def test_a_changed_output_restores_the_weights(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from quantcal.torch import output_check

    monkeypatch.setitem(output_check.ROUNDING, torch.float32, 0.0)
    refused(ready(Blocks("pre")), random_input(), "the model is unchanged")


def test_float16_overflow_of_the_scales_is_detected(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from quantcal.torch import smoothing

    huge = lambda a, w, alpha: (a * 0 + 1e-7).astype("float32")  # noqa: E731
    monkeypatch.setattr(smoothing, "smoothing_scale", huge)
    model = ready(nn.Sequential(nn.LayerNorm(WIDTH), linear())).half()
    refused(model, random_input().half(), "differs by inf", groups=[Group("0", ("1",))])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_models_of_other_float_types_are_smoothed(dtype: Any) -> None:
    model, x = ready(Blocks("pre")).to(dtype), random_input().to(dtype)
    expected = model(x)
    done = qc.torch.smoothquant(model, observed(model, x))
    assert len(done) == 4
    error = float((model(x) - expected).double().norm() / expected.double().norm())
    assert error < {torch.float64: 1e-6}.get(dtype, 0.05)


def test_running_the_sample_keeps_modes_buffers_and_random_numbers() -> None:
    model = nn.Sequential(
        nn.BatchNorm1d(6), nn.Dropout(0.5), nn.LayerNorm(WIDTH), linear()
    )
    x = random_input()
    cal = observed(model.eval(), x)
    model.train()
    model[0].eval()
    before, random = state_of(model), torch.get_rng_state()
    modes = [m.training for m in model.modules()]
    with pytest.raises(qc.CalibrationError, match="no module"):
        qc.torch.smoothquant(model, cal, groups=[Group("x", ("3",))])
    assert len(qc.torch.smoothquant(model, cal)) == 1
    assert [m.training for m in model.modules()] == modes
    assert torch.equal(torch.get_rng_state(), random)
    after = state_of(model)
    kept = {name: v for name, v in after.items() if not name.startswith(("2.", "3.w"))}
    assert all(torch.equal(value, before[name]) for name, value in kept.items())
    assert not torch.equal(after["3.weight"], before["3.weight"])


def test_buffers_that_a_forward_pass_changes_are_restored() -> None:
    class Counting(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = nn.Sequential(nn.LayerNorm(WIDTH), linear())
            self.register_buffer("calls", torch.zeros(1))
            self.register_buffer("last", torch.zeros(1))

        def forward(self, x: Any) -> Any:
            self.calls += 1
            self.last = x.mean()
            return self.inner(x)

    model, x = ready(Counting()), random_input()
    cal = observed(model, x)
    last = model.last
    assert qc.torch.smoothquant(model, cal)
    assert model.calls.tolist() == [1]
    assert model.last is last


def test_a_model_without_repeatable_output_is_refused() -> None:
    class Drifting(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner, self.calls = nn.Sequential(nn.LayerNorm(WIDTH), linear()), 0

        def forward(self, x: Any) -> Any:
            self.calls += 1
            return self.inner(x) * self.calls

    refused(ready(Drifting()), random_input(), "differs from run to run")


def test_compiled_and_autocast_models_are_verified_too() -> None:
    model, x = ready(Blocks("pre")), random_input()
    compiled = torch.compile(model, backend="eager")
    expected = model(x)
    assert len(qc.torch.smoothquant(compiled, observed(compiled, x))) == 4
    torch.testing.assert_close(model(x), expected, rtol=1e-4, atol=1e-5)
    model = ready(Blocks("pre")).requires_grad_()
    expected = model(x)
    with torch.autocast("cpu", torch.bfloat16):
        # This call caches casts of the weights.
        model(x)
        assert len(qc.torch.smoothquant(model, observed(model, x))) == 4
    torch.testing.assert_close(model(x), expected, rtol=1e-4, atol=1e-5)


def test_attention_of_torch_reads_its_norm_without_a_layer() -> None:
    layer = nn.TransformerEncoderLayer(
        WIDTH, 2, 16, dropout=0.0, norm_first=True, batch_first=True
    )
    model, x = ready(nn.Sequential(layer, nn.Identity())), random_input()
    expected = model(x)
    with warnings.catch_warnings():
        # The out_proj is never called, which gives a warning.
        warnings.simplefilter("ignore")
        cal = observed(model, x)
    # norm1 is read by a product with in_proj_weight, outside any linear layer.
    done = qc.torch.smoothquant(model, cal)
    assert [s.group for s in done] == [Group("0.norm2", ("0.linear1",))]
    torch.testing.assert_close(model(x), expected, rtol=1e-4, atol=1e-5)


def test_copies_of_a_model_take_the_sample_of_the_original() -> None:
    model, x = ready(Blocks("pre")), random_input()
    cal = observed(model, x)
    first, second = copy.deepcopy(model), copy.deepcopy(model)
    qc.torch.smoothquant(first, cal)
    qc.torch.smoothquant(second, cal, sample=x)
    assert unchanged(first, state_of(second))


@pytest.mark.parametrize("block", ["observe", "fake activations", "fake weights"])
def test_smoothing_inside_a_block_is_refused(block: str) -> None:
    model, x = ready(Blocks("pre")), random_input()
    cal, before = observed(model, x), state_of(model)
    table = {"layers.0.mlp.up_proj": qc.QuantParams.from_range(-1, 1, format="int8")}
    blocks = {
        "observe": lambda: qc.torch.observe(model, axis=-1),
        "fake activations": lambda: qc.torch.fake_quantize(model, table),
        "fake weights": lambda: qc.torch.fake_quantize(
            model, table, weights="int8", activations=None
        ),
    }
    with (
        pytest.raises(
            qc.CalibrationError, match=r"inside a block of quantcal\.torch\."
        ),
        blocks[block](),
    ):
        qc.torch.smoothquant(model, cal)
    assert unchanged(model, before)
    assert qc.torch.smoothquant(model, cal)


def test_extremes_are_those_of_all_readers() -> None:
    model = ready(Normed("experts"))
    x = random_input(6)
    # LayerNorm removes this factor, so only the weight of the norm matters.
    x[0] *= 0.01
    # Only the second expert reads these.
    x[1:, :, 3] *= 1000
    whole = observed(model, x)
    parts = observed(model, x, include="experts.*")
    (by_whole,) = qc.torch.smoothquant(copy.deepcopy(model), whole, sample=x)
    (by_parts,) = qc.torch.smoothquant(copy.deepcopy(model), parts, sample=x)
    assert torch.equal(torch.tensor(by_whole.scale), torch.tensor(by_parts.scale))


def test_layers_observed_call_by_call_need_merged_calls() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm, self.fc = nn.LayerNorm(WIDTH), linear()

        def forward(self, x: Any) -> Any:
            return self.fc(self.norm(self.fc(self.norm(x))))

    model, x = ready(Twice()), random_input()
    refused(model, x, "merge_calls=True")
    expected = model(x)
    (done,) = qc.torch.smoothquant(model, observed(model, x, merge_calls=True))
    assert done.group == Group("norm", ("fc",))
    torch.testing.assert_close(model(x), expected, rtol=1e-4, atol=1e-5)
