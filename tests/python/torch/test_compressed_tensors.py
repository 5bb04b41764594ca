"""Checkpoints for vLLM, read by the compressed-tensors package and by quantcal."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
safetensors = pytest.importorskip("safetensors.torch")

import quantcal as qc  # noqa: E402
from llama_models import small_llama, tokens  # noqa: E402
from quantcal.torch.compressed_tensors import read_scales  # noqa: E402

pytestmark = pytest.mark.torch


def table_of(model: Any, format: str = "int8") -> qc.CalibrationTable:
    with qc.torch.observe(model, "*.layers.*") as cal:
        model(tokens())
    return cal.compute("mse", format=format)


# The imports of the package give warnings.
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("format", ["int8", "uint8", "float8_e4m3fn"])
def test_the_package_computes_the_same_as_fake_quantization(
    format: str, tmp_path: Path
) -> None:
    quantization = pytest.importorskip("compressed_tensors.quantization")
    model = small_llama()
    table = table_of(model, format)
    qc.torch.write_compressed_tensors(
        table, tmp_path, model=model, config={"model_type": "llama"}
    )
    weights = "float8_e4m3fn" if format.startswith("float8") else "int8"
    with qc.torch.fake_quantize(model, table, weights=weights):
        wanted = model(tokens())

    config = json.loads((tmp_path / "config.json").read_text("utf-8"))
    assert config["model_type"] == "llama"
    scheme = quantization.QuantizationConfig.model_validate(
        config["quantization_config"]
    )
    other = small_llama()
    quantization.apply_quantization_config(other, scheme)
    state = safetensors.load_file(tmp_path / "model.safetensors")
    # The package fake-quantizes, so it needs the real weights.
    for path in table:
        codes, scale = state[f"{path}.weight"], state[f"{path}.weight_scale"]
        state[f"{path}.weight"] = codes.float() * scale
    missing, unexpected = other.load_state_dict(state, strict=False)
    assert not unexpected
    # Zero points of symmetric ranges are 0 and not stored. The head shares the embedding.
    assert all(name.endswith(("zero_point", "lm_head.weight")) for name in missing)
    assert not hasattr(other.lm_head, "input_scale")
    # Float sums have another order. A quantization step is five thousand times as large.
    torch.testing.assert_close(other(tokens()), wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("format", ["int8", "uint8", "float8_e4m3fn"])
@pytest.mark.parametrize("whole", [True, False])
def test_written_scales_are_read_back(format: str, whole: bool, tmp_path: Path) -> None:
    model = small_llama()
    table = table_of(model, format)
    qc.torch.write_compressed_tensors(table, tmp_path, model=model if whole else None)
    found = read_scales(tmp_path)
    assert found.keys() == table.keys()
    for name, params in found.items():
        wanted = table[name]
        assert (params.scale, params.zero_point) == (wanted.scale, wanted.zero_point)
        assert (params.format, params.symmetric) == (wanted.format, wanted.symmetric)
        assert params.low == pytest.approx(wanted.low, rel=1e-6)
        assert params.high == pytest.approx(wanted.high, rel=1e-6)


def test_files_have_the_names_shapes_and_types_that_vllm_reads(tmp_path: Path) -> None:
    model = small_llama()
    table = table_of(model, "uint8")
    qc.torch.write_compressed_tensors(table, tmp_path, model=model)
    state = safetensors.load_file(tmp_path / "model.safetensors")
    stem = "model.layers.1.mlp.down_proj"
    shapes = {
        name.removeprefix(f"{stem}."): (tuple(t.shape), t.dtype)
        for name, t in state.items()
        if name.startswith(stem)
    }
    assert shapes == {
        "weight": ((48, 96), torch.int8),
        "weight_scale": ((48, 1), torch.float32),
        "input_scale": ((1,), torch.float32),
        "input_zero_point": ((1,), torch.int8),
    }
    # Other tensors are unchanged.
    assert torch.equal(state["model.norm.weight"], model.model.norm.weight)
    config = json.loads((tmp_path / "config.json").read_text("utf-8"))
    assert config["quantization_config"]["ignore"] == ["lm_head"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no such files here")
def test_no_file_is_written_if_one_of_them_cannot_be(tmp_path: Path) -> None:
    table = qc.CalibrationTable({"a": qc.QuantParams.from_range(-1, 1)})
    (tmp_path / "model.safetensors").write_bytes(b"old")
    os.mkfifo(tmp_path / "config.json")
    with pytest.raises(qc.CalibrationError, match=r"config\.json cannot be .* a pipe"):
        qc.torch.write_compressed_tensors(table, tmp_path)
    assert (tmp_path / "model.safetensors").read_bytes() == b"old"
    (tmp_path / "config.json").unlink()
    (tmp_path / "config.json").symlink_to("real.json")
    qc.torch.write_compressed_tensors(table, tmp_path)
    assert (tmp_path / "config.json").is_symlink()
    assert read_scales(tmp_path).keys() == {"a"}


@pytest.mark.parametrize(
    ("config", "tensors"),
    [
        ("{", None),
        ("[" * 100_000, None),
        ("[]", None),
        ('{"quantization_config": {"config_groups": {}}}', None),
        (None, b"nonsense"),
    ],
)
def test_a_damaged_checkpoint_is_named(
    config: str | None, tensors: bytes | None, tmp_path: Path
) -> None:
    table = qc.CalibrationTable({"a": qc.QuantParams.from_range(-1, 1)})
    qc.torch.write_compressed_tensors(table, tmp_path)
    if config is not None:
        (tmp_path / "config.json").write_text(config)
    if tensors is not None:
        (tmp_path / "model.safetensors").write_bytes(tensors)
    name = "config.json" if tensors is None else "model.safetensors"
    with pytest.raises(qc.CalibrationError, match=name):
        read_scales(tmp_path)


def test_values_that_json_cannot_represent_are_refused(tmp_path: Path) -> None:
    table = qc.CalibrationTable({"a": qc.QuantParams.from_range(-1, 1)})
    with pytest.raises(qc.CalibrationError, match="that JSON cannot represent"):
        qc.torch.write_compressed_tensors(table, tmp_path, config={"a": {1, 2}})
    with pytest.raises(qc.CalibrationError, match="half a surrogate pair"):
        qc.torch.write_compressed_tensors({"\ud800": table["a"]}, tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda _: {}, "the table is empty"),
        (
            lambda t: {**t, "lm_head": qc.QuantParams.from_range(0, 1, format="uint8")},
            "several",
        ),
        (lambda t: {"nothing.here": next(iter(t.values()))}, "no such module"),
        (lambda t: {"model.norm": next(iter(t.values()))}, "only nn.Linear"),
        (lambda t: {"lm_head:weight": next(iter(t.values()))}, "no input of a module"),
        (
            lambda _: {"lm_head": qc.QuantParams.from_range(-1, 1, format="int4")},
            "is int4, but",
        ),
        (
            lambda _: {"lm_head": qc.QuantParams.from_range([-1, -1], [1, 1], axis=-1)},
            "by channel",
        ),
    ],
)
def test_tables_without_a_kernel_are_refused(
    change: Callable[[Any], Any], message: str, tmp_path: Path
) -> None:
    model = small_llama()
    with pytest.raises(qc.CalibrationError, match=message):
        qc.torch.write_compressed_tensors(
            change(dict(table_of(model))), tmp_path, model=model
        )
    assert list(tmp_path.iterdir()) == []


def test_tensors_with_the_same_address_are_all_written(tmp_path: Path) -> None:
    from safetensors.torch import load_file

    class Views(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = torch.nn.Linear(8, 4)
            self.whole = torch.nn.Parameter(torch.randn(6, 8), requires_grad=False)
            self.register_buffer("first", self.whole[:2])
            self.register_buffer("same", self.whole)

    model = Views()
    table = {"fc": qc.QuantParams.from_range(-1, 1, format="int8")}
    qc.torch.write_compressed_tensors(table, tmp_path, model=model)
    written = load_file(tmp_path / "model.safetensors")
    assert torch.equal(written["first"], model.whole[:2])
    # Tied tensors are written once.
    assert ("whole" in written) != ("same" in written)


def test_weights_that_are_computed_are_refused(tmp_path: Path) -> None:
    model = torch.nn.Sequential(torch.nn.Linear(8, 4))
    torch.nn.utils.parametrizations.weight_norm(model[0])
    table = {"0": qc.QuantParams.from_range(-1, 1, format="int8")}
    with pytest.raises(qc.CalibrationError, match='weight of "0" is computed'):
        qc.torch.write_compressed_tensors(table, tmp_path / "out", model=model)
    assert not (tmp_path / "out").exists()
