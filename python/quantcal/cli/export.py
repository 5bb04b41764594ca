"""`quantcal export`: ranges in the files of other tools."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from quantcal import tensorrt
from quantcal.cli import text
from quantcal.cli.console import stdout
from quantcal.cli.errors import check_outputs
from quantcal.cli.facts import print_facts
from quantcal.cli.results import load_table
from quantcal.exporters.onnxruntime import METHODS, TENSORRT_FILES
from quantcal.exporters.targets import TARGETS
from quantcal.exporters.targets import export as export_table

To = Enum("To", {name: name for name in TARGETS}, type=str)  # type: ignore[misc]


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
            help="The tool: "
            + "; ".join(f"{name}: {target.text}" for name, target in TARGETS.items())
            + ".",
        ),
    ],
    output: Annotated[
        Path,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE",
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
            show_default=f"{tensorrt.VERSION}: TensorRT 10.14.1",
            help="tensorrt: the version that will read the cache; it ignores one of "
            "another version. 8501 is 8.5.1, 101401 is 10.14.1.",
        ),
    ] = None,
    algorithm: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            show_default=tensorrt.ALGORITHM,
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
) -> None:
    """Write ranges for another tool.

    A quantised ONNX model needs none of these files: `quantcal quantize` writes it.
    TensorRT 11 reads such models only; its calibration cache ends with 10.

    Examples:
      $ quantcal export table.json --to tensorrt -o calibration.cache --trt-version 8501
      $ quantcal export table.json --to ncnn -o model.table --model model.onnx
      $ quantcal export table.json --to csv -o ranges.csv
    """
    loaded = load_table(table)
    folder = to.value == "onnxruntime-tensorrt"
    if folder:
        output.mkdir(parents=True, exist_ok=True)
    targets = [output / name for name in TENSORRT_FILES] if folder else [output]
    check_outputs(targets, (table, model))
    export_table(
        loaded,
        to.value,
        output,
        method=method,
        version=version,
        algorithm=algorithm,
        model=model,
    )
    size = sum((output / name).stat().st_size for name in TENSORRT_FILES if folder)
    print_facts(
        stdout(),
        {
            "written": f"{output} ({text.size(size or output.stat().st_size)})",
            "for": TARGETS[to.value].text,
            "tensors": str(len(loaded)),
        },
    )
