"""Writes ranges as a compressed-tensors checkpoint: the files that vLLM reads.

The checkpoint is a folder with `model.safetensors` and `config.json`. A quantized module has
the tensors `weight`, `weight_scale`, `input_scale` and, for affine ranges, `input_zero_point`.
`quantization_config` in `config.json` lists the quantized modules and their formats (see
"QuantizationConfig" and "QuantizationArgs" of compressed-tensors).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from quantcal._calibrate import calibrate
from quantcal._core import CalibrationError
from quantcal._io.files import check_target, read_bytes, write_bytes, write_text
from quantcal._io.json_text import parse_json
from quantcal._names import check_name
from quantcal._process import imports
from quantcal.params import QuantParams
from quantcal.torch.modules import did_you_mean, modules_by_path, unwrap
from quantcal.torch.tensor_values import plain_values

_TYPES = {
    "int8": ("int", 8),
    "uint8": ("int", 8),
    "float8_e4m3fn": ("float", 8),
}
"""The formats of activations that kernels support, with their type and bits."""


def write_compressed_tensors(
    table: Mapping[str, QuantParams],
    folder: str | Path,
    *,
    model: Any | None = None,
    config: Mapping[str, Any] | None = None,
) -> None:
    """Write activation scales, and the quantized weights of a model, for vLLM.

    Modules that read the same tensor and run as one (q, k, v; gate and up) need the same
    range, since vLLM uses the largest of their scales.

    Parameters
    ----------
    table
        Parameters of the inputs of modules by module path, as `observe` names them. All are
        per tensor, of one format ("int8", "uint8" or "float8_e4m3fn") and one symmetry.
        `uint8` becomes int8 with a zero point lower by 128, which is the same grid.
    folder
        Receives `model.safetensors` and `config.json`, each written atomically. It is made
        if it does not exist.
    model
        A `torch.nn.Module` whose state is written too. The weights of the `nn.Linear`s in the
        table get 8 bits of the table's type, symmetric, in the range of each output channel's
        extremes. None writes only the activation scales, to be merged into a checkpoint.
    config
        The content of the model's `config.json` (architecture, sizes), which vLLM needs to
        build the model. `quantization_config` is added.

    Raises
    ------
    CalibrationError
        If the table is empty, has several formats, ranges by channel, or a format without
        kernels. If it names outputs or weights, or does not fit the model. If a file cannot
        be written.
    ImportError
        If safetensors is missing; says how to install it.

    Examples
    --------
    >>> import torch
    >>> from quantcal.torch.compressed_tensors import write_compressed_tensors
    >>> model = torch.nn.Sequential(torch.nn.Linear(8, 8), torch.nn.ReLU())
    >>> with qc.torch.observe(model) as cal:
    ...     y = model(torch.randn(4, 8))
    >>> write_compressed_tensors(cal.compute("mse"), "checkpoint", model=model)
    """
    imports.require(
        ("safetensors.torch",), "write_compressed_tensors needs", "llm", "safetensors"
    )
    from safetensors.torch import save

    _check(table)
    ignored: list[str] = []
    if model is None:
        state = _scales(table)
    else:
        state, ignored = _state(table, unwrap(model))
    content = {
        **(config or {}),
        "quantization_config": _quantization_config(
            table, ignored, compressed=model is not None
        ),
    }
    home = Path(folder)
    try:
        home.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        msg = f"cannot make the folder {home}: {error.strerror}"
        raise CalibrationError(msg) from error
    for name in ("model.safetensors", "config.json"):
        check_target(home / name)
    text = _json(content)
    data = save(state, metadata={"format": "pt"})
    write_bytes(home / "model.safetensors", data)
    write_text(home / "config.json", f"{text}\n")


def _json(content: Mapping[str, Any]) -> str:
    try:
        return json.dumps(content, indent=2)
    except (TypeError, ValueError, RecursionError) as error:
        msg = f"config has a value that JSON cannot represent: {error}"
        raise CalibrationError(msg) from error


def read_scales(folder: str | Path) -> dict[str, QuantParams]:
    """Return the parameters of the activations in a checkpoint, by module path.

    It reads static per-tensor scales of 8 bits from any writer. Affine int8 becomes uint8,
    with a zero point higher by 128.

    Raises
    ------
    CalibrationError
        If a file cannot be read, or the activations have other scales.
    """
    home = Path(folder)
    try:
        config = parse_json(read_bytes(home / "config.json").decode())
        (group,) = config["quantization_config"]["config_groups"].values()
        inputs = group["input_activations"]
        static = not inputs["dynamic"] and inputs["strategy"] == "tensor"
        static = static and inputs["num_bits"] == 8
        symmetric, kind = inputs["symmetric"], inputs["type"]
    except CalibrationError:
        raise
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        msg = f"{home / 'config.json'} is no configuration of a checkpoint: {error!r}"
        raise CalibrationError(msg) from error
    if not static:
        msg = f"{home} has no static per-tensor scales of 8 bits: {inputs}"
        raise CalibrationError(msg)
    tensors = _tensors(home / "model.safetensors")
    format = "float8_e4m3fn" if kind == "float" else "int8"
    found = {}
    for name, value in tensors.items():
        path, _, field = name.rpartition(".")
        if field != "input_scale":
            continue
        zero_point = tensors.get(f"{path}.input_zero_point", torch.zeros(1))
        try:
            scale, code = float(value.reshape(())), int(zero_point.reshape(()))
            found[path] = _params(scale, code, format, symmetric)
        except (ValueError, OverflowError, RuntimeError) as error:
            msg = f'{home / "model.safetensors"}, tensor "{name}": {error}'
            raise CalibrationError(msg) from error
    return found


def _tensors(path: Path) -> dict[str, torch.Tensor]:
    """Return the tensors of a safetensors file.

    Raises
    ------
    CalibrationError
        If it is no safetensors file.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load

    data = read_bytes(path)
    try:
        # Of several tensors with one name the library takes the last; `parse_json` refuses.
        parse_json(data[8 : 8 + int.from_bytes(data[:8], "little")].decode())
        return dict(load(data))
    except (SafetensorError, ValueError, KeyError, TypeError, RuntimeError) as error:
        msg = f"{path} is no safetensors file: {error}"
        raise CalibrationError(msg) from error


def _params(scale: float, zero_point: int, format: str, symmetric: bool) -> QuantParams:
    if symmetric:
        largest = 448.0 if format == "float8_e4m3fn" else 127.0
        return QuantParams.from_range(
            -scale * largest, scale * largest, format=format, symmetric=True
        )
    code = zero_point + 128
    return QuantParams(
        scale, code, -code * scale, (255 - code) * scale, "uint8", symmetric=False
    )


def _check(table: Mapping[str, QuantParams]) -> None:
    if not table:
        msg = "the table is empty; there is nothing to write"
        raise CalibrationError(msg)
    kinds = {(p.format, p.symmetric) for p in table.values()}
    if len(kinds) > 1:
        listed = ", ".join(sorted(f"{f}{'' if s else ' affine'}" for f, s in kinds))
        msg = (
            f"the table has several formats ({listed}), but a group of compressed-tensors has "
            "one; compute the table with one format"
        )
        raise CalibrationError(msg)
    for name, params in table.items():
        check_name(name)
        if params.format not in _TYPES:
            msg = (
                f'Tensor "{name}" is {params.format}, but kernels support activations only '
                f"in {', '.join(_TYPES)}"
            )
            raise CalibrationError(msg)
        if params.format == "uint8" and params.symmetric:
            msg = f'Tensor "{name}" is symmetric uint8, but kernels take int8; use int8'
            raise CalibrationError(msg)
        if params.axis is not None:
            msg = (
                f'Tensor "{name}" has ranges by channel, which no kernel supports for inputs; '
                "give one range per tensor"
            )
            raise CalibrationError(msg)
        if ":" in name or "#" in name:
            msg = (
                f'Tensor "{name}" is no input of a module that is called once; remove it from '
                "the table"
            )
            raise CalibrationError(msg)


def _scales(table: Mapping[str, QuantParams]) -> dict[str, torch.Tensor]:
    """Return scales, float32 [1], and zero points, int8 [1], by their full names."""
    found = {}
    for path, params in table.items():
        found[f"{path}.input_scale"] = torch.tensor([params.scale], dtype=torch.float32)
        if not params.symmetric:
            code = int(params.zero_point) - (128 if params.format == "uint8" else 0)
            found[f"{path}.input_zero_point"] = torch.tensor([code], dtype=torch.int8)
    return found


def _state(
    table: Mapping[str, QuantParams], model: torch.nn.Module
) -> tuple[dict[str, torch.Tensor], list[str]]:
    """Return the tensors of the checkpoint, and the linear layers that stay in float."""
    modules = modules_by_path(model)
    _check_layers(table, modules)
    state = _stored_once(model.state_dict()) | _scales(table)
    is_float8 = next(iter(table.values())).format == "float8_e4m3fn"
    for path in table:
        state |= _quantized_weight(path, modules[path], is_float8=is_float8)
    ignored = [
        path
        for path, module in modules.items()
        if isinstance(module, torch.nn.Linear) and path not in table
    ]
    return state, ignored


def _check_layers(
    table: Mapping[str, QuantParams], modules: Mapping[str, torch.nn.Module]
) -> None:
    """Refuse a table with modules whose weights cannot be written."""
    for path in table:
        if path not in modules:
            hint = did_you_mean(path, modules)
            msg = f'The table has "{path}", but the model has no such module.{hint}'
            raise CalibrationError(msg)
        if not isinstance(modules[path], torch.nn.Linear):
            kind = type(modules[path]).__name__
            msg = f'"{path}" is {kind}, but only nn.Linear can be written'
            raise CalibrationError(msg)
        if "weight" not in modules[path]._parameters:
            msg = (
                f'The weight of "{path}" is computed from others, which a checkpoint does not '
                "hold; remove parametrizations, weight_norm or pruning first"
            )
            raise CalibrationError(msg)


def _stored_once(state_dict: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return the tensors of a model, each tied weight once, none sharing memory."""
    state = {name: t.detach().contiguous() for name, t in state_dict.items()}
    # Checkpoints of transformers also hold tied weights once. A view of the first rows has
    # the same address but is another tensor, and safetensors requires a copy of it.
    seen: dict[tuple[Any, ...], str] = {}
    storages: set[int] = set()
    for name, tensor in list(state.items()):
        same = (tensor.data_ptr(), tensor.shape, tensor.stride(), tensor.dtype)
        if seen.setdefault(same, name) != name and tensor.numel():
            del state[name]
        elif tensor.untyped_storage().data_ptr() in storages:
            state[name] = tensor.clone()
        else:
            storages.add(tensor.untyped_storage().data_ptr())
    return state


def _quantized_weight(
    path: str, module: Any, *, is_float8: bool
) -> dict[str, torch.Tensor]:
    """Return the codes and scales of a linear layer's weight, by their full names."""
    values = plain_values(f"{path}.weight", module.weight).float().cpu().numpy()
    format = "float8_e4m3fn" if is_float8 else "int8"
    params = calibrate(values, "minmax", format=format, axis=0)
    raw = torch.from_numpy(params.quantize(values).view(np.uint8))
    scale = np.asarray(params.scale, np.float32).reshape(-1, 1)
    return {
        f"{path}.weight": raw.view(torch.float8_e4m3fn if is_float8 else torch.int8),
        f"{path}.weight_scale": torch.from_numpy(scale.copy()),
    }


def _quantization_config(
    table: Mapping[str, QuantParams], ignored: list[str], *, compressed: bool
) -> dict[str, Any]:
    params = next(iter(table.values()))
    kind, bits = _TYPES[params.format]
    common = {"num_bits": bits, "type": kind, "dynamic": False}
    group = {
        "targets": ["Linear"] if compressed else sorted(table),
        "input_activations": {
            **common,
            "symmetric": params.symmetric,
            "strategy": "tensor",
        },
        "weights": {**common, "symmetric": True, "strategy": "channel"}
        if compressed
        else None,
        "output_activations": None,
    }
    return {
        "quant_method": "compressed-tensors",
        "format": f"{kind}-quantized" if compressed else "dense",
        "quantization_status": "compressed" if compressed else "frozen",
        "config_groups": {"group_0": group},
        "ignore": sorted(ignored),
    }
