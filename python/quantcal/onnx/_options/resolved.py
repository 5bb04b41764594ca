"""The options of a run with all defaults filled in, and what follows from them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, replace

from quantcal.formats import QuantFormat
from quantcal.onnx._options.cpu import WeightBits, weight_bits
from quantcal.onnx._options.quantize_options import QuantizeOptions
from quantcal.onnx._options.values import (
    ACTIVATIONS,
    NONE,
    default_strategy,
    default_weight,
    is_float,
)

_OPSETS = ((4, 21), (8, 13), (16, 21))  # bits of integers → first opset that has them
_FLOAT8 = 19


@dataclass(frozen=True, slots=True)
class Options(QuantizeOptions):
    """The options as a run takes them. Make them with :meth:`of`.

    Attributes
    ----------
    given
        Formats of the tensors whose ranges are known already. They go before all others.
    """

    # No default depends on another option any more.
    activation_type: str = "uint8"
    activation_formats: Mapping[str, str] = field(default_factory=dict)
    weight_type: str = "int8"
    weight_strategy: str = "minmax"
    weight_formats: Mapping[str, str] = field(default_factory=dict)
    op_types: tuple[str, ...] = ()
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    corrections: tuple[str, ...] = ()
    given: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Check nothing: what was asked for is checked, and variants are made freely."""

    @classmethod
    def of(
        cls,
        asked: QuantizeOptions | None = None,
        given: Mapping[str, str] | None = None,
    ) -> Options:
        """Fill in the defaults that depend on the target and on other options.

        Parameters
        ----------
        asked
            What the caller chose; all defaults when None.
        given
            Formats of the tensors whose ranges are known already.
        """
        asked = asked or QuantizeOptions()
        values = {each.name: getattr(asked, each.name) for each in fields(asked)}
        activation = asked.activation_type or ACTIVATIONS[asked.target][0]
        weight = asked.weight_type or default_weight(asked.target, activation)
        values |= {
            "activation_type": activation,
            "activation_formats": dict(asked.activation_formats or {}),
            "weight_type": weight,
            "weight_strategy": asked.weight_strategy or default_strategy(weight),
            "weight_formats": dict(asked.weight_formats or {}),
            "per_channel": bool(asked.per_channel),
        }
        return cls(**values, given=given or {})

    @property
    def weights_only(self) -> bool:
        """Whether activations stay in float, so that no samples are needed."""
        return self.activation_type == NONE

    @property
    def rounds_outputs(self) -> bool:
        """Whether results of nodes are rounded too, where a kernel needs it.

        TensorRT fuses what follows a node (bias, ReLU, the residual sum) and rounds after
        that. No kernel returns small floats.
        """
        return self.target == "onnxruntime" and not is_float(self.activation_type)

    @property
    def minimal(self) -> bool:
        """Whether only what onnxruntime's integer kernels read is rounded."""
        whole = self.rounds_outputs and not self.weights_only
        return whole and self.placement == "minimal"

    @property
    def opset(self) -> int:
        """The first opset with all these formats."""
        activations = [*self.activation_formats.values(), *self.given.values()]
        activations += self._activations()
        return opset_for(
            [*activations, self.weight_type, *self.weight_formats.values()]
        )

    def _activations(self) -> list[str]:
        return [] if self.weights_only else [self.activation_type]

    def bits(self) -> WeightBits:
        """Choose between 7 and 8 bits for 8-bit weights, and say why.

        Only onnxruntime's integer kernels may need 7.

        Raises
        ------
        CalibrationError
            When ``reduce_range`` or ``cpu`` is not known.
        """
        chosen = weight_bits(self.reduce_range, self.weight_type, self.cpu)
        if self.weight_type not in ("int8", "uint8"):
            return WeightBits(False, "as asked for")
        if self.reduce_range not in ("auto", "nodes"):
            return chosen
        if self.target == "tensorrt":
            return WeightBits(False, "TensorRT adds products in 32 bits")
        if self.activation_type not in ("uint8", "int8"):
            reason = f"no 8-bit sums with {self.activation_type} activations"
            return WeightBits(False, reason)
        return chosen

    def planned(self, formats: Mapping[str, str]) -> Options:
        """Return the same with rules, for planned tensors, in place of what was given."""
        rules = {name: each for name, each in self.given.items() if name in formats}
        return replace(
            self, activation_formats=rules | dict(self.activation_formats), given={}
        )

    def settled(self, bits: WeightBits) -> Options:
        """Return the same with the bits that were chosen, which no longer depend on the CPU."""
        nodes = tuple(sorted(bits.nodes))
        return replace(self, reduce_range=nodes or bits.reduce)


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
