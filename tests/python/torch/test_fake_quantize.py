"""`qc.torch.fake_quantize` equals `QuantParams.fake_quantize`, and is undone afterwards."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import quantcal as qc  # noqa: E402
from torch_models import Branches, Failing, Shared, conv_net, hooks_of, random  # noqa: E402

pytestmark = pytest.mark.torch
nn = torch.nn


def faked(params: qc.QuantParams, x: Any) -> Any:
    return torch.from_numpy(params.fake_quantize(x.detach().numpy()))


def params_of(x: Any, **options: Any) -> qc.QuantParams:
    return qc.calibrate(x.detach().numpy(), **{"strategy": "mse", **options})


@pytest.mark.parametrize("format", ["int8", "uint8", "int4", "float8_e4m3fn"])
def test_inputs_are_quantized_with_their_parameters(format: str) -> None:
    model, x = conv_net(), random(2, 3, 8, 8)
    of_input = params_of(x, format=format)
    between = torch.relu(model[0](faked(of_input, x))).flatten(1)
    of_hidden = params_of(between, format=format)
    wanted = model[3](faked(of_hidden, between))
    with qc.torch.fake_quantize(model, {"0": of_input, "3": of_hidden}):
        assert torch.equal(model(x), wanted)
    assert not torch.equal(model(x), wanted)
    assert hooks_of(model) == 0


def test_an_observed_table_fits_its_model() -> None:
    model, x = Shared(2), random(64, 6)
    with qc.torch.observe(model, outputs=True, weights=True, weight_axis=0) as cal:
        model(x)
    table = cal.compute("mse")
    weight = faked(table["block:weight"], model.block.weight)
    wanted = x
    for call in (1, 2):
        inner = faked(table[f"block#{call}"], wanted)
        wanted = faked(
            table[f"block#{call}:output"],
            nn.functional.linear(inner, weight, model.block.bias),
        )
    with qc.torch.fake_quantize(model, table):
        assert torch.equal(model(x), wanted)


@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize("change", [False, True])
@pytest.mark.parametrize("other", [False, True])
def test_a_tensor_that_several_modules_get_is_quantized_for_each(
    other: bool, change: bool, context: Any
) -> None:
    model, x = Branches(change), random(4, 6)
    params = params_of(x, format="int4")
    of_last = params_of(x, format="int4", strategy="minmax") if other else params
    table = {"q": params, "k": params, "v": of_last}
    with context():
        h = x + 1
        wanted = model.q(faked(params, h)) + model.k(faked(params, h))
        wanted += model.v(faked(of_last, 2 * h if change else h))
        with qc.torch.fake_quantize(model, table):
            assert torch.equal(model(x), wanted)


def test_a_module_that_changes_its_input_changes_no_other_input() -> None:
    class InPlace(nn.Module):
        def forward(self, x: Any) -> Any:
            return x.mul_(2)

    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.changing, self.other = InPlace(), nn.Identity()

        def forward(self, x: Any) -> Any:
            return self.changing(x).clone(), self.other(x)

    model, x = Two(), random(4, 6)
    params = params_of(x, format="int4")
    table = {"changing": params, "other": params}
    with torch.no_grad(), qc.torch.fake_quantize(model, table):
        changed, other = model(x)
    assert torch.equal(changed, 2 * faked(params, x))
    assert torch.equal(other, faked(params, x))


def test_each_channel_has_a_range() -> None:
    model, x = nn.Linear(6, 2), random(7, 6) * torch.arange(1, 7)
    params = params_of(x, axis=-1)
    with qc.torch.fake_quantize(model, {"Linear": params}):
        assert torch.equal(model(x), model.forward(faked(params, x)))


@pytest.mark.parametrize("format", ["int8", "uint8"])
def test_each_token_has_the_range_of_its_extremes(format: str) -> None:
    model, x = nn.Linear(6, 2), random(2, 3, 6)
    x[0, 1] = 0
    x[1, 0, 2] = float("inf")
    x[1, 1] *= 1000
    rows = []
    for token in x.reshape(-1, 6):
        finite = token[token.isfinite()].numpy()
        low, high = float(finite.min()), float(finite.max())
        params = qc.QuantParams.from_range(low, high, format=format)
        rows.append(faked(params, token))
    wanted = model(torch.stack(rows).reshape(2, 3, 6))
    table = {"Linear": params_of(random(9), format=format)}
    with qc.torch.fake_quantize(model, table, activations="per_token"):
        assert torch.equal(model(x), wanted)
        assert model(x[:0]).shape == (0, 3, 2)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_float_types_are_quantized_in_float32_and_keep_their_type(
    dtype: Any,
) -> None:
    model, x = nn.Linear(6, 2).to(dtype), random(5, 6).to(dtype)
    params = params_of(x.float())
    wanted = model(faked(params, x.float()).to(dtype))
    with qc.torch.fake_quantize(model, {"Linear": params}):
        assert torch.equal(model(x), wanted)


def test_weights_get_a_range_for_each_output_channel() -> None:
    for model, x, axis in (
        (nn.Linear(6, 2), random(5, 6), 0),
        (nn.Conv2d(3, 4, 3), random(2, 3, 8, 8), 0),
        (nn.ConvTranspose2d(3, 4, 3), random(2, 3, 8, 8), 1),
    ):
        before = model.weight
        params = params_of(before, strategy="minmax", format="int4", axis=axis)
        table = {type(model).__name__: params_of(x)}
        options = {"weights": "int4", "activations": None}
        with qc.torch.fake_quantize(model, table, **options):
            assert torch.equal(model.weight, faked(params, before))
        assert model.weight is before


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
@pytest.mark.parametrize("format", ["int8", "uint8", "int4", "float8_e4m3fn"])
def test_ranges_of_weights_are_those_of_calibrate(format: str, dtype: str) -> None:
    model = nn.ModuleDict(
        {"linear": nn.Linear(6, 5), "up": nn.ConvTranspose2d(4, 3, 2)}
    ).to(getattr(torch, dtype))
    odd = model["linear"].weight.data
    odd[0] = 0
    odd[1] = -odd[1].abs()
    odd[2, 0] = 1e-40
    for value in (1.0, float("nan"), float("inf")):
        odd[3, 1] = value
        for name, axis in (("linear", 0), ("up", 1)):
            weight = model[name].weight.detach()
            exact = weight.float().numpy()
            wanted = qc.calibrate(exact, "minmax", format=format, axis=axis)
            with qc.torch.fake_quantize(
                model, {name: wanted}, weights=format, activations=None
            ):
                found = model[name].weight.detach()
            wanted_values = torch.from_numpy(wanted.fake_quantize(exact)).to(found)
            assert torch.equal(found.nan_to_num(7), wanted_values.nan_to_num(7))


def test_weights_may_be_given() -> None:
    model = Failing()
    weight = model.first.weight
    params = params_of(weight, format="int4")
    for key in ("first", "first:weight"):
        with qc.torch.fake_quantize(model, {"second": params}, weights={key: params}):
            assert torch.equal(model.first.weight, faked(params, weight))
            assert len(torch.unique(model.second.weight)) == 36


def test_a_tied_weight_changes_in_the_named_module_only() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding = nn.Embedding(5, 6)
            self.head = nn.Linear(6, 5, bias=False)
            self.head.weight = self.embedding.weight

        def forward(self, x: Any) -> Any:
            return self.head(self.embedding(x))

    model = Tied()
    weight = model.embedding.weight
    with qc.torch.fake_quantize(model, {"head": params_of(random(9))}, weights="int4"):
        assert model.embedding.weight is weight
        assert not torch.equal(model.head.weight, weight)
    assert model.head.weight is weight


def test_everything_is_restored_after_an_exception() -> None:
    model, x = Failing(), random(4, 6)
    wanted, weights = model(x), [model.first.weight, model.second.weight]
    table = {"first": params_of(x), "second": params_of(x)}
    with (
        pytest.raises(RuntimeError, match="between"),
        qc.torch.fake_quantize(model, table, weights="int8"),
    ):
        model(x, fail=True)
    assert hooks_of(model) == 0
    assert model.first.weight is weights[0]
    assert model.second.weight is weights[1]
    assert torch.equal(model(x), wanted)


def test_an_argument_that_is_refused_changes_nothing() -> None:
    model, params = Failing(), params_of(random(9))
    weight = model.first.weight
    for table, options, error, message in (
        ({"frist": params}, {}, qc.CalibrationError, "Did you mean first"),
        ({"first": 3}, {}, TypeError, "must have QuantParams, not int"),
        (
            {"first:skipped": params},
            {},
            qc.CalibrationError,
            "quantizes skipped positions like",
        ),
        (
            {"first": params},
            {"activations": "dynamic"},
            qc.CalibrationError,
            "'per_token'",
        ),
        ({"first": params}, {"weights": "int99"}, qc.CalibrationError, "int99"),
        ({"first": params}, {"weights": {"x": params}}, qc.CalibrationError, 'has "x"'),
        ({":weight": params}, {}, qc.CalibrationError, "no such module"),
    ):
        with (
            pytest.raises(error, match=message),
            qc.torch.fake_quantize(model, table, **options),
        ):
            pass
        assert hooks_of(model) == 0
        assert model.first.weight is weight


def test_a_weight_that_is_computed_is_refused_and_the_others_are_restored() -> None:
    model = Failing()
    nn.utils.parametrizations.weight_norm(model.second)
    weight = model.first.weight
    table = {"first": params_of(random(9)), "second": params_of(random(9))}
    with (
        pytest.raises(qc.CalibrationError, match="Remove parametrizations first"),
        qc.torch.fake_quantize(model, table, weights="int8"),
    ):
        pass
    assert model.first.weight is weight


def test_more_calls_than_in_the_table_are_refused() -> None:
    model, x = Shared(2), random(4, 6)
    with qc.torch.observe(model) as cal:
        model(x)
    model.calls = 3
    with (
        pytest.raises(qc.CalibrationError, match="called 3 times"),
        qc.torch.fake_quantize(model, cal.compute()),
    ):
        model(x)


def test_one_range_may_serve_all_calls() -> None:
    model, x = Shared(3), random(4, 6)
    params = params_of(x)
    wanted = x
    for _ in range(3):
        wanted = model.block(faked(params, wanted))
    with qc.torch.fake_quantize(model, {"block": params}):
        assert torch.equal(model(x), wanted)


def test_outputs_keep_their_container() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = nn.LSTM(6, 4)

        def forward(self, x: Any) -> Any:
            return self.inner(x)

    model, x = Two(), random(5, 6)
    output, (hidden, cell) = model(x)
    params = params_of(output, format="int4")
    with qc.torch.fake_quantize(model, {"inner:output": params}):
        found, state = model(x)
    assert torch.equal(found, faked(params, output))
    assert torch.equal(state[0], hidden)
    assert torch.equal(state[1], cell)


def test_compiled_models_are_quantized_too() -> None:
    model, x = Failing(), random(4, 6)
    compiled = torch.compile(model, backend="eager")
    before = compiled(x)
    params = params_of(x, format="int4")
    with qc.torch.fake_quantize(compiled, {"first": params}):
        assert torch.equal(
            compiled(x), model.second(model.first.forward(faked(params, x)))
        )
    assert torch.equal(compiled(x), before)


def test_integers_are_refused_by_name() -> None:
    model = nn.Embedding(5, 6)
    with (
        pytest.raises(TypeError, match=r'Tensor "Embedding" is of torch\.int64'),
        qc.torch.fake_quantize(model, {"Embedding": params_of(random(9))}),
    ):
        model(torch.tensor([1]))
    assert np.isfinite(model.weight.detach().numpy()).all()


@pytest.mark.parametrize("format", ["int8", "uint8", "int4", "uint16"])
def test_integer_formats_give_the_same_bits_on_a_device(
    format: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    infinity = float("inf")
    special = torch.tensor([0.0, -0.0, 1e-45, 3e38, -3e38, infinity, -infinity])
    halves = torch.arange(-50, 50) / 2 * 0.125
    x = torch.cat([special, torch.tensor([float("nan")]), halves, 3 * random(892)])
    x = x.reshape(4, 50, 5)
    of_whole = qc.QuantParams.from_range(-16, 15.875, format=format)
    ends = np.linspace(1, 9, 50)
    of_channels = qc.QuantParams.from_range(-ends, ends / 3, format=format, axis=1)
    model = nn.Identity()
    for params in (of_whole, of_channels):
        wanted = faked(params, x)
        monkeypatch.setattr(
            "quantcal.torch.tensor_quantization.is_off_cpu", lambda _: True
        )
        with qc.torch.fake_quantize(model, {"Identity": params}):
            found = model(x)
        assert torch.equal(found.view(torch.int32), wanted.view(torch.int32))
