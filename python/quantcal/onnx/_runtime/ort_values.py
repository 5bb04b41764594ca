"""Running sessions on types that numpy lacks: bfloat16, 8-bit floats, 4-bit integers.

For these, onnxruntime's Python interface has ``OrtValue`` objects. This module converts
between their memory and arrays of ``ml_dtypes``.
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from quantcal._core import CalibrationError
from quantcal.onnx._graph.element_types import ML_DTYPES, bits_of

if TYPE_CHECKING:
    import onnxruntime

# onnxruntime's name of such a type → ONNX's name.
_ORT_TYPES = {f"tensor({name.lower()})": name for name in ML_DTYPES}


def run_session(
    session: onnxruntime.InferenceSession,
    names: Sequence[str],
    feed: Mapping[str, Any],
    options: onnxruntime.RunOptions | None = None,
) -> list[Any]:
    """Run as ``session.run`` does, with arrays of any type.

    Parameters
    ----------
    session : onnxruntime.InferenceSession
    names : sequence of str
        The outputs to return.
    feed : mapping of str to array
    options : onnxruntime.RunOptions, optional

    Raises
    ------
    CalibrationError
        When the model combines such types with inputs that need ``session.run``, such as
        strings and sequences.
    """
    inputs = {value.name: value.type for value in session.get_inputs()}
    outputs = {value.name: value.type for value in session.get_outputs()}
    types = [inputs.get(n, "") for n in feed] + [outputs.get(n, "") for n in names]
    if not _ORT_TYPES.keys() & set(types):
        return list(session.run(list(names), dict(feed), options))
    for name in feed:
        kind = inputs.get(name, "")
        if not kind.startswith("tensor(") or kind == "tensor(string)":
            special = sorted(_ORT_TYPES.keys() & set(types))
            raise CalibrationError(
                f"Input {name!r} is a {kind}, and other inputs or outputs are "
                f"{', '.join(special)}. onnxruntime's Python interface cannot run both in one "
                "model. Change one of these types in the export."
            )
    given = {name: _to_value(np.asarray(feed[name]), inputs[name]) for name in feed}
    made = session.run_with_ort_values(list(names), given, options)
    return [_to_array(value) for value in made]


def _to_value(array: np.ndarray[Any, Any], kind: str) -> onnxruntime.OrtValue:
    import onnx
    import onnxruntime as ort

    if kind not in _ORT_TYPES:
        return ort.OrtValue.ortvalue_from_numpy(array)
    name = _ORT_TYPES[kind]
    content = _packed(array, bits_of(name, ML_DTYPES[name]))
    number = onnx.TensorProto.DataType.Value(name)
    value = ort.OrtValue.ortvalue_from_shape_and_type(list(array.shape), number)
    if content.nbytes:
        ctypes.memmove(value.data_ptr(), content.ctypes.data, content.nbytes)
    return value


def _to_array(value: onnxruntime.OrtValue) -> Any:
    if not value.is_tensor():
        return value  # a sequence or a map
    name = _ORT_TYPES.get(value.data_type())
    if name is None:
        return value.numpy()
    shape = tuple(value.shape())
    bits = bits_of(name, ML_DTYPES[name])
    content = np.empty(-(-math.prod(shape) * bits // 8), np.uint8)
    if content.nbytes:  # a copy, because the memory is freed with the value
        ctypes.memmove(content.ctypes.data, value.data_ptr(), content.nbytes)
    return _unpacked(content, bits, ML_DTYPES[name], shape)


def _packed(array: np.ndarray[Any, Any], bits: int) -> np.ndarray[Any, Any]:
    """Pack values below 8 bits into bytes, the first one in the lowest bits."""
    codes = array.reshape(-1).view(np.uint8)
    if bits >= 8:
        return codes
    each = 8 // bits
    room = np.zeros(-(-codes.size // each) * each, np.uint8)
    room[: codes.size] = codes & ((1 << bits) - 1)
    shifts = np.arange(0, 8, bits, dtype=np.uint8)
    packed: np.ndarray[Any, Any] = (room.reshape(-1, each) << shifts).sum(
        axis=1, dtype=np.uint8
    )
    return packed


def _unpacked(
    content: np.ndarray[Any, Any],
    bits: int,
    dtype: np.dtype[Any],
    shape: tuple[int, ...],
) -> np.ndarray[Any, Any]:
    if bits < 8:
        shifts = np.arange(0, 8, bits, dtype=np.uint8)
        codes = (content[:, None] >> shifts) & ((1 << bits) - 1)
        content = codes.reshape(-1)[: math.prod(shape)]
    return np.ascontiguousarray(content).view(dtype).reshape(shape)
