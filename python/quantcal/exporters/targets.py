"""The targets of a table by name: what `quantcal export --to NAME` can write."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from quantcal import _core, tensorrt
from quantcal._files import check_target
from quantcal.exporters import ncnn, onnxruntime, plain
from quantcal.onnx.used import RunFiles
from quantcal.params import QuantParams
from quantcal.table import CalibrationTable

if TYPE_CHECKING:
    from quantcal.onnx.model import Model

Table = Mapping[str, QuantParams]


@dataclass(frozen=True, slots=True)
class Target:
    """A file that another tool reads.

    Attributes
    ----------
    write : callable
        Takes the table, the path and the options.
    options : tuple of str
        The options it knows.
    text : str
        What it is, in a few words.
    """

    write: Callable[..., Any]
    options: tuple[str, ...]
    text: str


def _write_ncnn(table: Table, path: str | Path, *, model: Model | None = None) -> None:
    if model is None:
        msg = (
            "ncnn's table names layers and holds the scales of their weights too: "
            "give the model (--model)"
        )
        raise _core.CalibrationError(msg)
    used = RunFiles(model)
    check_target(path, used)
    ncnn.write_table(table, path, ncnn.layers_of(model), used)


TARGETS: Mapping[str, Target] = {
    "onnxruntime": Target(
        onnxruntime.write_cache,
        ("method",),
        "JSON cache of quantize_static(calibration_cache_path=...)",
    ),
    "onnxruntime-tensorrt": Target(
        onnxruntime.write_tensorrt_table,
        (),
        "folder for ONNX Runtime's TensorRT provider",
    ),
    "tensorrt": Target(
        tensorrt.write_cache,
        ("version", "algorithm"),
        "calibration cache of TensorRT up to 10",
    ),
    "ncnn": Target(_write_ncnn, ("model",), "table of ncnn2int8"),
    "csv": Target(plain.write_csv, (), "a line a tensor"),
    "json": Target(plain.write_json, (), "an object a tensor"),
}
"""By the name that `--to` takes."""


def export(
    table: Mapping[str, QuantParams], to: str, path: str | Path, **options: Any
) -> None:
    """Write a table for another tool.

    Parameters
    ----------
    table : mapping of str to QuantParams
        Such as a `CalibrationTable`.
    to : str
        A name in :data:`TARGETS`: ``onnxruntime``, ``onnxruntime-tensorrt``, ``tensorrt``,
        ``ncnn``, ``csv`` or ``json``.
    path : path
        The file, or the folder for ``onnxruntime-tensorrt``.
    options
        ``method`` (onnxruntime), ``version`` and ``algorithm`` (tensorrt), ``model``
        (ncnn). None stands for the default.

    Raises
    ------
    CalibrationError
        If the target or an option is not known, the table is empty, or the target's own
        function refuses.

    Examples
    --------
    >>> table = qc.CalibrationTable({"x": qc.QuantParams.from_range(-1, 3, format="uint8")})
    >>> qc.exporters.export(table, "csv", "ranges.csv")
    """
    if to not in TARGETS:
        msg = f"target {to!r} is not known. Known targets: {', '.join(TARGETS)}"
        raise _core.CalibrationError(msg)
    target = TARGETS[to]
    given = {key: value for key, value in options.items() if value is not None}
    unknown = [key for key in given if key not in target.options]
    if unknown:
        takes = ", ".join(target.options) or "none"
        msg = f"{unknown[0]} is no option of {to}, which takes: {takes}"
        raise _core.CalibrationError(msg)
    table = CalibrationTable(table)  # checks names and what they stand for
    if not len(table):
        msg = "the table is empty: there is nothing to write"
        raise _core.CalibrationError(msg)
    target.write(table, path, **given)
