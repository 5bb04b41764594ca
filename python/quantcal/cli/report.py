"""`quantcal report`: one HTML file from files that other commands wrote."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from quantcal.cli.errors import CommandError, check_outputs
from quantcal.cli.options import JsonOption
from quantcal.cli.output import text
from quantcal.cli.output.console import stdout
from quantcal.cli.output.facts import print_facts
from quantcal.cli.output.report_file import check_report, save_report

_WHAT = {
    "calibrator": "histograms",
    "table": "a table of ranges",
    "model": "a float model",
    "quantized": "a quantized model",
    "evaluation": "an evaluation",
    "advice": "advice",
    "tune": "a tuning",
    "demo": "a result of the demo",
}
"""What a file may hold, by the name that `quantcal.write_report` has for it."""


def report(
    files: Annotated[
        list[Path],
        typer.Argument(
            metavar="FILE...",
            help="Histograms (.qcal), a table of ranges (.json), the float model and its "
            "quantized copy (.onnx). Also what evaluate, advise and tune print with --json, "
            "and the demo.json of the demo. In any order, at most one of each.",
        ),
    ],
    *,
    output: Annotated[
        Path,
        typer.Option(
            "--output",
            "-o",
            metavar="PATH",
            help="Where to write the report (.html); replaced when it is complete.",
        ),
    ] = Path("report.html"),
    title: Annotated[
        str | None,
        typer.Option(
            "--title",
            metavar="TEXT",
            show_default="the name of the model",
            help="The heading of the page.",
        ),
    ] = None,
    json_: JsonOption = False,
) -> None:
    """Write a report: one HTML file with a summary, a table of tensors and pictures.

    It opens in any browser without a network. Give the files that you have: the
    report shows what follows from them. Commands that run models write the same
    with --report FILE.

    Examples:
      $ quantcal report stats.qcal model.onnx
      $ quantcal evaluate model.onnx model.int8.onnx --samples validation/ \\
          --layers --json > evaluation.json
      $ quantcal report stats.qcal table.json model.onnx model.int8.onnx \\
          evaluation.json -o report.html
    """
    check_outputs([output], files)
    check_report(output)
    sources: dict[str, Any] = {}
    holders: dict[str, Path] = {}
    for file in files:
        kind, content = _read(file)
        if kind in sources:
            raise CommandError(
                f"{holders[kind]} and {file} both hold {_WHAT[kind]}. Give one of them."
            )
        sources[kind], holders[kind] = content, file
    check_outputs([output], files)  # files may have changed while they were read
    save_report(output, title=title, **sources)
    size = output.stat().st_size
    if json_:
        origin = {kind: str(holder) for kind, holder in holders.items()}
        content = {"written": str(output), "bytes": size, "from": origin}
        print(json.dumps(content, indent=1, ensure_ascii=False))
        return
    facts = {
        "written": f"{output} ({text.size(size)})",
        "from": ", ".join(f"{_WHAT[kind]} ({holders[kind]})" for kind in sources),
    }
    print_facts(stdout(), facts)


def _read(file: Path) -> tuple[str, Any]:
    """Return what a file holds, by its first bytes, and its content."""
    from quantcal._load import load

    with file.open("rb") as opened:
        head = opened.read(64).lstrip()
    if head.startswith(b"{"):
        return _read_json(file)
    if head.startswith(b"QCAL") or file.suffix.lower() == ".qcal":
        return "calibrator", load(file)
    return ("quantized" if _is_quantized(file) else "model"), file


def _read_json(file: Path) -> tuple[str, Any]:
    from quantcal._table_file import KIND
    from quantcal.report.page.readers import kind_of
    from quantcal.report.page.sources import read_json
    from quantcal.table import CalibrationTable

    content = read_json(file)
    kind = kind_of(content)
    if kind is not None:
        return kind, content
    if isinstance(content, dict) and content.get("kind") == KIND:
        return "table", CalibrationTable.load(file)
    raise CommandError(
        f"{file} is none of the files that a report shows: histograms (.qcal), a table of "
        "ranges, models (.onnx), or what evaluate, advise and tune print with --json."
    )


def _is_quantized(file: Path) -> bool:
    """Return whether a model has DequantizeLinear nodes."""
    from quantcal.onnx.graphs import all_nodes, load_model

    graph = load_model(file, weights=False).proto.graph
    return any(node.op_type == "DequantizeLinear" for node in all_nodes(graph))
