"""Our observers in PyTorch's flows (prepare, calibrate, convert), compared with PyTorch's."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import quantcal as qc  # noqa: E402
from torch_models import random  # noqa: E402

# These warnings come from torch.ao and torchao.
pytestmark = [
    pytest.mark.torch,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore:Please use quant_min:UserWarning"),
    pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor:UserWarning"),
    pytest.mark.filterwarnings("ignore:invalid escape sequence"),
]
nn = torch.nn
STRATEGIES = ["minmax", "percentile_99.9", "kl", "mse", "entropy", "aciq", "hybrid"]
# Decibels. 8 bits give some 30 here. These two strategies clip more of 4 small batches.
MINIMUM_SQNR = {"aciq": 8, "entropy": 12}


class Convolutions(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding=1)
        self.fc = nn.Linear(8, 5)

    def forward(self, x: Any) -> Any:
        return self.fc(torch.relu(self.conv(x)).mean((2, 3)))


class Transformer(nn.Module):
    """A block of a transformer with one head."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.k, self.v, self.out = (nn.Linear(16, 16) for _ in range(4))
        self.up, self.down = nn.Linear(16, 32), nn.Linear(32, 16)
        self.norm = nn.LayerNorm(16)

    def forward(self, x: Any) -> Any:
        h = self.norm(x)
        weights = torch.softmax(self.q(h) @ self.k(h).transpose(-1, -2) / 4, -1)
        x = x + self.out(weights @ self.v(h))
        return x + self.down(torch.relu(self.up(x)))


MODELS = {
    "cnn": (Convolutions, (4, 3, 8, 8)),
    "transformer": (Transformer, (4, 6, 16)),
}


def signal_to_noise(wanted: Any, found: Any) -> float:
    """Return the signal to noise ratio in decibels."""
    wanted, found = wanted.detach(), found.detach()
    return float(10 * torch.log10(wanted.var() / (wanted - found).var()))


def model_of(kind: str) -> tuple[Any, list[Any]]:
    make, shape = MODELS[kind]
    torch.manual_seed(0)
    return make().eval(), [random(*shape, seed=seed) for seed in range(4)]


def observers_in(model: Any) -> list[Any]:
    return [m for m in model.modules() if hasattr(m, "calculate_qparams")]


def run_fx(kind: str, mapping: Any) -> tuple[float, Any]:
    from torch.ao.quantization.quantize_fx import convert_to_reference_fx, prepare_fx

    model, batches = model_of(kind)
    prepared = prepare_fx(copy.deepcopy(model), mapping, (batches[0],))
    for batch in batches:
        assert torch.equal(prepared(batch), model(batch))
    converted = convert_to_reference_fx(copy.deepcopy(prepared))
    return signal_to_noise(model(batches[0]), converted(batches[0])), prepared


def run_pt2e(kind: str, config: Any) -> tuple[float, Any]:
    from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e
    from torchao.quantization.pt2e.quantizer import x86_inductor_quantizer as x86

    model, batches = model_of(kind)
    exported = torch.export.export(model, (batches[0],)).module()
    quantizer = x86.X86InductorQuantizer().set_global(config)
    prepared = prepare_pt2e(exported, quantizer)
    for batch in batches:
        prepared(batch)
    observed = copy.deepcopy(prepared)
    converted = convert_pt2e(prepared)
    return signal_to_noise(model(batches[0]), converted(batches[0])), observed


def x86_config() -> Any:
    pytest.importorskip("torchao")
    from torchao.quantization.pt2e.quantizer import x86_inductor_quantizer as x86

    return x86.get_default_x86_inductor_quantization_config()


def fx_mapping() -> Any:
    return torch.ao.quantization.get_default_qconfig_mapping("x86")


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_fx_converts_with_every_strategy(kind: str, strategy: str) -> None:
    mapping = qc.torch.attach_observer(fx_mapping(), strategy, weights="minmax")
    quality, prepared = run_fx(kind, mapping)
    ours = [o for o in observers_in(prepared) if isinstance(o, qc.torch.Observer)]
    assert len(ours) >= 3
    assert quality > MINIMUM_SQNR.get(strategy, 20)


def test_fx_is_as_good_as_with_the_stock_observers() -> None:
    for kind in MODELS:
        stock, _ = run_fx(kind, fx_mapping())
        ours, _ = run_fx(kind, qc.torch.attach_observer(fx_mapping(), "mse"))
        assert ours > stock - 1


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_pt2e_converts_with_every_strategy(kind: str, strategy: str) -> None:
    config = qc.torch.attach_observer(x86_config(), strategy, weights="minmax")
    quality, prepared = run_pt2e(kind, config)
    whole, by_channel = qc.torch.pt2e_observers()
    assert any(isinstance(o, whole) for o in observers_in(prepared))
    assert quality > MINIMUM_SQNR.get(strategy, 20)
    assert by_channel.__name__ == "PT2EPerChannelObserver"


def test_pt2e_is_as_good_as_with_the_stock_observers() -> None:
    for kind in MODELS:
        stock, _ = run_pt2e(kind, x86_config())
        ours, _ = run_pt2e(kind, qc.torch.attach_observer(x86_config(), "mse"))
        assert ours > stock - 1


@pytest.mark.parametrize(
    ("codes", "format", "symmetric", "shift"),
    [
        ((torch.quint8, None, None, torch.per_tensor_affine), "uint8", False, 0),
        ((torch.qint8, None, None, torch.per_tensor_affine), "int8", False, 0),
        ((torch.qint8, None, None, torch.per_tensor_symmetric), "int8", True, 0),
        ((torch.int8, -127, 127, torch.per_tensor_symmetric), "int8", True, 0),
        ((torch.quint8, 0, 127, torch.per_tensor_affine), "uint7", False, 0),
        ((torch.quint8, None, None, torch.per_tensor_symmetric), "int8", True, 128),
        ((torch.int8, -8, 7, torch.per_tensor_symmetric), "int4", True, 0),
        ((torch.uint8, 0, 15, torch.per_tensor_affine), "uint4", False, 0),
    ],
)
def test_parameters_are_those_of_calibrate(
    codes: tuple[Any, ...], format: str, symmetric: bool, shift: int
) -> None:
    dtype, low, high, scheme = codes
    observer = qc.torch.Observer("mse", dtype, scheme, quant_min=low, quant_max=high)
    batches = [random(5, 7, seed=seed) + 0.5 for seed in range(3)]
    for batch in batches:
        assert observer(batch) is batch
    scale, zero_point = observer.calculate_qparams()
    together = torch.cat(batches).numpy()
    params = qc.calibrate(together, "mse", format=format, symmetric=symmetric)
    assert scale.dtype == torch.float32
    assert scale.tolist() == [params.scale]
    assert zero_point.tolist() == [params.zero_point + shift]


def test_each_channel_gets_parameters() -> None:
    x = random(4, 5, 6) * torch.arange(1, 6)[:, None]
    options = {"qscheme": torch.per_channel_affine, "ch_axis": 1}
    observer = qc.torch.PerChannelObserver("minmax", torch.qint8, **options)
    observer(x)
    scale, zero_point = observer.calculate_qparams()
    params = qc.calibrate(x.numpy(), "minmax", format="int8", symmetric=False, axis=1)
    assert np.array_equal(scale.numpy(), params.scale)
    assert np.array_equal(zero_point.numpy(), params.zero_point)


def test_counts_on_a_device_give_the_same_parameters(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    observers = [qc.torch.Observer("mse") for _ in range(2)]
    for observer, elsewhere in zip(observers, (False, True), strict=True):
        monkeypatch.setattr(
            "quantcal.torch.observers.is_off_cpu", lambda _, e=elsewhere: e
        )
        for dtype in (torch.float32, torch.float32, torch.bfloat16):
            observer(random(5, 7).to(dtype))
    assert observers[0].calibrator == observers[1].calibrator


def test_an_observer_is_copied_and_saved_with_its_values() -> None:
    observer = qc.torch.Observer("mse")
    observer(random(5, 7))
    other = qc.torch.Observer("mse")
    other.load_state_dict(observer.state_dict())
    for twin in (other, copy.deepcopy(observer)):
        assert twin.calibrator == observer.calibrator
        twin(random(5, 7, seed=1))
        assert twin.calibrator != observer.calibrator


def test_an_observer_without_values_warns() -> None:
    with pytest.warns(UserWarning, match="has seen nothing"):
        scale, zero_point = qc.torch.Observer().calculate_qparams()
    assert (scale.tolist(), zero_point.tolist()) == ([1], [0])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"strategy": "mze"}, "mze"),
        ({"quant_min": 3, "quant_max": 9}, "no format has the codes 3 to 9"),
        ({"dtype": torch.float32}, "no format has the codes None to None"),
        ({"is_dynamic": True}, "computes ranges as it runs"),
        ({"options": {"bins": 3}}, "bins"),
    ],
)
def test_unsupported_options_of_an_observer_are_refused(
    options: dict[str, Any], message: str
) -> None:
    with pytest.raises((qc.CalibrationError, TypeError), match=message):
        qc.torch.Observer(**options)


def test_configurations_keep_their_codes_and_are_not_changed() -> None:
    mapping = fx_mapping()
    before = mapping.global_qconfig.activation().__class__
    stock = mapping.global_qconfig.activation()
    ours = qc.torch.attach_observer(mapping, "kl").global_qconfig.activation()
    assert (ours.quant_min, ours.quant_max) == (stock.quant_min, stock.quant_max)
    assert mapping.global_qconfig.activation().__class__ is before
    fixed = mapping.object_type_qconfigs[nn.Sigmoid].activation
    found = qc.torch.attach_observer(mapping, "kl").object_type_qconfigs[nn.Sigmoid]
    # A fixed range needs no observer.
    assert found.activation.p.func is fixed.p.func


def test_other_configurations_are_refused() -> None:
    with pytest.raises(TypeError, match="not dict"):
        qc.torch.attach_observer({})
    with pytest.raises(qc.CalibrationError, match="mze"):
        qc.torch.attach_observer(fx_mapping(), "mze")
