"""`quantcal evaluate`: a quantized model beside its float original."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from quantcal.cli.errors import LIMIT_BROKEN
from quantcal.cli.options import JsonOption, ModelArgument
from quantcal.cli.output import text
from quantcal.cli.output.console import say_failure, say_warning, show, stdout
from quantcal.cli.output.facts import print_facts
from quantcal.cli.output.layers import Sort, layer_table
from quantcal.onnx.evaluation import Evaluation
from quantcal.onnx.evaluation import evaluate as evaluate_models


def evaluate(
    float_model: ModelArgument,
    quantized: Annotated[
        Path, typer.Argument(metavar="QUANTIZED", help="Its quantized copy.")
    ],
    *,
    samples: Annotated[
        str,
        typer.Option(
            "--samples",
            metavar="PATH",
            help="Samples to run, as for `quantcal quantize`. Give others than those of the "
            "calibration.",
        ),
    ],
    metric: Annotated[
        str | None,
        typer.Option(
            "--metric",
            metavar="MODULE:CALLABLE",
            show_default="none",
            help="Your metric, called with a sample's number, its {input: array} and "
            "{output: array}; it returns a number, or {name: number}. Means are shown.",
        ),
    ] = None,
    layers: Annotated[
        bool,
        typer.Option(
            "--layers",
            help="Show the error at every quantized node, accumulated and of the node "
            "alone. Takes about three times as long.",
        ),
    ] = False,
    sort: Annotated[
        Sort,
        typer.Option("--sort", help="The order of layers: of the graph, or by size."),
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
        float | None,
        typer.Option(
            "--max-drop",
            min=0,
            max=100,
            metavar="PERCENT",
            show_default="none",
            help="Exit with 3 if a metric's mean falls by more than this share of the float "
            "model's. Without a metric, if more of the top-1 answers differ.",
        ),
    ] = None,
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
          --metric mytask:is_right --max-drop 1
    """
    found = evaluate_models(
        float_model, quantized, samples, metric=metric, layers=layers, progress=True
    )
    failed = found.check(min_sqnr=min_sqnr, max_drop=max_drop)
    for message in found.warnings:
        say_warning(message)
    if json_:
        content = {**found.to_dict(), "failures": list(failed)}
        print(json.dumps(content, indent=1, ensure_ascii=False))
    else:
        _print(found, sort)
    for line in failed:
        say_failure(line)
    if failed:
        raise typer.Exit(LIMIT_BROKEN)


def _print(found: Evaluation, sort: Sort) -> None:
    out = stdout()
    facts = {"samples": str(found.samples), "outputs": str(len(found.outputs))}
    if found.layers:
        facts["layers"] = str(len(found.layers))
    print_facts(out, facts)
    out.print()
    show(out, _outputs(found))
    if found.metrics:
        out.print()
        _print_metrics(out, found)
    if found.layers:
        out.print()
        show(out, layer_table(sort.order(found.layers), out))
    if found.verdicts:
        out.print()
    for verdict in found.verdicts:
        out.print(Text(verdict), soft_wrap=not out.file.isatty())


def _outputs(found: Evaluation) -> Table:
    headings = ("SQNR", "loss", "cosine", "max error", "KL", "top-1")
    table = _table("output", "arithmetic", *headings)
    for name, by in found.outputs.items():
        for arithmetic, a in by.items():
            table.add_row(
                Text(name),
                arithmetic,
                text.NONE if a.sqnr_db is None else text.decibels(a.sqnr_db),
                text.real(a.loss),
                text.NONE if a.cosine is None else f"{a.cosine:.6f}",
                text.real(a.max_error),
                text.real(a.kl),
                text.NONE if a.top1 is None else text.share(a.top1),
            )
    return table


def _print_metrics(out: Console, found: Evaluation) -> None:
    models = list(next(iter(found.metrics.values())))
    table = _table("metric (mean ± 95 %)", *models)
    for name, by in found.metrics.items():
        cells = [f"{m.mean:.4g} ± {m.margin:.2g}" for m in by.values()]
        table.add_row(Text(name), *cells)
    show(out, table)


def _table(first: str, *others: str) -> Table:
    options: dict[str, Any] = {"box": box.SIMPLE_HEAD, "show_edge": False}
    table = Table(**options, pad_edge=False, header_style="bold")
    table.add_column(first, overflow="fold")
    for heading in others:
        left = heading == "arithmetic"
        table.add_column(heading, justify="left" if left else "right", no_wrap=True)
    return table
