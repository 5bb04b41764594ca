"""ONNX Runtime's forms of a table: objects, JSON cache, and the TensorRT provider's table.

`quantize_static(calibration_cache_path=...)` reads the cache instead of running samples.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from quantcal import _core
from quantcal._io.files import check_target, read_bytes, write_bytes, write_text
from quantcal._io.json_text import parse_json
from quantcal._io.temporary import TemporaryFolder, working
from quantcal._names import check_name
from quantcal._table_file import LARGEST
from quantcal._text import shown
from quantcal.exporters.known import METHODS
from quantcal.exporters.tensorrt import largest
from quantcal.formats import FormatLike
from quantcal.params import QuantParams
from quantcal.table import CalibrationTable

if TYPE_CHECKING:
    from onnxruntime.quantization.calibrate import TensorsData

__all__ = [
    "TENSORRT_FILES",
    "read_cache",
    "tensors_data",
    "write_cache",
    "write_tensorrt_table",
]

TENSORRT_FILES = ("calibration.json", "calibration.flatbuffers", "calibration.cache")
"""The files of the TensorRT provider's table; the provider reads the second."""


def tensors_data(
    table: Mapping[str, QuantParams], *, method: str = "MinMax"
) -> TensorsData:
    """Return a table as the object that onnxruntime's quantizers take.

    Parameters
    ----------
    table
        Ranges are rounded to float32. By channel they are arrays, as in its MinMax.
    method
        The method to state in the object, one of `METHODS`. Every quantizer accepts
        MinMax.

    Raises
    ------
    CalibrationError
        If the method is unknown, or a range exceeds float32.
    ImportError
        If onnxruntime or onnx is missing; says how to install them.
    """
    from quantcal.onnx.graphs import require

    require()
    from onnxruntime.quantization import calibrate

    kind = calibrate.CalibrationMethod[_check_method(method)]
    data = {
        name: calibrate.TensorData(lowest=low, highest=high)
        for name, (low, high) in _ranges(table).items()
    }
    return calibrate.TensorsData(kind, data)


def write_cache(
    table: Mapping[str, QuantParams], path: str | Path, *, method: str = "MinMax"
) -> None:
    """Write the JSON cache of `quantize_static(calibration_cache_path=...)`, atomically.

    onnxruntime computes scales from these ranges itself. With the activation type and the
    symmetry of the table it computes the same scales, up to rounding.

    Parameters
    ----------
    table
        Parameters by tensor.
    path
        The file.
    method
        The `calibrate_method` of the call to `quantize_static`, which refuses others. Its
        default is MinMax.

    Raises
    ------
    CalibrationError
        If the method is unknown, a range exceeds float32, or the file cannot be written.
    """
    content = {
        "CLS": "TensorsData",
        "data": {
            name: {"lowest": _array(low), "highest": _array(high), "CLS": "TensorData"}
            for name, (low, high) in _ranges(table).items()
        },
        "calibration_method": {
            "CLS": "CalibrationMethod",
            "value": f"CalibrationMethod.{_check_method(method)}",
        },
        "smooth_quant": False,
    }
    write_text(path, json.dumps(content))


def read_cache(path: str | Path, *, format: FormatLike = "uint8") -> CalibrationTable:
    """Read the JSON cache that `quantize_static` or `write_cache` wrote.

    Parameters
    ----------
    path
        The file.
    format
        The format of the parameters, since the cache has only ranges. The default is uint8,
        the usual format of activations on CPUs.

    Returns
    -------
    A table whose `strategy` is the method of the cache. Ranges of more than one channel have
    axis 1.

    Raises
    ------
    CalibrationError
        If the file is no such cache or a range is invalid; names the file and the tensor.
    """
    try:
        content = parse_json(read_bytes(path, LARGEST).decode())
        method = content["calibration_method"]["value"].rpartition(".")[2].lower()
        entries = content["data"]
        # A list of pairs could name a tensor twice.
        if not isinstance(entries, dict):
            raise TypeError(
                f"data is {shown(entries, 40)}, but it must be ranges by name"
            )
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        msg = f"{path} is no calibration cache of onnxruntime: {error!r}"
        raise _core.CalibrationError(msg) from error
    params: dict[str, QuantParams] = {}
    for name, entry in entries.items():
        try:
            check_name(name)
            low, high = _numbers(entry["lowest"]), _numbers(entry["highest"])
            whole = low.size == high.size == 1
            params[name] = QuantParams.from_range(
                float(low[0]) if whole else low,
                float(high[0]) if whole else high,
                format=format,
                strategy=method,
                axis=None if whole else 1,
            )
        except (ValueError, TypeError, KeyError, IndexError) as error:
            why = error if isinstance(error, _core.CalibrationError) else repr(error)
            msg = f'{path}, tensor "{name}": its range is invalid: {why}'
            raise _core.CalibrationError(msg) from error
    return CalibrationTable(params)


def write_tensorrt_table(table: Mapping[str, QuantParams], folder: str | Path) -> None:
    """Write the table of onnxruntime's TensorRT execution provider, three files.

    onnxruntime's `write_calibration_table` writes the files. By itself it takes the upper end
    as the magnitude, so a tensor from -10 to 1 would get a dynamic range of 1. Here it gets
    10.

    Parameters
    ----------
    table
        Parameters by tensor. By channel the largest magnitude is used, since there is one
        dynamic range per tensor.
    folder
        Receives `TENSORRT_FILES`. Give the provider the second as
        `trt_int8_calibration_table_name`.

    Raises
    ------
    CalibrationError
        If a range exceeds float32, or a file cannot be written.
    ImportError
        If onnxruntime is missing; says how to install it.
    """
    from quantcal.onnx.graphs import require

    require()
    from onnxruntime.quantization.calibrate import TensorData
    from onnxruntime.quantization.quant_utils import write_calibration_table

    data = {}
    for name, params in table.items():
        check_name(name)
        high = _float32(name, largest(params))
        data[name] = TensorData(lowest=-high, highest=high)
    targets = [Path(folder, name) for name in TENSORRT_FILES]
    for target in targets:
        check_target(target)
    # onnxruntime writes through links and into pipes, so it writes to a temporary folder.
    with working():
        made = TemporaryFolder()
        write_calibration_table(data, str(made.path))
        contents = [made.path.joinpath(name).read_bytes() for name in TENSORRT_FILES]
        made.close()
    for target, content in zip(targets, contents, strict=True):
        write_bytes(target, content)


def _check_method(method: str) -> str:
    if method not in METHODS:
        known = ", ".join(METHODS)
        msg = f"onnxruntime has no method {shown(method)}: give one of {known}"
        raise _core.CalibrationError(msg)
    return method


def _ranges(table: Mapping[str, QuantParams]) -> dict[str, tuple[Any, Any]]:
    for name in table:
        check_name(name)
    return {
        name: (_float32(name, params.low), _float32(name, params.high))
        for name, params in table.items()
    }


def _float32(name: str, value: Any) -> Any:
    with np.errstate(over="ignore"):
        rounded = np.asarray(value, dtype=np.float32)
    if not np.isfinite(rounded).all():
        msg = f"the range of {name!r}, {value}, exceeds float32"
        raise _core.CalibrationError(msg)
    return rounded


def _array(values: Any) -> dict[str, Any]:
    return {"data": values.tolist(), "dtype": "float32", "CLS": "numpy.array"}


def _numbers(value: Any) -> Any:
    """Return the numbers of a range's end, which may be nested in lists, as an array.

    Raises
    ------
    CalibrationError
        If there is no number, or a value is no finite number.
    """
    data = value["data"] if isinstance(value, dict) else value
    remaining = [data]
    # A file could exhaust the stack of a recursion.
    while remaining:
        item = remaining.pop()
        # numpy accepts True and "1" as numbers.
        if isinstance(item, list):
            remaining += item
        elif type(item) not in (int, float):
            raise _core.CalibrationError(f"{item!r:.40} is not a number")
        elif not _is_finite(item):
            msg = f"{item!r:.40} is no finite float"
            raise _core.CalibrationError(msg)
    numbers = np.asarray(data, dtype=np.float64).reshape(-1)
    if not numbers.size:
        raise _core.CalibrationError("it has no numbers")
    return numbers


def _is_finite(number: float) -> bool:
    try:
        return math.isfinite(number)
    except OverflowError:
        # An integer beyond the range of float64.
        return False


def __dir__() -> list[str]:
    return sorted(__all__)
