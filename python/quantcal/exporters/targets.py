"""The targets of an export by name, as `quantcal export --to NAME` takes them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from quantcal import _core
from quantcal._io.files import check_target
from quantcal._text import shown
from quantcal.exporters import ncnn, onnxruntime, plain, tensorrt
from quantcal.exporters.known import TEXTS
from quantcal.onnx.files import RunFiles
from quantcal.onnx.graphs import table_coverage
from quantcal.params import QuantParams
from quantcal.table import CalibrationTable

if TYPE_CHECKING:
    from quantcal.onnx.graphs import Model

Table = Mapping[str, QuantParams]


@dataclass(frozen=True, slots=True)
class ExportResult:
    """The content of a file for another tool.

    Parameters
    ----------
    entries
        Number of tensors or layers in the file.
    unit
        "tensors" or "layers".
    skipped
        Reasons why layers or tensors are not in the file, by name.
    """

    entries: int
    unit: str = "tensors"
    skipped: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Target:
    """A file that another tool reads.

    Parameters
    ----------
    write
        Takes the table, the path and the options. Returns an `ExportResult`, or None
        if every tensor was written.
    options
        Names of its options.
    text
        A short description.
    """

    write: Callable[..., Any]
    options: tuple[str, ...]
    text: str


def _write_ncnn(
    table: Table, path: str | Path, *, model: Model | None = None
) -> ExportResult:
    if model is None:
        msg = (
            "ncnn's table names layers and holds the scales of their weights too: "
            "give the model (--model)"
        )
        raise _core.CalibrationError(msg)
    used = RunFiles(model)
    check_target(path, used)
    layers, skipped = ncnn.read_layers(model)
    if not layers:
        why = "; ".join(f"{name}: {reason}" for name, reason in [*skipped.items()][:5])
        msg = (
            "the model has no Conv, Gemm or MatMul that ncnn computes in int8"
            f"{f': {why}' if why else ''}"
        )
        raise _core.CalibrationError(msg)
    reached = table_coverage(table)
    known = {name: table[name] for name, reason in reached.items() if reason is None}
    written = ncnn.write_table(known, path, layers, used)
    for name, layer in layers.items():
        reason = reached.get(layer.tensor, "not in the table")
        if reason is not None:
            skipped[name] = f"its input {layer.tensor} is {reason}"
    read = {layer.tensor for layer in layers.values()}
    skipped |= {name: "no layer reads it" for name in table if name not in read}
    return ExportResult(written, "layers", skipped)


_WRITERS: Mapping[str, tuple[Callable[..., Any], tuple[str, ...]]] = {
    "onnxruntime": (onnxruntime.write_cache, ("method",)),
    "onnxruntime-tensorrt": (onnxruntime.write_tensorrt_table, ()),
    "tensorrt": (tensorrt.write_cache, ("version", "algorithm")),
    "ncnn": (_write_ncnn, ("model",)),
    "csv": (plain.write_csv, ()),
    "json": (plain.write_json, ()),
}

TARGETS: Mapping[str, Target] = {
    name: Target(*_WRITERS[name], text) for name, text in TEXTS.items()
}
"""The targets by the names that `--to` takes."""


def export(
    table: Mapping[str, QuantParams], to: str, path: str | Path, **options: Any
) -> ExportResult:
    """Write a table for another tool.

    Parameters
    ----------
    table
        Parameters by tensor, such as a `CalibrationTable`.
    to
        A name in `TARGETS`: `onnxruntime`, `onnxruntime-tensorrt`, `tensorrt`,
        `ncnn`, `csv` or `json`.
    path
        The file, or the folder for `onnxruntime-tensorrt`.
    options
        `method` (onnxruntime), `version` and `algorithm` (tensorrt), `model`
        (ncnn). None means the default.

    Returns
    -------
    The number of tensors or layers that were written, and why others were skipped.

    Raises
    ------
    CalibrationError
        If the target or an option is unknown, the table is empty, or the target's function
        refuses the table.

    Examples
    --------
    >>> table = qc.CalibrationTable({"x": qc.QuantParams.from_range(-1, 3, format="uint8")})
    >>> qc.exporters.export(table, "csv", "ranges.csv")
    """
    if to not in TARGETS:
        msg = f"target {shown(to)} is not known. Known targets: {', '.join(TARGETS)}"
        raise _core.CalibrationError(msg)
    target = TARGETS[to]
    given = {key: value for key, value in options.items() if value is not None}
    unknown = [key for key in given if key not in target.options]
    if unknown:
        takes = ", ".join(target.options) or "none"
        msg = f"{unknown[0]} is no option of {to}, which takes: {takes}"
        raise _core.CalibrationError(msg)
    if not isinstance(table, CalibrationTable):
        # The constructor checks the names and values.
        table = CalibrationTable(table)
    if not len(table):
        msg = "the table is empty: there is nothing to write"
        raise _core.CalibrationError(msg)
    done: ExportResult | None = target.write(table, path, **given)
    return done or ExportResult(len(table))
