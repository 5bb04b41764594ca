"""What may be chosen about a written model: its target, formats and nodes, checked."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from quantcal._core import CalibrationError
from quantcal._text import shown
from quantcal.formats import QuantFormat
from quantcal.onnx._plan.cpu import WeightBits, weight_bits

OP_TYPES = ("Conv", "MatMul", "Gemm")
"""The operators that are quantised by default: where the arithmetic is."""

NONE = "none"
"""The activation "format" that leaves activations in float: only weights are coded."""

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

_OPSETS = ((4, 21), (8, 13), (16, 21))  # bits of integers → first opset that has them
_FLOAT8 = 19


@dataclass(frozen=True, slots=True)
class Options:
    """The choices of :func:`quantcal.onnx.quantize`, which documents them.

    Make one with :meth:`of`, which checks and fills in what depends on the target.
    """

    target: str = "onnxruntime"
    activation: str = "uint8"
    weight: str = "int8"
    weight_strategy: str = "minmax"
    block_size: int = BLOCK_SIZE
    per_channel: bool = True
    reduce_range: bool | str | tuple[str, ...] = "auto"
    cpu: str = "auto"
    placement: str = "minimal"
    op_types: tuple[str, ...] = OP_TYPES
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    formats: Mapping[str, str] = field(default_factory=dict)
    weight_formats: Mapping[str, str] = field(default_factory=dict)
    given: Mapping[str, str] = field(default_factory=dict)
    """Formats of the tensors whose ranges are there already; they go before all else."""

    @classmethod
    def of(
        cls,
        *,
        target: str = "onnxruntime",
        activation: str | None = None,
        weight: str | None = None,
        weight_strategy: str | None = None,
        block_size: int = BLOCK_SIZE,
        per_channel: bool = True,
        reduce_range: bool | str | Collection[str] = "auto",
        cpu: str = "auto",
        placement: str = "minimal",
        op_types: Sequence[str] = OP_TYPES,
        include: Sequence[str] = (),
        exclude: Sequence[str] = (),
        formats: Mapping[str, str] | None = None,
        weight_formats: Mapping[str, str] | None = None,
    ) -> Options:
        """Check the choices, and fill in the defaults of the target.

        Raises
        ------
        CalibrationError
            Names the option, its value and what is known.
        """
        check_known("target", target, ACTIVATIONS)
        if activation is None:
            activation = ACTIVATIONS[target][0]
        check_known("activation", activation, ACTIVATIONS[target], target)
        if weight is None:
            weight = activation if is_float(activation) else WEIGHTS[target][0]
        check_known("weight", weight, WEIGHTS[target], target)
        if weight_strategy is None:
            # Clipping the largest weights gains 1 to 3 dB with 4 bits, 0.1 to 0.4 with 8
            # (64 channels of 27 to 1152 normal and Student-t values).
            weight_strategy = "mse" if QuantFormat(weight).bits <= 4 else "minmax"
        check_known("weight_strategy", weight_strategy, WEIGHT_STRATEGIES)
        _check_block_size(block_size)
        check_known("placement", placement, PLACEMENTS)
        if target != "onnxruntime" and placement != PLACEMENTS[0]:
            raise CalibrationError(
                f"placement={placement!r} is how onnxruntime's own quantizer places "
                f"roundings; models for {target} have one placement. Leave it out."
            )
        named = (("op_types", op_types), ("include", include), ("exclude", exclude))
        for name, text in named:
            if isinstance(text, str):
                raise CalibrationError(f"{name} is the string {text!r}. Give a list.")
        rules = dict(formats or {})
        for pattern, given in rules.items():
            known = tuple(f for f in ACTIVATIONS[target] if f != NONE)
            check_known(f"formats[{pattern!r}]", given, known, target)
        weight_rules = dict(weight_formats or {})
        for pattern, given in weight_rules.items():
            check_known(f"weight_formats[{pattern!r}]", given, WEIGHTS[target], target)
        if not isinstance(reduce_range, (bool, str)):
            reduce_range = tuple(sorted(reduce_range))
        _check_weight_only(target, activation, [weight, *weight_rules.values()])
        return cls(
            target=target,
            activation=activation,
            weight=weight,
            weight_strategy=weight_strategy,
            block_size=block_size,
            per_channel=bool(per_channel),
            reduce_range=reduce_range,
            cpu=cpu,
            placement=placement,
            op_types=tuple(op_types),
            include=tuple(include),
            exclude=tuple(exclude),
            formats=rules,
            weight_formats=weight_rules,
        )

    @property
    def weights_only(self) -> bool:
        """Whether activations stay in float, so that no data are needed."""
        return self.activation == NONE

    @property
    def rounds_outputs(self) -> bool:
        """Whether results of nodes are rounded too, where a kernel needs it.

        TensorRT fuses what follows a node (bias, ReLU, the residual sum) and rounds behind
        that. No kernel returns small floats.
        """
        return self.target == "onnxruntime" and not is_float(self.activation)

    @property
    def minimal(self) -> bool:
        """Whether only what onnxruntime's integer kernels read is rounded."""
        whole = self.rounds_outputs and not self.weights_only
        return whole and self.placement == "minimal"

    @property
    def opset(self) -> int:
        """The first opset with all these formats."""
        activations = [*self.formats.values(), *self.given.values()]
        activations += self._activations()
        return opset_for([*activations, self.weight, *self.weight_formats.values()])

    def _activations(self) -> list[str]:
        return [] if self.weights_only else [self.activation]

    def bits(self) -> WeightBits:
        """Choose between 7 and 8 bits for 8-bit weights, and say why.

        Only onnxruntime's integer kernels may need 7.

        Raises
        ------
        CalibrationError
            When ``reduce_range`` or ``cpu`` is not known.
        """
        chosen = weight_bits(self.reduce_range, self.weight, self.cpu)
        if self.weight not in ("int8", "uint8"):
            return WeightBits(False, "as asked for")
        if self.reduce_range not in ("auto", "nodes"):
            return chosen
        if self.target == "tensorrt":
            return WeightBits(False, "TensorRT adds products in 32 bits")
        if self.activation not in ("uint8", "int8"):
            reason = f"no 8-bit sums with {self.activation} activations"
            return WeightBits(False, reason)
        return chosen

    def planned(self, formats: Mapping[str, str]) -> Options:
        """Return the same with rules, for planned tensors, in place of what was given."""
        rules = {name: each for name, each in self.given.items() if name in formats}
        return replace(self, formats=rules | dict(self.formats), given={})

    def settled(self, bits: WeightBits) -> Options:
        """Return the same with the answer in place of the question."""
        nodes = tuple(sorted(bits.nodes))
        return replace(self, reduce_range=nodes or bits.reduce, cpu="auto")


def is_float(name: str) -> bool:
    """Whether a format is a small float."""
    return name.startswith("float")


def opset_for(formats: Iterable[str]) -> int:
    """Return the first opset whose Q/DQ has all of these formats; at least 13.

    13 has one scale a channel, 19 8-bit floats, 21 4-bit and 16-bit integers and blocks.
    """
    return max((_opset_for(name) for name in formats), default=13)


def _opset_for(name: str) -> int:
    if is_float(name):
        return _FLOAT8
    bits = QuantFormat(name).bits
    return next(opset for most, opset in _OPSETS if bits <= most)


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
            "kernels take), or 0 for one scale a channel."
        )


def _check_weight_only(target: str, activation: str, weights: Sequence[str]) -> None:
    narrow = [name for name in weights if QuantFormat(name).bits <= 4]
    if target == "tensorrt" and narrow and activation != NONE:
        raise CalibrationError(
            f"TensorRT takes {narrow[0]} weights with float activations only. Add "
            f'activation="{NONE}".'
        )
