"""`qc.torch.attach_observer` on every preset of torch.ao.quantization."""

from __future__ import annotations

import copy
import warnings
from typing import Any

import pytest

torch = pytest.importorskip("torch")

import torch.ao.quantization as ao  # noqa: E402
from torch.ao.quantization import qconfig as presets  # noqa: E402
from torch.ao.quantization import qconfig_mapping as mappings  # noqa: E402

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

# Why presets keep their observers of activations or weights. All others take ours for both.
ACTIVATIONS = {
    "_default_fp32_placeholder_qconfig": "no integer codes",
    "_default_quint8_placeholder_qconfig": "chooses no range",
    "default_debug_qconfig": "chooses no range",
    "default_dynamic_qat_qconfig": "is dynamic",
    "default_dynamic_qconfig": "is dynamic",
    "default_embedding_qat_qconfig": "no integer codes",
    "default_embedding_qat_qconfig_4bit": "no integer codes",
    "default_reuse_input_qconfig": "chooses no range",
    "default_weight_only_qconfig": "nn.Identity, which observes nothing",
    "float16_dynamic_qconfig": "is dynamic",
    "float16_static_qconfig": "no integer codes",
    "float_qparams_weight_only_qconfig": "no integer codes",
    "float_qparams_weight_only_qconfig_4bit": "no integer codes",
    "per_channel_dynamic_qconfig": "is dynamic",
}
WEIGHTS = {
    "_default_fp32_placeholder_qconfig": "no integer codes",
    "_default_quint8_placeholder_qconfig": "has no observer",
    "default_activation_only_qconfig": "nn.Identity, which observes nothing",
    "default_embedding_qat_qconfig": "no integer zero points",
    "default_embedding_qat_qconfig_4bit": "no integer zero points",
    "default_reuse_input_qconfig": "chooses no range",
    "float16_dynamic_qconfig": "no integer codes",
    "float16_static_qconfig": "no integer codes",
    "float_qparams_weight_only_qconfig": "no integer zero points",
    "float_qparams_weight_only_qconfig_4bit": "no integer zero points",
}
PRESETS = {
    name: value
    for name, value in vars(presets).items()
    if isinstance(value, ao.QConfig)
}
MAPPINGS = {
    f"{make.__name__} {backend}": (make, backend)
    for make in (ao.get_default_qconfig_mapping, ao.get_default_qat_qconfig_mapping)
    for backend in ("x86", "fbgemm", "qnnpack", "onednn")
} | {
    make.__name__: (make, None)
    for make in (
        mappings._get_symmetric_qnnpack_qconfig_mapping,
        mappings._get_symmetric_qnnpack_qat_qconfig_mapping,
    )
}


def inner(constructor: Any) -> Any:
    """Return the observer that chooses the range, also inside a FakeQuantize."""
    made = constructor()
    return getattr(made, "activation_post_process", made)


def is_ours(constructor: Any) -> bool:
    return isinstance(
        inner(constructor), (qc.torch.Observer, qc.torch.PerChannelObserver)
    )


def codes(constructor: Any) -> tuple[Any, ...]:
    made, observer = constructor(), inner(constructor)
    axis = getattr(observer, "ch_axis", -1)
    of_fake = (made.quant_min, made.quant_max, made.dtype, made.qscheme)
    return observer.quant_min, observer.quant_max, observer.dtype, axis, *of_fake


@pytest.mark.parametrize("weights", [None, "minmax"])
@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_takes_our_observer_or_reports_why_not(
    name: str, weights: str | None
) -> None:
    config = PRESETS[name]
    wanted = {"activation": name not in ACTIVATIONS}
    if weights is not None:
        wanted["weight"] = name not in WEIGHTS
    reasons = {"activation": ACTIVATIONS.get(name), "weight": WEIGHTS.get(name)}
    if not any(wanted.values()):
        with pytest.raises(qc.CalibrationError, match=str(reasons["activation"])):
            qc.torch.attach_observer(config, "mse", weights=weights)
        return
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        changed = qc.torch.attach_observer(config, "mse", weights=weights)
    warned = [str(w.message) for w in caught if "has no effect" in str(w.message)]
    assert len(warned) == list(wanted.values()).count(False)
    for part, ours in wanted.items():
        before, after = getattr(config, part), getattr(changed, part)
        if ours:
            assert is_ours(after)
            assert codes(after) == codes(before)
            assert "Fused" not in type(after()).__name__
        else:
            assert after is before
            assert reasons[part] in warned[0]
    if weights is None:
        assert changed.weight is config.weight


@pytest.mark.parametrize("name", MAPPINGS)
def test_every_mapping_takes_our_observers(name: str) -> None:
    make, backend = MAPPINGS[name]
    mapping = make() if backend is None else make(backend)
    changed = qc.torch.attach_observer(mapping, "mse", weights="minmax")
    assert is_ours(changed.global_qconfig.activation)
    assert is_ours(changed.global_qconfig.weight)
    for kind, config in changed.object_type_qconfigs.items():
        before = mapping.object_type_qconfigs[kind]
        if config is None:
            # The operator is not quantized.
            assert before is None
            continue
        fixed = hasattr(inner(config.activation), "scale")
        assert (
            fixed
            or is_ours(config.activation)
            or not hasattr(inner(before.activation), "min_val")
        )
    assert not is_ours(mapping.global_qconfig.activation)


def test_a_configuration_without_observers_is_refused() -> None:
    for config in (ao.QConfigMapping(), ao.QConfig(activation=None, weight=None)):
        with pytest.raises(qc.CalibrationError, match="Nothing in this QConfig"):
            qc.torch.attach_observer(config)
    mapping = ao.QConfigMapping().set_global(None).set_object_type(nn.Linear, None)
    with pytest.raises(qc.CalibrationError, match="no observers at all"):
        qc.torch.attach_observer(mapping)
    mapping.set_module_name("fc", ao.default_qconfig)
    assert is_ours(
        qc.torch.attach_observer(mapping).module_name_qconfigs["fc"].activation
    )


def test_other_objects_of_torch_are_refused() -> None:
    from torch.ao.quantization.backend_config import BackendConfig

    for config in (BackendConfig("native"), ao.default_observer, {"": 3}):
        with pytest.raises(TypeError, match="config must be a QConfig"):
            qc.torch.attach_observer(config)


def test_observers_that_cannot_be_made_are_named() -> None:
    def broken() -> Any:
        msg = "needs a scale"
        raise TypeError(msg)

    config = ao.QConfig(activation=broken, weight=ao.default_weight_observer)
    with pytest.raises(
        qc.CalibrationError, match=r"broken .* cannot be made: needs a scale"
    ):
        qc.torch.attach_observer(config)
    plain = ao.QConfig(activation=ao.MinMaxObserver, weight=None)
    assert is_ours(qc.torch.attach_observer(plain).activation)


@pytest.mark.parametrize("weights", [None, "mse"])
def test_training_uses_the_ranges_of_our_strategy(weights: str | None) -> None:
    from torch.ao.quantization.quantize_fx import (
        convert_to_reference_fx,
        prepare_qat_fx,
    )

    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 4)).train()
    mapping = ao.get_default_qat_qconfig_mapping("x86")
    mapping = qc.torch.attach_observer(mapping, "percentile_99", weights=weights)
    batches = [random(16, 6, seed=seed) for seed in range(3)]
    prepared = prepare_qat_fx(copy.deepcopy(model), mapping, (batches[0],))
    for batch in batches:
        prepared(batch).square().sum().backward()
    assert all(p.grad is not None for p in prepared.parameters())
    first = prepared.activation_post_process_0
    params = qc.calibrate(torch.cat(batches).numpy(), "percentile_99", format="uint7")
    assert first.scale.item() == pytest.approx(params.scale)
    assert first.zero_point.item() == params.zero_point
    converted = convert_to_reference_fx(prepared.eval())
    with torch.no_grad():
        wanted = model(batches[0])
        assert float((converted(batches[0]) - wanted).norm() / wanted.norm()) < 0.1


def test_pt2e_training_puts_our_observer_into_the_fake_quantize() -> None:
    pytest.importorskip("torchao")
    from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_qat_pt2e
    from torchao.quantization.pt2e.quantizer import x86_inductor_quantizer as x86

    stock = x86.get_default_x86_inductor_quantization_config(is_qat=True)
    config = qc.torch.attach_observer(stock, "mse", weights="minmax")
    whole, by_channel = qc.torch.pt2e_observers()
    assert isinstance(inner(config.input_activation.observer_or_fake_quant_ctr), whole)
    assert isinstance(inner(config.weight.observer_or_fake_quant_ctr), by_channel)
    model, batch = nn.Sequential(nn.Linear(6, 8), nn.ReLU()), random(16, 6)
    quantizer = x86.X86InductorQuantizer().set_global(config)
    prepared = prepare_qat_pt2e(
        torch.export.export(model, (batch,)).module(), quantizer
    )
    prepared(batch)
    converted = convert_pt2e(prepared)
    with torch.no_grad():
        wanted = model(batch)
        assert float((converted(batch) - wanted).norm() / wanted.norm()) < 0.1


def test_dynamic_specs_of_pt2e_are_refused_with_the_reason() -> None:
    pytest.importorskip("torchao")
    from torchao.quantization.pt2e.quantizer import x86_inductor_quantizer as x86

    config = x86.get_default_x86_inductor_quantization_config(is_dynamic=True)
    with pytest.raises(qc.CalibrationError, match="input_activation is dynamic"):
        qc.torch.attach_observer(config)
    with pytest.warns(UserWarning, match="strategy='mse' has no effect"):
        changed = qc.torch.attach_observer(config, weights="mse")
    assert isinstance(
        inner(changed.weight.observer_or_fake_quant_ctr), qc.torch.pt2e_observers()[1]
    )
