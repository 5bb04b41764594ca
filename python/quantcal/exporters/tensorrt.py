"""TensorRT's calibration cache (versions up to 10): ranges as the INT8 builder reads them.

TensorRT 11 has no calibrators. Its INT8 models have QuantizeLinear and DequantizeLinear nodes,
which `quantcal.onnx.quantize` writes. Use this module for 8.x and 10.x, such as on
Jetson.

The file is text. Its first line names the version and the algorithm that made it, and a
builder ignores a cache of another version. Each further line is a tensor's name and the bits
of its scale, amax / 127, as a float32 in hexadecimal without leading zeros. NVIDIA does not
document the format, so this description is taken from published files.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from quantcal import _core
from quantcal._io.files import read_bytes, write_text
from quantcal._names import check_name
from quantcal.exporters.known import ALGORITHM, VERSION
from quantcal.params import QuantParams
from quantcal.table import CalibrationTable

__all__ = ["Cache", "read_cache", "write_cache"]


_HEADER = re.compile(r"TRT-(\d{1,9})-([A-Za-z0-9_]{1,64})")
_LARGEST = float(np.finfo(np.float32).max)
_HEX = re.compile(r"[0-9a-fA-F]{1,8}")


@dataclass(frozen=True, slots=True)
class Cache:
    """The content of a calibration cache.

    Parameters
    ----------
    scales
        amax / 127 of each tensor as float32 values, in the order of the file; 0 for a tensor
        of zeros.
    version
        The version in the first line, such as 8501 or 101401.
    algorithm
        The algorithm in the first line, such as `"EntropyCalibration2"` or
        `"MinMaxCalibration"`.
    """

    scales: dict[str, float]
    version: int = VERSION
    algorithm: str = ALGORITHM

    def table(self) -> CalibrationTable:
        """Return the scales as a table of symmetric int8 parameters; a scale of 0 becomes 1."""
        return CalibrationTable(
            {
                name: QuantParams(
                    scale=scale or 1.0,
                    zero_point=0,
                    low=-127.0 * (scale or 1.0),
                    high=127.0 * (scale or 1.0),
                    format="int8",
                    symmetric=True,
                    strategy=self.algorithm,
                )
                for name, scale in self.scales.items()
            }
        )


def write_cache(
    table: Mapping[str, QuantParams] | Cache,
    path: str | Path,
    *,
    version: int | None = None,
    algorithm: str | None = None,
) -> None:
    """Write a calibration cache, atomically.

    Parameters
    ----------
    table
        Parameters by tensor, or a cache. A symmetric int8 scale is written unchanged. The
        scale of any other range is its larger magnitude over 127. By channel it is the largest
        magnitude of all channels, since a cache has one scale per tensor.
    path
        The file, often `calibration.cache`.
    version
        The version of the TensorRT that will read it, in the form of the header. The default
        is that of a `Cache`, or `VERSION`.
    algorithm
        The algorithm in the header, which must be that of the builder's calibrator. The
        default is that of a `Cache`, or `ALGORITHM`.

    Raises
    ------
    CalibrationError
        If the version or algorithm does not fit a header, or a name does not fit a line. If a
        scale exceeds float32, or the file cannot be written. The old file is then unchanged.

    Examples
    --------
    >>> table = qc.CalibrationTable({"x": qc.QuantParams.from_range(-12.7, 12.7)})
    >>> qc.exporters.tensorrt.write_cache(table, "calibration.cache", version=8501)
    >>> from pathlib import Path
    >>> print(Path("calibration.cache").read_text(), end="")
    TRT-8501-EntropyCalibration2
    x: 3dcccccd
    """
    if not isinstance(table, Cache):
        table = Cache({name: scale_of(name, p) for name, p in table.items()})
    version = table.version if version is None else version
    header = f"TRT-{version}-{algorithm or table.algorithm}"
    if not _HEADER.fullmatch(header):
        msg = (
            f"{header!r} is no header of a cache: give the version as digits, such as 8501 or "
            "101401, and the algorithm as one word, such as EntropyCalibration2"
        )
        raise _core.CalibrationError(msg)
    lines = [header]
    for name, scale in table.scales.items():
        if not name or "\n" in name or "\r" in name:
            msg = f"the name {name!r} does not fit a line of a cache: rename the tensor"
            raise _core.CalibrationError(msg)
        if not 0 <= scale <= _LARGEST:
            msg = (
                f"the scale of {name!r} is {scale:g}, but a scale must be from 0 to 3.4e38: "
                "remove the tensor"
            )
            raise _core.CalibrationError(msg)
        check_name(name)
        lines.append(f"{name}: {np.float32(scale).view(np.uint32):x}")
    write_text(path, "\n".join(lines) + "\n")


def read_cache(path: str | Path) -> Cache:
    """Read a calibration cache.

    A name may contain ":" and spaces, as in "(Unnamed Layer* 64) [Shuffle]_output" or "x:0".
    The last ": " of a line ends the name.

    Raises
    ------
    CalibrationError
        If the file cannot be read or a line is invalid; names the file and the line.
    """
    data = read_bytes(path)
    try:
        lines = data.decode().split("\n")
    except UnicodeDecodeError as error:
        number = data.count(b"\n", 0, error.start) + 1
        raise _fault(path, number, "it is no UTF-8 text") from error
    header = _HEADER.fullmatch(lines[0].removesuffix("\r"))
    if header is None:
        wrong = f"{_cut(lines[0])} is no header, such as TRT-101401-{ALGORITHM}"
        raise _fault(path, 1, wrong)
    scales: dict[str, float] = {}
    for number, text in enumerate(lines[1:], 2):
        line = text.removesuffix("\r")
        if not line:
            continue
        name, colon, digits = line.rpartition(": ")
        if not colon or not name:
            raise _fault(path, number, f'{_cut(line)} is not of the form "name: bits"')
        if not _HEX.fullmatch(digits):
            wrong = f"{_cut(digits)} are not one to eight hexadecimal digits"
            raise _fault(path, number, wrong)
        if name in scales:
            raise _fault(path, number, f"the tensor {_cut(name)} occurs a second time")
        scale = float(np.uint32(int(digits, 16)).view(np.float32))
        if not (np.isfinite(scale) and scale >= 0):
            wrong = f"{digits} is {scale:g}, which is no scale of {_cut(name)}"
            raise _fault(path, number, wrong)
        scales[name] = scale
    return Cache(scales, int(header[1]), header[2])


def scale_of(name: str, params: QuantParams) -> float:
    """Return amax / 127 of a tensor, a float32 value.

    Raises
    ------
    CalibrationError
        If it exceeds float32.
    """
    if params.format == "int8" and params.symmetric and params.axis is None:
        return float(params.scale)
    scale = np.float32(largest(params) / 127)
    if not np.isfinite(scale):
        msg = f"the range of {name!r}, ±{largest(params):g}, exceeds float32"
        raise _core.CalibrationError(msg)
    return float(scale)


def largest(params: QuantParams) -> float:
    """Return the larger magnitude of a range, over all channels."""
    return float(max(np.max(np.abs(params.low)), np.max(np.abs(params.high))))


def _fault(path: str | Path, line: int, what: str) -> _core.CalibrationError:
    return _core.CalibrationError(
        f"{path}, line {line}: {what}. Is it a TensorRT calibration cache?"
    )


def _cut(text: str) -> str:
    return repr(text if len(text) <= 60 else f"{text[:57]}...")


def __dir__() -> list[str]:
    return sorted(__all__)
