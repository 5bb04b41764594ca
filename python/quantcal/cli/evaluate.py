"""`quantcal evaluate`: a quantized model beside its float original."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from quantcal.cli.data_flags import DataFlags, metric_for, reads_data
from quantcal.cli.options import JsonOption, MetricOption, ModelArgument, ReportOption
from quantcal.cli.output import text
from quantcal.cli.output.console import say_failure, say_warning, show, stdout
from quantcal.cli.output.facts import print_facts
from quantcal.cli.output.layers import Sort, layer_table
from quantcal.cli.output.report_file import check_report, print_report, save_report
from quantcal.cli.output.tables import Column, tensor_table
from quantcal.cli.parsing.common import is_quiet
from quantcal.cli.parsing.exit_codes import LIMIT_BROKEN
from quantcal.cli.parsing.quantities import read_share

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from quantcal.onnx.evaluation import Evaluation


@reads_data()
def evaluate(
    float_model: ModelArgument,
    quantized: Annotated[
        Path,
        typer.Argument(metavar="QUANTIZED", help="Its quantized copy, of any tool."),
    ],
    *,
    samples: Annotated[
        str,
        typer.Option(
            "--samples",
            "-i",
            metavar="PATH",
            help="Samples to run, as for `quantcal quantize`. Give others than those of the "
            "calibration.",
        ),
    ],
    data: DataFlags,
    metric: MetricOption = None,
    layers: Annotated[
        bool,
        typer.Option(
            "--layers",
            help="Show the error at every quantized node, accumulated and of the node "
            "alone. Takes several times as long.",
        ),
    ] = False,
    sort: Annotated[
        Sort,
        typer.Option(
            "--sort",
            metavar="graph|loss|own",
            help="The order of layers: of the graph, or by size.",
        ),
    ] = Sort.GRAPH,
    min_sqnr: Annotated[
        float | None,
        typer.Option(
            "--min-sqnr",
            metavar="DB",
            show_default="none",
            help="Exit with 3 if an output has a lower SQNR, in any arithmetic.",
        ),
    ] = None,
    max_drop: Annotated[
        str | None,
        typer.Option(
            "--max-drop",
            metavar="SHARE",
            show_default="none",
            help="Exit with 3 if a metric's mean falls by more than this share of the float "
            "model's, such as 1%. Without a metric, if more of the top-1 answers differ.",
        ),
    ] = None,
    report: ReportOption = None,
    json_: JsonOption = False,
) -> None:
    """Compare a quantized model's outputs with the float model's.

    Runs in exact arithmetic, which shows the error of the ranges, and natively,
    which adds that of this machine's kernels. Warns when the two differ. With
    --layers it names the layers that lose most.

    Examples:
      $ quantcal evaluate model.onnx model.int8.onnx --samples validation/
      $ quantcal evaluate model.onnx model.int8.onnx --samples validation/ --layers
      $ quantcal evaluate model.onnx model.int8.onnx --samples validation/ \\
          --metric python:mytask:is_right --max-drop 1%
    """
    from quantcal.onnx import FileCheck
    from quantcal.onnx.evaluation import evaluate as evaluate_models

    source = data.source(samples)
    check_report(report, FileCheck(float_model, [source, quantized]))
    read_share(max_drop, "--max-drop")  # refuses what is none before the samples run
    found = evaluate_models(
        float_model,
        quantized,
        source,
        metric=metric_for(metric, source),
        layers=layers,
        progress=not is_quiet(),
    )
    failed = found.check(min_sqnr=min_sqnr, max_drop=max_drop)
    save_report(report, model=float_model, quantized=quantized, evaluation=found)
    for message in found.warnings:
        say_warning(message)
    if json_:
        content = {**found.to_dict(), "failures": list(failed)}
        print(json.dumps(content, indent=1, ensure_ascii=False))
    else:
        _print(found, sort)
        print_report(report)
    for line in failed:
        say_failure(line)
    if failed:
        raise typer.Exit(LIMIT_BROKEN)


def _print(found: Evaluation, sort: Sort) -> None:
    from rich.text import Text

    out = stdout()
    facts = {"samples": str(found.samples), "outputs": str(len(found.outputs))}
    if found.layers:
        facts["layers"] = str(len(found.layers))
    print_facts(out, facts)
    out.print()
    show(out, _outputs(found, out))
    if found.metrics:
        out.print()
        show(out, _metrics(found, out))
    if found.layers:
        out.print()
        show(out, layer_table(sort.order(found.layers), out))
    if found.verdicts:
        out.print()
    for verdict in found.verdicts:
        out.print(Text(verdict), soft_wrap=not out.file.isatty())


def _outputs(found: Evaluation, out: Console) -> Table:
    rows = [
        (name, arithmetic, error)
        for name, by in found.outputs.items()
        for arithmetic, error in by.items()
    ]
    errors = [error for _, _, error in rows]

    def cells(figure: str, write: Callable[[float], str]) -> list[str]:
        values = [getattr(error, figure) for error in errors]
        return [text.NONE if value is None else write(value) for value in values]

    columns = [
        Column("arithmetic", [arithmetic for _, arithmetic, _ in rows], left=True),
        Column("SQNR", cells("sqnr_db", text.decibels)),
        Column("loss", cells("loss", text.real), rank=1),
        Column("cosine", cells("cosine", "{:.6f}".format), rank=4),
        Column("max error", cells("max_error", text.real), rank=2),
        Column("KL", cells("kl", text.real), rank=3),
        Column("top-1", cells("top1", text.share)),
    ]
    return tensor_table([name for name, _, _ in rows], columns, out, heading="output")


def _metrics(found: Evaluation, out: Console) -> Table:
    models = list(next(iter(found.metrics.values())))
    columns = [
        Column(
            model,
            [
                f"{by[model].mean:.4g} ± {by[model].margin:.2g}"
                if model in by
                else text.NONE
                for by in found.metrics.values()
            ],
        )
        for model in models
    ]
    return tensor_table(
        list(found.metrics), columns, out, heading="metric (mean ± 95 %)"
    )
