"""`QuantFormat`: the grid that values are stored in, and how it is scaled."""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, cast

from quantcal import _core
from quantcal._core import CalibrationError
from quantcal._format_names import ONNX_TYPES, format_name
from quantcal._plain_values import as_flag
from quantcal._text import shown

if TYPE_CHECKING:
    import numpy as np

FORMATS: tuple[str, ...] = tuple(_core.format_names())
"""Names of all formats."""

KNOWN = "int2 to int16, uint2 to uint16, float8_e4m3fn, float8_e5m2, float4_e2m1fn"
_INTEGER = re.compile(r"(u?)int(\d+)")


class DType(Protocol):
    """A dtype of numpy or torch."""

    @property
    def itemsize(self) -> int:
        """Bytes of an element."""
        ...


FormatLike: TypeAlias = "str | QuantFormat | type[Any] | DType"
"""What is accepted as a format; `QuantFormat.of` reads it."""


@dataclass(frozen=True)
class QuantFormat:
    """An integer or floating grid with its scaling.

    Symmetric: zero lies in the middle of the range [-T, T]. The scale is T / (2^(bits-1) - 1)
    for integers and T / m for floats. The largest value m is 448 for float8_e4m3fn, 57344 for
    float8_e5m2 and 6 for float4_e2m1fn. Affine: the range has two ends and is widened to
    contain 0. The scale is (high - low) / (2^bits - 1), and the zero point the nearest code.
    Rounding is half to even, and saturates.

    Parameters
    ----------
    name
        "int2" to "int16", "uint2" to "uint16", "float8_e4m3fn", "float8_e5m2" or
        "float4_e2m1fn" (the names of ONNX and ml_dtypes). Also understood, everywhere where a
        format is named: other spellings ("INT8", "fp8", which is float8_e4m3fn), types and
        dtypes of numpy, ml_dtypes and torch (`np.int8`, `torch.qint8`), and `QuantType` of
        onnxruntime. Numbers are refused: 4 may be bits, or `onnx.TensorProto.UINT16`.
    symmetric
        None for the default of the format. Signed integers and floats are symmetric, so that
        zero is at code 0, as signed kernels need it. Unsigned integers are affine, as symmetric
        ranges would lose half of their codes. Floats have no zero point and cannot be affine.
    power_of_two
        Whether the scale must be a power of two, so that scaling is a shift. It is the smallest
        one that clips nothing of the range; "mse" and "entropy" search among these scales.

    Raises
    ------
    CalibrationError
        If the name is not known, or a float is to be affine.

    Examples
    --------
    >>> import quantcal as qc
    >>> qc.QuantFormat("uint4")
    QuantFormat(name='uint4', symmetric=False, power_of_two=False)
    >>> qc.QuantFormat("int4").dtype
    dtype(int4)
    """

    name: str
    symmetric: bool = cast("bool", None)  # set below
    power_of_two: bool = False

    def __post_init__(self) -> None:
        known = format_name(self.name)
        if known is None:
            raise CalibrationError(_unknown(self.name))
        object.__setattr__(self, "name", known)
        if self.symmetric is None:
            object.__setattr__(self, "symmetric", not self.name.startswith("u"))
        for field in ("symmetric", "power_of_two"):
            value = getattr(self, field)
            flag = as_flag(value)
            if flag is None:
                msg = f"{field} is {shown(value)}, but it must be True or False"
                raise CalibrationError(msg)
            object.__setattr__(self, field, flag)
        if self.is_float and not self.symmetric:
            msg = f"{self.name} has no zero point, so it cannot be affine; leave symmetric out"
            raise CalibrationError(msg)

    @classmethod
    def of(
        cls,
        format: FormatLike,
        symmetric: bool | None = None,
        power_of_two: bool | None = None,
    ) -> QuantFormat:
        """Return the format for a name, a dtype or a format, with the scaling that is given."""
        if not isinstance(format, QuantFormat):
            if not isinstance(format, str) and format_name(format) is None:
                msg = f"format is {shown(format)}, but it must be a name or a QuantFormat."
                raise TypeError(msg + _bits(format))
            power = False if power_of_two is None else power_of_two
            return cls(cast("str", format), cast("bool", symmetric), power)
        return cls(
            format.name,
            format.symmetric if symmetric is None else symmetric,
            format.power_of_two if power_of_two is None else power_of_two,
        )

    @property
    def is_float(self) -> bool:
        """Whether the levels are those of a small float."""
        return self.name.startswith("float")

    @property
    def bits(self) -> int:
        """Bits of a code."""
        found = _INTEGER.fullmatch(self.name)
        return int(found[2]) if found else int(self.name[5])

    @property
    def storage(self) -> np.dtype[Any]:
        """The smallest standard integer dtype that holds a code; for floats, its bits."""
        import numpy as np

        sign = "i" if self.name.startswith("int") else "u"
        return np.dtype(f"{sign}{1 if self.bits <= 8 else 2}")

    @property
    def dtype(self) -> np.dtype[Any]:
        """The numpy dtype of codes: the format's own where numpy or ml_dtypes has it."""
        # Here: their imports take longer than that of quantcal.
        import ml_dtypes
        import numpy as np

        own = getattr(np, self.name, None) or getattr(ml_dtypes, self.name, None)
        return np.dtype(own) if own is not None else self.storage

    def __str__(self) -> str:
        scaling = "symmetric" if self.symmetric else "affine"
        power = ", power-of-two scale" if self.power_of_two else ""
        return f"{self.name} ({scaling}{power})"


def _unknown(name: Any) -> str:
    written = name if isinstance(name, str) else shown(name)
    hint = _bits(name)
    near = difflib.get_close_matches(written, FORMATS, n=2)
    if near and not hint:
        hint = f" Did you mean {' or '.join(near)}?"
    return f'Format "{written}" is not known.{hint} Known formats: {KNOWN}.'


def _bits(given: Any) -> str:
    """Return a hint if a number is given: of bits, or a type of ONNX."""
    bits = given.strip() if isinstance(given, str) else shown(given)
    hint = ""
    if bits in ("2", "3", "4", "5", "6", "7", "8", "16"):
        hint = f' For {bits} bits give "int{bits}" or "uint{bits}".'
    if type(given) is int and given in ONNX_TYPES:
        hint += f' For number {given} of onnx.TensorProto give "{ONNX_TYPES[given]}".'
    return hint
