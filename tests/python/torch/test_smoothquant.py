"""`qc.torch.smoothquant` keeps the float model and reduces the quantization error."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import quantcal as qc  # noqa: E402
from llama_models import small_llama, tokens  # noqa: E402
from quantcal.torch.groups import Group, find_groups  # noqa: E402
from quantcal.torch.smoothing import ALPHAS, smoothing_scale  # noqa: E402

pytestmark = pytest.mark.torch
nn = torch.nn


def observed(model: Any, axis: int | None = -1, seed: int = 0) -> qc.Calibrator:
    with qc.torch.observe(model, "*.layers.*", axis=axis) as cal:
        model(tokens(seed=seed))
    return cal


def quantized_error(model: Any, reference: Any) -> float:
    """Return the mean squared error of the logits with 8-bit weights and activations."""
    table = observed(model, axis=None).compute("minmax")
    with qc.torch.fake_quantize(model, table, weights="int8"):
        return float((model(tokens()) - reference).square().mean())


@pytest.mark.parametrize("alpha", [0.0, 0.5, 0.85, 1.0, None])
@pytest.mark.parametrize("products", [False, True])
def test_the_float_model_computes_the_same(alpha: float | None, products: bool) -> None:
    model = small_llama()
    before = model(tokens())
    weights = {name: w.clone() for name, w in model.state_dict().items()}
    found = find_groups(model, products=products)
    qc.torch.smoothquant(model, observed(model), alpha=alpha, groups=found)
    # A hundred float32 operations change the largest logit by up to 1e-5.
    torch.testing.assert_close(
        model(tokens()), before, rtol=0, atol=1e-5 * float(before.abs().max())
    )
    changed = [
        n for n, w in model.state_dict().items() if not torch.equal(w, weights[n])
    ]
    # Each of two blocks has two norms, with three and two readers, and a product.
    assert len(changed) == 2 * (2 + 3 + 2 + (1 if products else 0))


@pytest.mark.parametrize("alpha", [0.5, None])
def test_the_quantization_error_falls_below_half(alpha: float | None) -> None:
    model = small_llama()
    reference = model(tokens())
    before = quantized_error(model, reference)
    qc.torch.smoothquant(model, observed(model), alpha=alpha)
    assert quantized_error(model, reference) < before / 2


def test_the_search_takes_the_exponent_with_the_minimum_expected_error() -> None:
    model = small_llama()
    for smoothing in qc.torch.smoothquant(model, observed(model), alpha=None):
        assert tuple(smoothing.error) == ALPHAS
        assert smoothing.error[smoothing.alpha] == min(smoothing.error.values())
        assert 0 < smoothing.alpha < 1


@pytest.mark.parametrize(
    ("strategy", "format"),
    [
        ("minmax", "int8"),
        ("mse", "uint8"),
        ("percentile_99.9", "int8"),
        ("mse", "int4"),
    ],
)
def test_the_expected_error_is_that_of_quantized_data(
    strategy: str, format: str
) -> None:
    """The reference is the group's output with every value and weight quantized."""
    torch.manual_seed(1)
    model = nn.Sequential(nn.LayerNorm(32), nn.Linear(32, 24))
    model[0].weight.data *= torch.exp(torch.randn(32))
    model.requires_grad_(requires_grad=False)
    x = torch.randn(4000, 32)
    with qc.torch.observe(model, axis=-1) as cal:
        model(x)
    (searched,) = qc.torch.smoothquant(
        model,
        cal,
        alpha=None,
        groups=[Group("0", ("1",))],
        strategy=strategy,
        format=format,
    )
    # This product does not depend on the scale.
    wanted = model[0](x) @ model[1].weight.T
    scale = torch.from_numpy(searched.scale)
    inputs, weight = model[0](x) * scale, model[1].weight / scale
    act_max, weight_max = (t.abs().amax(0).double().numpy() for t in (inputs, weight))
    for alpha in (0.0, 0.25, 0.5, 0.75, 1.0):
        s = torch.from_numpy(smoothing_scale(act_max, weight_max, alpha))
        a = (inputs / s).numpy()
        params = qc.calibrate(a, strategy, format=format)
        got = torch.from_numpy(params.fake_quantize(a)) @ rows(weight * s).T
        error = float((got - wanted).square().sum() / wanted.square().sum())
        # Errors are not quite independent, and the bins of channels are 3 % wide.
        assert searched.error[alpha] == pytest.approx(error, rel=0.2)


def test_the_search_assumes_the_ranges_of_the_given_strategy() -> None:
    """If the extremes are outliers, a strategy that clips them has a smaller error."""
    torch.manual_seed(2)
    model = nn.Sequential(nn.LayerNorm(32), nn.Linear(32, 24))
    model.requires_grad_(requires_grad=False)
    x = torch.randn(2000, 32)
    x[0, :4] = 200.0
    found = {}
    for strategy in ("minmax", "mse"):
        tried = copy.deepcopy(model)
        with qc.torch.observe(tried, axis=-1) as cal:
            tried(x)
        group = [Group("0", ("1",))]
        (found[strategy],) = qc.torch.smoothquant(
            tried, cal, alpha=None, groups=group, strategy=strategy
        )
    assert found["mse"].error != found["minmax"].error
    for alpha in ALPHAS:
        assert found["mse"].error[alpha] <= found["minmax"].error[alpha] * 1.001


def test_strategies_that_the_search_cannot_use_are_refused() -> None:
    model = norm_and_linear()
    with qc.torch.observe(model, axis=-1) as cal:
        model(torch.randn(16, 8))
    before = {name: w.clone() for name, w in model.state_dict().items()}
    group = [Group("0", ("1",))]
    for strategy, message in (
        (qc.MinMax(reduce="mean"), "extremes of each observation"),
        ("best", '"best" is not known'),
        ({"other": "mse"}, 'No rule matches tensor "1"'),
    ):
        with pytest.raises(qc.CalibrationError, match=message):
            qc.torch.smoothquant(
                model, cal, alpha=None, groups=group, strategy=strategy
            )
    assert all(torch.equal(w, before[n]) for n, w in model.state_dict().items())


def rows(weight: Any) -> Any:
    """Quantize each row symmetrically to 8 bits, as defined."""
    step = weight.abs().amax(1, keepdim=True) / 127
    return torch.round(weight / step) * step


def test_exponents_0_and_1_equalize_weights_or_activations() -> None:
    a, w = np.array([1.0, 8.0, 64.0, 0.5]), np.array([2.0, 0.25, 1.0, 3.0])
    by_weights = smoothing_scale(a, w, 0.0).astype(np.float64)
    by_activations = smoothing_scale(a, w, 1.0).astype(np.float64)
    assert np.ptp(np.log(w * by_weights)) < 1e-6
    assert np.ptp(np.log(a / by_activations)) < 1e-6
    half = smoothing_scale(a, w, 0.5).astype(np.float64)
    # max|x|^0.5 / max|w|^0.5 as in the paper, up to a common factor.
    wanted = np.sqrt(a) / np.sqrt(w)
    np.testing.assert_allclose(half / half[0], wanted / wanted[0], rtol=1e-6)


def test_dead_channels_keep_their_scale() -> None:
    a, w = np.array([0.0, 4.0, 1.0]), np.array([1.0, 1.0, 0.0])
    assert smoothing_scale(a, w, 0.5).tolist() == [1.0, 1.0, 1.0]


class Plus1(nn.Module):
    """A norm as in Gemma, which adds 1 to its weight."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(8))

    def forward(self, x: Any) -> Any:
        return nn.functional.rms_norm(x, (8,)) * (1 + self.weight)


def norm_and_linear(norm: Any = None) -> Any:
    return nn.Sequential(norm or nn.LayerNorm(8), nn.Linear(8, 8))


def tied() -> Any:
    model = nn.Sequential(nn.LayerNorm(8), nn.Linear(8, 8), nn.Linear(8, 8))
    model[2].weight = model[1].weight
    return model


@pytest.mark.parametrize(
    ("make", "group", "message"),
    [
        (
            lambda: norm_and_linear(Plus1()),
            Group("0", ("1",)),
            "does not scale its output",
        ),
        (norm_and_linear, Group("2", ("1",)), 'no module "2"'),
        (norm_and_linear, Group("1", ("0",)), "only nn.Linear can be a reader"),
        (tied, Group("0", ("1",)), "shares its weight"),
        (
            lambda: nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8)),
            None,
            "no groups to smooth",
        ),
        (
            lambda: nn.Sequential(nn.LayerNorm(8), nn.Linear(8, 4), nn.Linear(4, 8)),
            Group("0", ("2",)),
            "4 input channels",
        ),
    ],
)
def test_models_that_cannot_be_smoothed_are_refused_and_unchanged(
    make: Callable[[], Any], group: Group | None, message: str
) -> None:
    model = make()
    with qc.torch.observe(model, axis=-1) as cal:
        model(torch.randn(16, 8))
    before = {name: w.clone() for name, w in model.state_dict().items()}
    with pytest.raises(qc.CalibrationError, match=message):
        qc.torch.smoothquant(model, cal, groups=None if group is None else [group])
    assert all(torch.equal(w, before[n]) for n, w in model.state_dict().items())


def test_inputs_must_have_been_observed_by_channel() -> None:
    model = norm_and_linear()
    group = [Group("0", ("1",))]
    with qc.torch.observe(model) as cal:
        model(torch.randn(16, 8))
    with pytest.raises(qc.CalibrationError, match="observed as a whole"):
        qc.torch.smoothquant(model, cal, groups=group)
    with pytest.raises(qc.CalibrationError, match="None of 1 was observed"):
        qc.torch.smoothquant(model, qc.Calibrator(), groups=group)
    with pytest.raises(qc.CalibrationError, match="from 0 to 1"):
        qc.torch.smoothquant(model, cal, groups=group, alpha=1.5)


def test_groups_are_found_by_the_names_of_pre_norm_blocks() -> None:
    found = find_groups(small_llama(), products=True)
    assert [g.source for g in found] == [
        f"model.layers.{i}.{source}"
        for source in ("input_layernorm", "post_attention_layernorm", "mlp.up_proj")
        for i in (0, 1)
    ]
    assert found[0].readers == tuple(
        f"model.layers.0.self_attn.{x}_proj" for x in "qkv"
    )
    assert found[2].readers == (
        "model.layers.0.mlp.gate_proj",
        "model.layers.0.mlp.up_proj",
    )
    assert found[4].readers == ("model.layers.0.mlp.down_proj",)
