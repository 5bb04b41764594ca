"""`quantcal export`: ranges in the files of other tools."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from quantcal.cli.errors import check_outputs
from quantcal.cli.options import JsonOption
from quantcal.cli.output import records, text
from quantcal.cli.output.console import say_warning, stdout
from quantcal.cli.output.facts import print_facts, warn_of_nothing
from quantcal.cli.results import load_table
from quantcal.exporters.known import ALGORITHM, METHODS, TEXTS, VERSION

if TYPE_CHECKING:
    from quantcal.table import CalibrationTable


_INT8 = frozenset({"ncnn", "onnxruntime-tensorrt", "tensorrt"})
"""Targets whose files hold symmetric int8 scales only."""

To = Enum("To", {name: name for name in TEXTS}, type=str)  # type: ignore[misc]


def export(
    table: Annotated[
        Path,
        typer.Argument(
            metavar="TABLE",
            help="Ranges that `quantcal compute` or `quantcal quantize --save-table` wrote "
            "(.json).",
        ),
    ],
    *,
    to: Annotated[
        To,
        typer.Option(
            "--to",
            metavar="TARGET",
            help="The tool: "
            + "; ".join(f"{name}: {text}" for name, text in TEXTS.items())
            + ".",
        ),
    ],
    output: Annotated[
        Path,
        typer.Option(
            "--output",
            "-o",
            metavar="PATH",
            help="Where to write; a folder, which is made, for onnxruntime-tensorrt.",
        ),
    ],
    method: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            show_default="MinMax",
            help="onnxruntime: the calibrate_method that quantize_static is called with, "
            f"which must agree ({', '.join(METHODS)}).",
        ),
    ] = None,
    version: Annotated[
        int | None,
        typer.Option(
            "--trt-version",
            metavar="N",
            min=1,
            show_default=f"{VERSION}: TensorRT 10.14.1",
            help="tensorrt: the version that will read the cache; it ignores one of "
            "another version. 8501 is 8.5.1, 101401 is 10.14.1.",
        ),
    ] = None,
    algorithm: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            show_default=ALGORITHM,
            help="tensorrt: the calibrator that the builder is given, such as "
            "MinMaxCalibration.",
        ),
    ] = None,
    model: Annotated[
        Path | None,
        typer.Option(
            metavar="MODEL",
            show_default="none",
            help="ncnn: the ONNX model that was observed, for its layers and weights.",
        ),
    ] = None,
    json_: JsonOption = False,
) -> None:
    """Write ranges for another tool.

    A quantized ONNX model needs none of these files: `quantcal quantize` writes
    it. TensorRT 11 reads only such models; TensorRT 10 is the last with a
    calibration cache.

    Examples:
      $ quantcal compute stats.qcal -o table.json --activation-type int8
      $ quantcal export table.json --to tensorrt -o calibration.cache \\
          --trt-version 8501
      $ quantcal export table.json --to ncnn -o model.table --model model.onnx
      $ quantcal export table.json --to csv -o ranges.csv
    """
    from quantcal.exporters.onnxruntime import TENSORRT_FILES
    from quantcal.exporters.targets import export as export_table

    loaded = load_table(table)
    folder = to.value == "onnxruntime-tensorrt"
    if folder:
        output.mkdir(parents=True, exist_ok=True)
    targets = [output / name for name in TENSORRT_FILES] if folder else [output]
    check_outputs(targets, (table, model))
    done = export_table(
        loaded,
        to.value,
        output,
        method=method,
        version=version,
        algorithm=algorithm,
        model=model,
    )
    _warn_of_other_formats(loaded, to.value)
    size = sum((output / name).stat().st_size for name in TENSORRT_FILES if folder)
    facts = {
        "written": f"{output} ({text.size(size or output.stat().st_size)})",
        "for": TEXTS[to.value],
        done.unit: str(done.entries),
    }
    if done.skipped:
        facts["left out"] = _left_out(done.skipped)
    if json_:
        content = {"kind": "exported", "file": str(output), "to": to.value}
        figures = {done.unit: done.entries, "skipped": dict(done.skipped)}
        records.print_json({**content, **figures})
    else:
        print_facts(stdout(), facts)
    warn_of_nothing([n for n, r in loaded.report.items() if r.min is None])


def _left_out(reasons: Mapping[str, str]) -> str:
    """Return each reason with the first names that it applies to."""
    names: dict[str, list[str]] = {}
    for name, reason in reasons.items():
        names.setdefault(reason, []).append(name)
    return "; ".join(f"{text.listed(n)}: {reason}" for reason, n in names.items())


def _warn_of_other_formats(table: CalibrationTable, target: str) -> None:
    """Warn of ranges that were not chosen for the int8 codes of a target."""
    other = [n for n, p in table.items() if (p.format, p.symmetric) != ("int8", True)]
    if target in _INT8 and other:
        were = "range was" if len(other) == 1 else "ranges were"
        say_warning(
            f"{len(other)} {were} not chosen for symmetric int8, which is all that {target} "
            "has, so the larger end counts. `quantcal compute --activation-type int8` chooses "
            "for it"
        )
