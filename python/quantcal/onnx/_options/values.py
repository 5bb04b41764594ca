"""The values that options can have: formats by target, and the checks of all others."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from quantcal._core import CalibrationError
from quantcal._format_names import format_name
from quantcal._text import shown
from quantcal.formats import QuantFormat
from quantcal.onnx._options.cpu import weight_bits

OP_TYPES = ("Conv", "MatMul", "Gemm")
"""The operators that are quantized by default: where the arithmetic is."""

NONE = "none"
"""The activation "format" that leaves activations in float: only weights are quantized."""

ACTIVATIONS = {
    "onnxruntime": (
        *("uint8", "int8", "uint16", "int16", "float8_e4m3fn", "float8_e5m2"),
        NONE,
    ),
    "tensorrt": ("int8", "float8_e4m3fn", NONE),
}
"""Formats of activations by target, the default first. TensorRT's are symmetric."""

WEIGHTS = {
    "onnxruntime": (
        *("int8", "uint8", "int7", "uint7", "int4", "uint4"),
        *("int16", "float8_e4m3fn", "float8_e5m2"),
    ),
    "tensorrt": ("int8", "float8_e4m3fn", "int4"),
}
"""Formats of weights by target, the default first; 7 bits are stored in 8."""

WEIGHT_STRATEGIES = ("minmax", "mse")

BLOCK_SIZE = 32
"""Values that share a scale: what 4-bit kernels and file formats commonly take."""

PLACEMENTS = ("minimal", "stock")
"""Where activations are rounded for onnxruntime, the default first."""

OBSERVERS = ("auto", "in_graph", "outputs")
"""How tensors are observed, the default first."""

CORRECTIONS = ("equalize", "smooth", "bias")
"""Corrections of a model, in the order in which they are done."""

MAX_MEMORY = 1 << 30
"""1 GiB: a laptop can spare it, and most models of vision and text fit in one group."""


def is_float(name: str) -> bool:
    """Whether a format is a small float."""
    return name.startswith("float")


def as_format(given: Any) -> Any:
    """Return the name of a format that is written otherwise; what is none stays as it is."""
    return given if given is None else format_name(given) or given


def default_weight(target: str, activation: str) -> str:
    """Return the format of weights that goes with a format of activations."""
    return activation if is_float(activation) else WEIGHTS[target][0]


def default_strategy(weight: str) -> str:
    """Return the strategy for weights of a format.

    Clipping the largest weights gains 1 to 3 dB with 4 bits, 0.1 to 0.4 with 8 (64 channels
    of 27 to 1152 normal and Student-t values).
    """
    return "mse" if QuantFormat(weight).bits <= 4 else "minmax"


def check_values(values: Mapping[str, Any]) -> None:
    """Refuse values of options that are not known, or do not go together.

    Raises
    ------
    CalibrationError
        Names the option, its value and what is known.
    """
    _check_kinds(values)
    target = values["target"]
    check_known("target", target, ACTIVATIONS)
    activation = values["activation_type"]
    if activation is None:
        activation = ACTIVATIONS[target][0]
    check_known("activation_type", activation, ACTIVATIONS[target], target)
    weight = values["weight_type"]
    if weight is None:
        weight = default_weight(target, activation)
    check_known("weight_type", weight, WEIGHTS[target], target)
    if values["weight_strategy"] is not None:
        check_known("weight_strategy", values["weight_strategy"], WEIGHT_STRATEGIES)
    _check_block_size(values["block_size"])
    _check_placement(target, values["placement"])
    rounded = [each for each in ACTIVATIONS[target] if each != NONE]
    _check_formats(values, "activation_formats", rounded)
    _check_formats(values, "weight_formats", WEIGHTS[target])
    weights = [weight, *(values["weight_formats"] or {}).values()]
    _check_weight_only(target, activation, weights)
    check_known("observer", values["observer"], OBSERVERS)
    for name in values["corrections"]:
        check_known("corrections", name, CORRECTIONS)
    weight_bits(values["reduce_range"], weight, values["cpu"])


def check_names(option: str, value: Any) -> tuple[str, ...]:
    """Return a collection of names as a tuple; refuse anything else."""
    if isinstance(value, str):
        raise CalibrationError(f"{option} is the string {value!r}. Give a list.")
    if not isinstance(value, Iterable):
        raise CalibrationError(f"{option} is {shown(value)}. Give a list of names.")
    found = tuple(value)
    for name in found:
        if not isinstance(name, str):
            raise CalibrationError(f"{option} holds {shown(name)}. Give names as text.")
    return found


def _check_kinds(values: Mapping[str, Any]) -> None:
    """Refuse values of another kind, which would otherwise be taken for something else."""
    for name in ("per_channel", "check_stability"):
        if not isinstance(values[name], bool):
            raise CalibrationError(
                f"{name} is {shown(values[name])}. Give True or False."
            )
    for name in ("activation_formats", "weight_formats"):
        if not isinstance(values[name] or {}, Mapping):
            raise CalibrationError(
                f"{name} is {shown(values[name])}. Give a mapping of patterns to formats, "
                'such as {"*head*": "int8"}.'
            )
    memory = values["max_memory"]
    if isinstance(memory, bool) or not isinstance(memory, int) or memory <= 0:
        raise CalibrationError(
            f"max_memory is {shown(memory)}. Give a number of bytes, 1 or more."
        )
    if values["providers"] is not None:
        check_names("providers", values["providers"])


def check_known(
    option: str, value: Any, known: Iterable[str], target: str | None = None
) -> None:
    """Refuse a value that is not among the known ones, and list these."""
    listed = list(known)
    if value in listed:
        return
    for_target = f" for target={target!r}" if target else ""
    close = difflib.get_close_matches(shown(value).strip("'"), listed, n=2)
    meant = f" Did you mean {' or '.join(close)}?" if close else ""
    raise CalibrationError(
        f"{option}={shown(value)} is not known{for_target}.{meant} "
        f"Known: {', '.join(listed)}."
    )


def _check_block_size(size: Any) -> None:
    if (
        isinstance(size, bool)
        or not isinstance(size, int)
        or (size != 0 and (size < 16 or size & (size - 1)))
    ):
        raise CalibrationError(
            f"block_size is {shown(size)}. Give a power of two from 16 on (what 4-bit "
            "kernels take), or 0 for one scale per channel."
        )


def _check_placement(target: str, placement: Any) -> None:
    check_known("placement", placement, PLACEMENTS)
    if target != "onnxruntime" and placement != PLACEMENTS[0]:
        raise CalibrationError(
            f"placement={placement!r} is how onnxruntime's own quantizer places "
            f"roundings; models for {target} have one placement. Leave it out."
        )


def _check_formats(
    values: Mapping[str, Any], option: str, known: Sequence[str]
) -> None:
    for pattern, format in (values[option] or {}).items():
        check_known(f"{option}[{pattern!r}]", format, known, values["target"])


def _check_weight_only(target: str, activation: str, weights: Sequence[str]) -> None:
    narrow = [name for name in weights if QuantFormat(name).bits <= 4]
    if target == "tensorrt" and narrow and activation != NONE:
        raise CalibrationError(
            f"TensorRT takes {narrow[0]} weights with float activations only. Add "
            f'activation_type="{NONE}".'
        )
